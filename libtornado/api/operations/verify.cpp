#include <sstream>

#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

json::value shown_address(const std::optional<Address>& address) {
  return address ? json::value(address->str()) : json::value(nullptr);
}

/// An address of a pool that a device could have, and not this one.
Address another_device(const Prefix& pool, const Address& own) {
  std::uint64_t at = pool.offset_of(own);
  return pool.at(at + 2 < pool.size() ? at + 1 : at > 2 ? at - 1 : at + 1);
}

json::object other_lane(const Gateway& gateway, const std::string& name) {
  Pool pool = gateway.config().pool(name);
  json::object out;
  out["lane"] = name;
  out["gateway"] = pool.gateway().str();
  out["device"] = pool.v4.at(2).str();
  out["gateway6"] = shown_address(pool.gateway6());
  out["device6"] = pool.v6 ? json::value(pool.v6->at(2).str()) : json::value(nullptr);
  return out;
}

Task<json::value> verify_begin(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto lane, arguments.lane("lane"));
  TRY(auto ticket, co_await gateway.verify_begin(std::move(caller), lane, arguments.text("public-key")));
  const LanePolicy& policy = ticket.policy;
  json::object out;
  out["token"] = ticket.token;
  out["lane"] = lane.str();
  out["mode"] = std::string(name(policy.mode));
  out["interface"] = policy.interface;
  out["address"] = ticket.address.v4.str();
  out["address6"] = shown_address(ticket.address.v6);
  out["gateway"] = policy.gateway.str();
  out["gateway6"] = shown_address(policy.gateway6);
  out["neighbour"] = another_device(policy.pool, ticket.address.v4).str();
  bool v6 = policy.pool6 && ticket.address.v6;
  out["neighbour6"] = v6 ? json::value(another_device(*policy.pool6, *ticket.address.v6).str()) : json::value(nullptr);
  out["server_key"] = ticket.server_key.str();
  out["port"] = ticket.port;
  out["trans_port"] = policy.trans_port;
  out["dns_port"] = policy.dns_port;
  out["page_port"] = policy.page_port;
  out["responder_port"] = policy.responder_port;
  json::array others;
  for (const char* other : {"vpn", "tor"})
    if (lane.str() != other) others.push_back(other_lane(gateway, other));
  out["others"] = std::move(others);
  out["until"] = shown_time(ticket.until);
  co_return json::value(std::move(out));
}

json::object shown_outcome(const LaneVerified& outcome) {
  json::object out;
  out["lane"] = outcome.lane.str();
  out["mode"] = std::string(name(outcome.mode));
  out["at"] = shown_time(outcome.at);
  out["held"] = outcome.held;
  json::array failed;
  for (const auto& probe : outcome.failed) failed.emplace_back(probe);
  out["failed"] = std::move(failed);
  out["mode_changed"] = outcome.mode_changed;
  return out;
}

Task<json::value> verify_end(Gateway& gateway, Caller caller, Arguments arguments) {
  std::vector<std::string> failed;
  std::istringstream words(arguments.maybe_text("failed").value_or(""));
  for (std::string word; std::getline(words, word, ',');)
    if (!word.empty()) failed.push_back(word);
  int held = static_cast<int>(arguments.maybe_integer("held").value_or(0));
  TRY(auto outcome, co_await gateway.verify_end(std::move(caller), arguments.text("token"), held, std::move(failed)));
  co_return json::value(shown_outcome(outcome));
}

Task<json::value> verified(Gateway& gateway, Caller, Arguments) {
  json::array out;
  for (const auto& outcome : gateway.verified()) out.push_back(shown_outcome(outcome));
  co_return json::value(std::move(out));
}

Parameter parameter(std::string_view name, ParameterKind kind, bool required, std::string_view summary) {
  Parameter out;
  out.name = name;
  out.kind = kind;
  out.required = required;
  out.summary = summary;
  return out;
}

}  // namespace

void add_verify_operations(std::vector<Operation>& table) {
  table.push_back({"lane.verify_begin",
                   Permission::write,
                   "Admit a throw-away device to a lane for a minute (lane verify does it for you)",
                   "tornadoctl lane verify-begin --lane tor --public-key KEY",
                   {parameter("lane", ParameterKind::text, true, "vpn or tor"),
                    parameter("public-key", ParameterKind::text, true, "of the device, in base64")},
                   {},
                   false,
                   verify_begin});
  table.push_back({"lane.verify_end",
                   Permission::write,
                   "Take the throw-away device away and keep what it found",
                   "tornadoctl lane verify-end --token TOKEN --held 40",
                   {parameter("token", ParameterKind::text, true, "as lane verify-begin gave it"),
                    parameter("held", ParameterKind::integer, true, "how many probes the lane held"),
                    parameter("failed", ParameterKind::text, false, "the others, with commas between them")},
                   {},
                   false,
                   verify_end});
  table.push_back({"lane.verified",
                   Permission::read,
                   "Show what the last verification of each lane found",
                   "tornadoctl lane verified",
                   {},
                   {"lane", "mode", "at", "held", "failed"},
                   false,
                   verified});
}

}  // namespace tornado::inline v1
