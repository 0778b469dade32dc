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

Task<json::value> reconcile(Gateway& gateway, Caller, Arguments) {
  TRY(auto difference, co_await gateway.reconcile());
  json::object out;
  out["missing"] = difference.missing.size();
  out["surplus"] = difference.surplus.size();
  out["foreign"] = difference.foreign.size();
  co_return json::value(std::move(out));
}

Task<json::value> config(Gateway& gateway, Caller, Arguments) {
  TRY(auto tree, parse_json(gateway.config().show()));
  co_return tree;
}

/// Everything somebody who helps needs to know, without a secret and without a name.
Task<json::value> report(Gateway& gateway, Caller, Arguments) {
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
  table.push_back({"gateway.reconcile",
                   Permission::write,
                   "Compare peers with sessions now and mend the difference",
                   "tornadoctl gateway reconcile",
                   {},
                   {},
                   false,
                   reconcile});
  table.push_back({"config.show",
                   Permission::read,
                   "Show the configuration the daemon runs with",
                   "tornadoctl config show",
                   {},
                   {},
                   false,
                   config});
  table.push_back({"report.create",
                   Permission::read,
                   "Collect what a helper needs to know, without secrets and names",
                   "tornadoctl report > report.json",
                   {},
                   {},
                   false,
                   report});
}

}  // namespace tornado::inline v1
