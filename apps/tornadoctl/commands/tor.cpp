#include <unistd.h>

#include <iostream>

#include "base/json.hpp"
#include "commands/command.hpp"

using namespace tornado;

namespace tornadoctl {
namespace {

constexpr int bar_width = 30;

std::string text_of(const boost::json::object& status, std::string_view key) {
  return text_at(status, key).value_or("");
}

/// One line: "[##########          ]  40 %  bootstrapping  Loading relay descriptors".
std::string line_of(const boost::json::object& status, bool bar) {
  auto percent = integer_at(status, "bootstrap_pct").value_or(0);
  std::string out;
  if (bar) {
    auto full = static_cast<std::size_t>(percent * bar_width / 100);
    out = "[" + std::string(full, '#') + std::string(bar_width - full, ' ') + "] ";
  }
  std::string number = std::to_string(percent);
  out += std::string(3 - std::min<std::size_t>(number.size(), 3), ' ') + number + " %  " + text_of(status, "phase");
  std::string why = text_of(status, "reason");
  if (why.empty() && text_of(status, "phase") == "bootstrapping") why = text_of(status, "bootstrap_summary");
  if (!why.empty()) out += "  " + why;
  std::string remedy = text_of(status, "remedy");
  return remedy.empty() ? out : out + "  -> " + remedy;
}

}  // namespace

int watch_tor(const Globals& globals, const std::vector<std::string>& words) {
  bool once_up = words.size() == 1 && words[0] == "--until-up";
  if (!words.empty() && !once_up) return usage("tor watch [--until-up]");
  bool terminal = ::isatty(STDOUT_FILENO) == 1 && !globals.json;
  ControlClient client(globals.socket);
  for (std::int64_t since = 0;;) {
    auto result = client.call("tor.status", "{\"since\":" + std::to_string(since) + "}");
    if (!result) return fail(result.error());
    auto value = parse_json(*result);
    if (!value || !value->is_object()) return fail(Error(errc::protocol_error, "an answer of an unknown form"));
    const auto& status = value->get_object();
    auto revision = integer_at(status, "revision").value_or(0);
    bool up = text_of(status, "phase") == "up";
    if (revision > since && globals.json) std::cout << *result << std::endl;
    if (revision > since && !globals.json)
      std::cout << (terminal ? "\r\033[K" : "") << line_of(status, terminal) << (terminal && !up ? "" : "\n")
                << std::flush;
    if (up && once_up) return 0;
    since = std::max(since, revision);
  }
}

}  // namespace tornadoctl
