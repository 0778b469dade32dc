#include <iostream>

#include "commands/command.hpp"

using namespace tornado;

namespace tornadoctl {
namespace {

std::string command_of(const Operation& operation) {
  std::string out(operation.name);
  for (char& c : out) c = c == '.' ? ' ' : c == '_' ? '-' : c;
  const std::string noun = out.substr(0, out.find(' '));
  return verb_of_single(noun).empty() ? out : noun;
}

std::string synopsis(const Operation& operation) {
  std::string out = command_of(operation);
  for (const auto& p : operation.parameters) {
    std::string upper(p.name);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    std::string word = p.positional                      ? upper
                       : p.kind == ParameterKind::secret ? "--" + std::string(p.name) + "-stdin"
                       : p.kind == ParameterKind::flag
                           ? "--" + std::string(p.name)
                           : "--" + std::string(p.name) + " " + (p.kind == ParameterKind::integer ? "N" : "TEXT");
    bool optional = !p.required || p.kind == ParameterKind::secret;
    out += " " + (optional ? "[" + word + "]" : word);
  }
  return out + (operation.confirm ? " --yes" : "");
}

constexpr const char* others[][2] = {
    {"events tail [--after N] [--count N]", "Follow what happens, one line per event"},
    {"tor watch [--until-up]", "Follow Tor's way into its network"},
    {"lane verify [tor|vpn] [--foreign ADDRESS]", "Try to leave a lane by every door, and show what held"},
    {"config check FILE", "Check a configuration file without a daemon"},
};

}  // namespace

std::string verb_of_single(const std::string& noun) {
  return noun == "report" ? "create" : noun == "why" ? "explain" : "";
}

void print_help() {
  std::cout << "usage: tornadoctl [--socket PATH] [--json] NOUN VERB [WORDS]\n\n"
               "Runs a Tornado gateway over its control socket.\n\n";
  for (const auto& operation : operations()) {
    std::string text = synopsis(operation);
    std::cout << "  " << text << (text.size() < 44 ? std::string(44 - text.size(), ' ') : "\n" + std::string(46, ' '))
              << operation.summary << "\n";
  }
  for (const auto& [text, summary] : others)
    std::cout << "  " << text << std::string(44 - std::string_view(text).size(), ' ') << summary << "\n";
  std::cout << "\n  --socket PATH   control socket (/run/tornado/control.sock, or TORNADO_SOCKET)\n"
               "  --json          one JSON document on standard output, nothing else\n\n"
               "exit status: 0 done, 1 failed, 2 usage, 3 nothing found, 4 conflict, 5 daemon unreachable, 6 not "
               "permitted\n\n"
               "examples:\n"
               "  tornadoctl user add alice --email alice@example.org --password-stdin < password.txt\n"
               "  tornadoctl session list\n"
               "  tornadoctl --json peer list\n";
}

bool print_help_for(const std::string& noun, const std::string& verb) {
  bool found = false;
  for (const auto& operation : operations()) {
    const std::string single = verb_of_single(noun);
    std::string wanted = noun + "." + (single.empty() ? verb : single);
    bool matches = verb.empty() && single.empty() ? operation.name.starts_with(noun + ".") : operation.name == wanted;
    if (!matches) continue;
    found = true;
    std::cout << "usage: tornadoctl " << synopsis(operation) << "\n\n" << operation.summary << ".\n";
    for (const auto& p : operation.parameters)
      std::cout << "  " << p.name << std::string(p.name.size() < 14 ? 14 - p.name.size() : 1, ' ') << p.summary << "\n";
    std::cout << "\nexample: " << operation.example << "\n\n";
  }
  for (const auto& [text, summary] : others) {
    std::string_view words(text);
    if (!words.starts_with(noun + " ") || (!verb.empty() && !words.starts_with(noun + " " + verb))) continue;
    found = true;
    std::cout << "usage: tornadoctl " << words << "\n\n" << summary << ".\n\n";
  }
  return found;
}

}  // namespace tornadoctl
