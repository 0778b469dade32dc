#include <boost/json/serialize.hpp>
#include <iostream>

#include "base/json.hpp"
#include "commands/command.hpp"
#include "output/table.hpp"

using namespace tornado;
namespace json = boost::json;

namespace tornadoctl {

int explain_why(const Globals& globals, const std::vector<std::string>& words) {
  if (words.size() != 1 || words[0].starts_with("--")) return usage("why USER|DEVICE");
  ControlClient client(globals.socket);
  json::object params;
  params["subject"] = words[0];
  auto answer = client.call("why.explain", json::serialize(params));
  if (!answer) return fail(answer.error());
  auto why = parse_json(*answer);
  if (!why || !why->is_object()) return fail(Error(errc::protocol_error, "an answer of an unknown form"));
  const auto& object = why->get_object();
  bool wrong = text_at(object, "wrong").has_value();
  if (globals.json) {
    std::cout << *answer << "\n";
    return wrong ? 1 : 0;
  }
  std::cout << text_at(object, "subject").value_or("") << "\n\n";
  if (const auto* steps = object.if_contains("steps"))
    print_for_people(std::cout, *steps, {"check", "found", "detail"});
  std::cout << "\n" << (wrong ? "wrong: " : "") << text_at(object, "detail").value_or("") << "\n";
  if (auto remedy = text_at(object, "remedy"); remedy && !remedy->empty()) std::cout << "to do: " << *remedy << "\n";
  return wrong ? 1 : 0;
}

}  // namespace tornadoctl
