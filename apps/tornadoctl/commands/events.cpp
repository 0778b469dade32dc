#include <charconv>
#include <iostream>

#include "base/json.hpp"
#include "commands/command.hpp"

using namespace tornado;

namespace tornadoctl {

int tail_events(const Globals& globals, const std::vector<std::string>& words) {
  std::optional<std::uint64_t> after;
  int left = -1;
  for (std::size_t i = 0; i < words.size(); ++i) {
    bool known = words[i] == "--after" || words[i] == "--count";
    if (!known || i + 1 >= words.size()) return usage("events tail [--after SEQUENCE] [--count N]");
    std::uint64_t number = 0;
    const std::string& text = words[i + 1];
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (ec != std::errc() || end != text.data() + text.size()) return usage(words[i] + " needs a whole number");
    if (words[i] == "--after")
      after = number;
    else
      left = static_cast<int>(number);
    ++i;
  }
  ControlClient client(globals.socket);
  if (!after) {
    auto status = client.call("gateway.status");
    if (!status) return fail(status.error());
    auto value = parse_json(*status);
    after = value && value->is_object()
                ? static_cast<std::uint64_t>(integer_at(value->get_object(), "last_event").value_or(0))
                : 0;
  }
  if (auto started = client.subscribe(*after); !started) return fail(started.error());
  while (left != 0) {
    auto event = client.next_event(3600);
    if (!event && event.error().code() == errc::deadline_exceeded) continue;
    if (!event) return fail(event.error());
    if (globals.json) {
      auto fields = parse_json(event->json);
      boost::json::object out;
      out["sequence"] = event->sequence;
      out["time"] = iso8601(event->time);
      out["name"] = event->name;
      out["fields"] = fields ? *fields : boost::json::value();
      std::cout << to_json(out) << std::endl;
    } else {
      std::cout << event->sequence << "  " << iso8601(event->time) << "  " << event->name << "  " << event->json
                << std::endl;
    }
    if (left > 0) --left;
  }
  return 0;
}

}  // namespace tornadoctl
