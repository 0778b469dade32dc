#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Task<json::value> leases(Gateway& gateway, Caller, Arguments) {
  json::array out;
  for (const auto& lease : gateway.ipam().list()) out.push_back(shown(lease, system_clock().now()));
  co_return json::value(std::move(out));
}

json::object shown_peer(Gateway& gateway, const std::string& lane, const Interface& interface, const Peer& peer) {
  json::object out;
  out["lane"] = lane;
  out["interface"] = interface.name;
  out["public_key"] = peer.key.str();
  json::array allowed;
  for (const auto& prefix : peer.allowed) allowed.emplace_back(prefix.str());
  out["allowed_ips"] = std::move(allowed);
  auto owner = gateway.peers().owner_of(peer.key);
  out["device_id"] = owner ? json::value(owner->str()) : json::value(nullptr);
  out["endpoint"] = peer.endpoint ? json::value(peer.endpoint->str()) : json::value(nullptr);
  out["last_handshake"] = std::chrono::duration_cast<Seconds>(peer.handshake.time_since_epoch()).count();
  out["received"] = peer.received;
  out["sent"] = peer.sent;
  return out;
}

Task<json::value> peers(Gateway& gateway, Caller, Arguments) {
  json::array out;
  const Config& config = gateway.config();
  const std::pair<std::string, std::string> lanes[] = {{"vpn", config.lanes.vpn.interface},
                                                       {"tor", config.lanes.tor.interface}};
  for (const auto& [lane, name] : lanes) {
    TRY(auto interface, co_await gateway.wireguard().get(name));
    for (const auto& peer : interface.peers) out.push_back(shown_peer(gateway, lane, interface, peer));
  }
  co_return json::value(std::move(out));
}

Task<json::value> firewall(Gateway& gateway, Caller, Arguments) {
  json::object out;
  out["ruleset"] = gateway.firewall_text();
  co_return json::value(std::move(out));
}

Task<json::value> lanes(Gateway& gateway, Caller, Arguments) {
  TRY(auto all, co_await gateway.lanes());
  json::array out;
  for (const auto& lane : all) {
    json::object entry;
    entry["lane"] = lane.lane.str();
    entry["interface"] = lane.interface;
    entry["mode"] = std::string(name(lane.mode));
    entry["devices"] = lane.devices;
    entry["leased"] = lane.pool.leased;
    entry["available"] = lane.pool.available();
    entry["bytes_rx"] = lane.received;
    entry["bytes_tx"] = lane.sent;
    entry["rate_rx"] = lane.receive_rate;
    entry["rate_tx"] = lane.send_rate;
    out.push_back(std::move(entry));
  }
  co_return json::value(std::move(out));
}

}  // namespace

void add_lane_operations(std::vector<Operation>& table) {
  table.push_back(
      {"lane.list",
       Permission::read,
       "List the lanes: mode, devices on them now, addresses, traffic ever and now",
       "tornadoctl lane list",
       {},
       {"lane", "interface", "mode", "devices", "leased", "available", "bytes_rx", "bytes_tx", "rate_rx", "rate_tx"},
       false,
       lanes});
  table.push_back({"lease.list",
                   Permission::read,
                   "List the addresses in use",
                   "tornadoctl lease list",
                   {},
                   {"device_id", "vpn_ip", "tor_ip", "state", "expires_at"},
                   false,
                   leases});
  table.push_back(
      {"peer.list",
       Permission::read,
       "List the WireGuard peers of every lane as the interfaces have them",
       "tornadoctl peer list",
       {},
       {"lane", "interface", "public_key", "allowed_ips", "device_id", "last_handshake", "received", "sent"},
       false,
       peers});
  table.push_back({"firewall.show",
                   Permission::read,
                   "Show the ruleset in nft syntax",
                   "tornadoctl firewall show",
                   {},
                   {},
                   false,
                   firewall});
}

}  // namespace tornado::inline v1
