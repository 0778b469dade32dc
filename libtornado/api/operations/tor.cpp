#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr Seconds longest_wait{20};

Error no_tor() {
  return Error(errc::failed_precondition, "this gateway runs without Tor: tor.launch is none");
}

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

json::object shown_tor(const TorStatus& status) {
  json::object out;
  out["wish"] = std::string(name(status.wish));
  out["phase"] = std::string(name(status.phase));
  out["bootstrap_pct"] = status.bootstrap;
  out["bootstrap_tag"] = text_or_null(status.tag);
  out["bootstrap_summary"] = text_or_null(status.summary);
  out["circuit_established"] = status.circuit_established;
  out["probe_answered"] = status.probe_answered;
  out["network_live"] = status.network_live;
  out["error"] = status.error ? json::value(std::string(name(*status.error))) : json::value(nullptr);
  out["reason"] = text_or_null(status.reason);
  out["remedy"] = text_or_null(status.remedy);
  out["warning"] = text_or_null(status.warning);
  out["version"] = text_or_null(status.version);
  out["pid"] = status.pid != 0 ? json::value(status.pid) : json::value(nullptr);
  out["adopted"] = status.adopted;
  out["restarts"] = status.restarts;
  out["since"] = shown_time(status.since);
  out["revision"] = status.revision;
  return out;
}

Task<json::value> status(Gateway& gateway, Caller, Arguments arguments) {
  if (!gateway.tor()) co_return no_tor();
  auto since = arguments.maybe_integer("since");
  std::uint64_t after = since ? static_cast<std::uint64_t>(*since) : 0;
  TRY(auto now, co_await gateway.tor()->changed(after, longest_wait));
  json::object out = shown_tor(now);
  if (!since) {
    auto traffic = co_await gateway.tor()->traffic();
    json::array guards;
    if (traffic)
      for (const auto& guard : traffic->guards) guards.emplace_back(guard);
    out["read"] = traffic ? json::value(traffic->read) : json::value(nullptr);
    out["written"] = traffic ? json::value(traffic->written) : json::value(nullptr);
    out["guards"] = std::move(guards);
  }
  co_return json::value(std::move(out));
}

template <TorWish wanted>
Task<json::value> wish(Gateway& gateway, Caller, Arguments) {
  if (!gateway.tor()) co_return no_tor();
  TRY(auto now, co_await gateway.tor()->wish(wanted));
  co_return json::value(shown_tor(now));
}

Task<json::value> circuits(Gateway& gateway, Caller, Arguments arguments) {
  std::optional<DeviceId> device;
  if (auto text = arguments.maybe_text("device")) device = DeviceId(*text);
  TRY(auto found, co_await gateway.circuits(device));
  json::array out;
  for (const auto& circuit : found) {
    json::object entry;
    entry["id"] = circuit.id;
    entry["state"] = circuit.state;
    entry["purpose"] = circuit.purpose;
    json::array path, sources;
    for (const auto& hop : circuit.path) path.emplace_back(hop.nickname.empty() ? "$" + hop.fingerprint : hop.nickname);
    for (const auto& source : circuit.sources) sources.emplace_back(source.str());
    entry["path"] = std::move(path);
    entry["created"] = circuit.created;
    entry["sources"] = std::move(sources);
    out.push_back(std::move(entry));
  }
  co_return json::value(std::move(out));
}

Task<json::value> new_identity(Gateway& gateway, Caller caller, Arguments arguments) {
  DeviceId device(arguments.text("device"));
  TRY(int closed, co_await gateway.new_identity(std::move(caller), device));
  json::object out;
  out["device_id"] = device.str();
  out["circuits_closed"] = closed;
  co_return json::value(std::move(out));
}

Parameter device_parameter(bool required) {
  Parameter out;
  out.name = "device";
  out.required = required;
  out.summary = "id of a device with a session";
  return out;
}

void add_wishes(std::vector<Operation>& table) {
  struct Entry {
    std::string_view name, summary, example;
    OperationHandler handler;
  };
  const Entry entries[] = {
      {"tor.up", "Connect to Tor; devices go through it as soon as it is ready", "tornadoctl tor up",
       wish<TorWish::up>},
      {"tor.down", "Take the lane into maintenance: Tor stays, off the network, and devices see a page",
       "tornadoctl tor down", wish<TorWish::maintenance>},
      {"tor.start", "Start the process and connect", "tornadoctl tor start", wish<TorWish::up>},
      {"tor.stop", "End the process; devices see a page", "tornadoctl tor stop", wish<TorWish::stopped>},
  };
  for (const Entry& entry : entries)
    table.push_back({entry.name, Permission::write, entry.summary, entry.example, {}, {}, false, entry.handler});
}

}  // namespace

void add_tor_operations(std::vector<Operation>& table) {
  Parameter since;
  since.name = "since";
  since.kind = ParameterKind::integer;
  since.summary = "wait for a later revision, at most 20 s";
  table.push_back({"tor.status",
                   Permission::status,
                   "Show what is wished of Tor, what it is doing, and why not",
                   "tornadoctl tor status",
                   {since},
                   {},
                   false,
                   status});
  add_wishes(table);
  table.push_back({"tor.circuits",
                   Permission::read,
                   "List circuits with every hop and the lane addresses that use them",
                   "tornadoctl tor circuits --device DEVICE",
                   {device_parameter(false)},
                   {"id", "state", "purpose", "path", "created", "sources"},
                   false,
                   circuits});
  table.push_back({"tor.new_identity",
                   Permission::write,
                   "Close the circuits of one device, so that it goes on by new ones",
                   "tornadoctl tor new-identity --device DEVICE",
                   {device_parameter(true)},
                   {},
                   false,
                   new_identity});
}

}  // namespace tornado::inline v1
