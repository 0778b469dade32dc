#include "api/operations.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Task<json::value> explain_subject(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto why, co_await gateway.why(std::move(caller), arguments.text("subject")));
  json::array steps;
  for (const auto& step : why.steps) {
    json::object entry;
    entry["check"] = step.check;
    entry["found"] = std::string(name(step.found));
    entry["detail"] = step.detail;
    entry["remedy"] = step.remedy;
    steps.push_back(std::move(entry));
  }
  json::object out;
  out["subject"] = why.subject;
  const WhyStep* wrong = why.first_wrong();
  out["wrong"] = wrong != nullptr ? json::value(wrong->check) : json::value(nullptr);
  out["detail"] = wrong != nullptr ? wrong->detail : "nothing is wrong";
  out["remedy"] = wrong != nullptr ? wrong->remedy : std::string();
  out["steps"] = std::move(steps);
  co_return json::value(std::move(out));
}

}  // namespace

void add_why_operations(std::vector<Operation>& table) {
  table.push_back(
      {"why.explain",
       Permission::read,
       "Say what keeps a user or a device from the network, and what to do",
       "tornadoctl why alice",
       {{"subject", ParameterKind::text, true, true, "user name, e-mail address, user, device or session id"}},
       {},
       false,
       explain_subject});
}

}  // namespace tornado::inline v1
