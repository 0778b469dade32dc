#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"
#include "limits/quantity.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

json::object shown(const PolicyExpectation& expectation) {
  json::object out;
  out["user"] = expectation.user;
  out["target"] = expectation.target.str();
  out["expected"] = expectation.allowed ? "allow" : "deny";
  out["holds"] = expectation.holds();
  out["rule"] = expectation.verdict.rule;
  out["detail"] = expectation.verdict.detail;
  return out;
}

Task<json::value> test(Gateway& gateway, Caller, Arguments arguments) {
  TRY(auto outcomes, co_await gateway.test_policy(arguments.text("file")));
  json::array out;
  for (const auto& expectation : outcomes) out.push_back(shown(expectation));
  co_return json::value(std::move(out));
}

Task<json::value> apply(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto applied, co_await gateway.apply_policy(std::move(caller), arguments.text("file")));
  json::object out;
  out["version"] = applied.version;
  out["grants"] = applied.grants;
  out["addresses"] = applied.devices;
  co_return json::value(std::move(out));
}

Task<json::value> show(Gateway& gateway, Caller, Arguments) {
  TRY(auto policy, co_await gateway.policy_in_force());
  json::object out;
  out["version"] = policy.version;
  out["applied_by"] = policy.applied_by;
  out["applied_at"] = shown_time(policy.applied);
  out["in_force"] = policy.held_back.empty();
  out["held_back"] = policy.held_back.empty() ? json::value(nullptr) : json::value(policy.held_back);
  out["grants"] = policy.grants;
  out["addresses"] = policy.devices;
  out["document"] = policy.document;
  co_return json::value(std::move(out));
}

Task<json::value> explain_target(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto target, AccessTarget::parse(arguments.text("target")));
  TRY(auto lane, arguments.lane("lane"));
  TRY(auto verdict, co_await gateway.explain_access(std::move(caller), arguments.text("user"), target, lane));
  json::object out;
  out["target"] = target.str();
  out["allowed"] = verdict.allowed;
  out["rule"] = verdict.rule;
  out["detail"] = verdict.detail;
  co_return json::value(std::move(out));
}

json::value rate_or_none(std::uint64_t bytes_per_second) {
  return bytes_per_second == 0 ? json::value(nullptr) : json::value(rate_text(bytes_per_second));
}

Task<json::value> usage(Gateway& gateway, Caller, Arguments arguments) {
  TRY(auto user, co_await gateway.users().find(arguments.text("user")));
  TRY(auto usage, co_await gateway.usage(user.id));
  json::object out;
  out["user"] = usage.user.username;
  json::object months;
  for (const auto& [month, bytes] : usage.months) months[month] = bytes;
  out["bytes"] = std::move(months);
  if (usage.limit) {
    out["limit"] = usage.limit->name;
    out["up"] = rate_or_none(usage.limit->up);
    out["down"] = rate_or_none(usage.limit->down);
  }
  if (usage.limit && usage.limit->monthly != 0) add_quota(out, usage.standing);
  co_return json::value(std::move(out));
}

const Parameter document_parameter{"file", ParameterKind::document, true, true, "the policy; - is standard input"};
const Parameter user_parameter{"user", ParameterKind::text, true, true, "user name or e-mail address"};

}  // namespace

void add_policy_operations(std::vector<Operation>& table) {
  table.push_back({"policy.show",
                   Permission::read,
                   "Show the policy in force: who may reach what, how fast and how much",
                   "tornadoctl policy show",
                   {},
                   {},
                   false,
                   show});
  table.push_back({"policy.test",
                   Permission::read,
                   "Run the expectations in a policy without applying it",
                   "tornadoctl policy test policy.json",
                   {document_parameter},
                   {"user", "target", "expected", "holds", "rule", "detail"},
                   false,
                   test,
                   "holds"});
  table.push_back({"policy.apply",
                   Permission::write,
                   "Test a policy, store it and bring it into force at once",
                   "tornadoctl policy apply policy.json",
                   {document_parameter},
                   {},
                   false,
                   apply});
  table.push_back({"policy.explain",
                   Permission::read,
                   "Say whether a user reaches a place, and which rule decides",
                   "tornadoctl policy explain alice 1.1.1.1:443/tcp",
                   {user_parameter,
                    {"target", ParameterKind::text, true, true, "ADDRESS:PORT, [IPV6]:PORT/udp or ADDRESS/icmp"},
                    {"lane", ParameterKind::text, false, false, "vpn (if left out) or tor"}},
                   {},
                   false,
                   explain_target});
  table.push_back({"policy.usage",
                   Permission::read,
                   "Show what a user has moved month by month, and under which limit",
                   "tornadoctl policy usage alice",
                   {user_parameter},
                   {},
                   false,
                   usage});
}

}  // namespace tornado::inline v1
