#include <sys/utsname.h>

#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

json::object pool_of(Gateway& gateway, const std::string& lane) {
  auto usage = gateway.ipam().usage(Lane(lane));
  json::object out;
  out["size"] = usage.size;
  out["leased"] = usage.leased;
  out["resting"] = usage.resting;
  out["dirty"] = usage.dirty;
  out["available"] = usage.available();
  return out;
}

json::object status_of(Gateway& gateway) {
  json::object out;
  out["version"] = TORNADO_VERSION;
  out["ready"] = gateway.ready();
  json::array steps;
  for (const auto& step : gateway.steps()) steps.emplace_back(step);
  out["steps"] = std::move(steps);
  json::array degraded;
  for (const auto& component : gateway.health())
    if (!component.ready) degraded.emplace_back(component.name);
  out["degraded"] = std::move(degraded);
  out["sessions"] = gateway.sessions().size();
  out["online"] = gateway.sessions().online();
  out["peers"] = gateway.peers().wanted_count();
  out["adopted"] = gateway.adopted().size();
  out["wireguard_backend"] = std::string(name(gateway.wireguard_choice().backend));
  out["wireguard_reason"] = gateway.wireguard_choice().reason;
  json::object pools;
  for (const char* lane : {"vpn", "tor"}) pools[lane] = pool_of(gateway, lane);
  out["pools"] = std::move(pools);
  out["last_event"] = gateway.last_event();
  return out;
}

Task<json::value> status(Gateway& gateway, Caller, Arguments) {
  co_return json::value(status_of(gateway));
}

Task<json::value> health(Gateway& gateway, Caller, Arguments) {
  co_return json::value(shown_list(gateway.health()));
}

json::array shown_keys(const std::vector<PublicKey>& keys) {
  json::array out;
  for (const auto& key : keys) out.emplace_back(key.str());
  return out;
}

Task<json::value> diff(Gateway& gateway, Caller, Arguments) {
  TRY(auto difference, co_await gateway.difference());
  json::object out;
  out["same"] = difference.empty();
  json::array host;
  for (const auto& line : difference.host) host.emplace_back(line);
  out["host"] = std::move(host);
  json::array missing;
  for (const auto& peer : difference.peers.missing) missing.emplace_back(peer.key.str());
  out["missing"] = std::move(missing);
  out["surplus"] = shown_keys(difference.peers.surplus);
  out["foreign"] = shown_keys(difference.peers.foreign);
  json::array adopted;
  for (const auto& peer : difference.peers.adopted_missing) adopted.emplace_back(peer.key.str());
  out["adopted_missing"] = std::move(adopted);
  out["parked"] = shown_keys(difference.peers.parked);
  co_return json::value(std::move(out));
}

Task<json::value> reconcile(Gateway& gateway, Caller caller, Arguments arguments) {
  if (arguments.flag("dry-run")) co_return co_await diff(gateway, std::move(caller), std::move(arguments));
  TRY(auto difference, co_await gateway.reconcile());
  json::object out;
  out["missing"] = difference.missing.size();
  out["surplus"] = difference.surplus.size();
  out["foreign"] = difference.foreign.size();
  out["refused"] = difference.refused.size();
  co_return json::value(std::move(out));
}

json::object shown_adopted(const AdoptedPeer& adopted) {
  json::object out;
  std::string allowed;
  for (const auto& prefix : adopted.peer.allowed) allowed += (allowed.empty() ? "" : " ") + prefix.str();
  out["public_key"] = adopted.peer.key.str();
  out["lane"] = adopted.peer.lane.str();
  out["allowed_ips"] = allowed;
  out["preshared_key"] = adopted.peer.preshared.has_value();
  out["adopted_at"] = shown_time(adopted.since);
  out["adopted_by"] = adopted.by;
  return out;
}

json::array shown_adopted(const std::vector<AdoptedPeer>& all) {
  json::array out;
  for (const auto& adopted : all) out.push_back(shown_adopted(adopted));
  return out;
}

Task<json::value> adopted(Gateway& gateway, Caller, Arguments) {
  co_return json::value(shown_adopted(gateway.adopted()));
}

Task<json::value> adopt(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto key, PublicKey::parse(arguments.text("key")));
  TRY(auto made, co_await gateway.adopt(std::move(caller), key));
  co_return json::value(shown_adopted(made));
}

Task<json::value> release(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto key, PublicKey::parse(arguments.text("key")));
  TRY_VOID(co_await gateway.release(std::move(caller), key));
  json::object out;
  out["released"] = key.str();
  co_return json::value(std::move(out));
}

Task<json::value> confirm_removals(Gateway& gateway, Caller caller, Arguments) {
  TRY(auto held, co_await gateway.confirm_removals(std::move(caller)));
  json::object out;
  out["held"] = held;
  co_return json::value(std::move(out));
}

const Parameter key_parameter{"key", ParameterKind::text, true, true, "public key of the peer"};

/// Everything somebody who helps needs to know, without a secret and without a name.
Task<json::value> report(Gateway& gateway, Caller caller, Arguments arguments) {
  json::object out;
  utsname host{};
  ::uname(&host);
  out["system"] = std::string(host.sysname) + " " + host.release + " " + host.machine;
  out["status"] = status_of(gateway);
  out["health"] = shown_list(gateway.health());
  out["keys"] = shown_list(gateway.keys().list());
  // Who knows a bridge can block it.
  Config config = gateway.config();
  for (std::string& bridge : config.tor.bridges) bridge = "(a bridge)";
  TRY(auto tree, parse_json(config.show()));
  out["config"] = std::move(tree);
  if (gateway.tor()) {
    TorStatus tor = gateway.tor()->status();
    json::object told;
    told["phase"] = std::string(name(tor.phase));
    told["bootstrap_pct"] = tor.bootstrap;
    told["error"] = tor.error ? json::value(std::string(name(*tor.error))) : json::value(nullptr);
    told["version"] = tor.version;
    told["restarts"] = tor.restarts;
    out["tor"] = std::move(told);
  }
  if (auto subject = arguments.maybe_text("subject")) {
    TRY(auto why, co_await gateway.why(std::move(caller), *subject));
    json::object steps;
    for (const auto& step : why.steps) steps[step.check] = std::string(name(step.found));
    out["why"] = std::move(steps);
  }
  out["ruleset"] = gateway.firewall_text();
  co_return json::value(std::move(out));
}

}  // namespace

void add_gateway_operations(std::vector<Operation>& table) {
  table.push_back({"gateway.status",
                   Permission::status,
                   "Show what the gateway is doing",
                   "tornadoctl gateway status",
                   {},
                   {},
                   false,
                   status});
  table.push_back({"gateway.health",
                   Permission::status,
                   "Show the state of every part",
                   "tornadoctl gateway health",
                   {},
                   {"component", "ready", "detail"},
                   false,
                   health});
  table.push_back({"gateway.diff",
                   Permission::read,
                   "Show what is not as it should be, and change nothing",
                   "tornadoctl gateway diff",
                   {},
                   {},
                   false,
                   diff});
  table.push_back({"gateway.reconcile",
                   Permission::write,
                   "Compare peers and host with what they should be, and mend the difference",
                   "tornadoctl gateway reconcile --dry-run",
                   {{"dry-run", ParameterKind::flag, false, false, "only say what would change, as `gateway diff`"}},
                   {},
                   false,
                   reconcile});
  table.push_back({"gateway.adopted",
                   Permission::read,
                   "List peers that are somebody else's and kept on purpose",
                   "tornadoctl gateway adopted",
                   {},
                   {"public_key", "lane", "allowed_ips", "adopted_at", "adopted_by"},
                   false,
                   adopted});
  table.push_back(
      {"gateway.adopt",
       Permission::write,
       "Keep a foreign peer as it is: its addresses are leased to nobody, and it is put back when it is lost",
       "tornadoctl gateway adopt Zm9yZWlnbi4uLg==",
       {key_parameter},
       {"public_key", "lane", "allowed_ips", "adopted_at", "adopted_by"},
       false,
       adopt});
  table.push_back({"gateway.release",
                   Permission::write,
                   "Let an adopted peer go: it is taken from the interfaces and forgotten",
                   "tornadoctl gateway release Zm9yZWlnbi4uLg== --yes",
                   {key_parameter},
                   {},
                   true,
                   release});
  table.push_back({"gateway.confirm_removals",
                   Permission::write,
                   "Remove the foreign peers that were too many at once, and which were held for you to look",
                   "tornadoctl gateway confirm-removals --yes",
                   {},
                   {},
                   true,
                   confirm_removals});
  table.push_back({"report.create",
                   Permission::read,
                   "Collect what a helper needs to know, without secrets and names",
                   "tornadoctl report > report.json",
                   {{"subject", ParameterKind::text, true, false, "explain this user or device too, as `why` does"}},
                   {},
                   false,
                   report});
}

}  // namespace tornado::inline v1
