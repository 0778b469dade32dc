// tornadoctl: noun and verb to an operation of the table.
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "commands/command.hpp"

using namespace tornadoctl;

namespace {

int dispatch(const Globals& globals, std::vector<std::string> words) {
  std::string noun = words[0];
  words.erase(words.begin());
  const std::string single = verb_of_single(noun);
  std::string verb = single;
  if (single.empty() && !words.empty() && !words[0].starts_with("--")) {
    verb = words[0];
    std::replace(verb.begin(), verb.end(), '-', '_');
    words.erase(words.begin());
  }
  for (const auto& word : words)
    if (word == "--help")
      return print_help_for(noun, single.empty() ? verb : "") ? 0 : usage("no command '" + noun + " " + verb + "'");
  if (noun == "events" && verb == "tail") return tail_events(globals, words);
  if (noun == "tor" && verb == "watch") return watch_tor(globals, words);
  if (noun == "lane" && verb == "verify") return verify_lane(globals, words);
  if (noun == "why") return explain_why(globals, words);
  if (noun == "config" && verb == "check") return check_config(globals, words);
  if (const auto* operation = tornado::find_operation(noun + "." + verb))
    return run_operation(globals, *operation, words);
  if (verb.empty() && print_help_for(noun, "")) return 2;
  return usage("no command '" + noun + (verb.empty() ? "" : " " + verb) + "'");
}

}  // namespace

int main(int argc, char** argv) {
  Globals globals;
  const char* socket = std::getenv("TORNADO_SOCKET");
  globals.socket = socket != nullptr ? socket : "/run/tornado/control.sock";
  std::vector<std::string> words(argv + 1, argv + argc);
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--json") {
      globals.json = true;
    } else if (words[i] == "--socket" && i + 1 < words.size()) {
      globals.socket = words[++i];
    } else if (words[i].starts_with("--socket=")) {
      globals.socket = words[i].substr(9);
    } else if (words[i] == "--version" && rest.empty()) {
      std::cout << "tornadoctl " << TORNADO_VERSION << "\n";
      return 0;
    } else {
      rest.push_back(words[i]);
    }
  }
  if (rest.empty() || rest[0] == "help" || rest[0] == "--help") {
    print_help();
    return rest.empty() ? 2 : 0;
  }
  return dispatch(globals, std::move(rest));
}
