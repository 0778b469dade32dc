#include "api/to_json.hpp"

#include <boost/json/array.hpp>

namespace json = boost::json;

namespace tornado::inline v1 {

json::value shown_time(Instant instant) {
  return instant == Instant() ? json::value(nullptr) : json::value(iso8601(instant));
}

json::object shown(const User& user) {
  json::object out;
  out["id"] = user.id.str();
  out["username"] = user.username;
  out["email"] = user.email;
  out["is_active"] = user.active;
  out["max_devices"] = user.max_devices;
  out["total_sessions"] = user.total_sessions;
  out["total_bytes_tx"] = user.total_sent;
  out["total_bytes_rx"] = user.total_received;
  out["created_at"] = shown_time(user.created);
  out["last_login_at"] = shown_time(user.last_login);
  out["last_seen_at"] = shown_time(user.last_seen);
  out["deleted_at"] = shown_time(user.deleted);
  return out;
}

json::object shown(const Device& device) {
  json::object out;
  out["device_id"] = device.id.str();
  out["user_id"] = device.user.str();
  out["label"] = device.label;
  out["created_at"] = shown_time(device.created);
  out["last_seen_at"] = shown_time(device.last_seen);
  out["revoked_at"] = shown_time(device.revoked);
  return out;
}

json::object shown(const Session& session) {
  json::object out;
  auto address = [&](const char* lane) {
    const auto* found = session.on(lane);
    return found != nullptr ? json::value(found->v4.str()) : json::value(nullptr);
  };
  out["session_id"] = session.id();
  out["instance"] = session.instance.str();
  out["user_id"] = session.user.str();
  out["device_id"] = session.device.str();
  out["public_key"] = session.key.str();
  out["vpn_ip"] = address("vpn");
  out["tor_ip"] = address("tor");
  const std::string last = session.seen_from.str();
  const std::string client = session.state == SessionState::closed ? session.first_seen_from.str() : last;
  out["client_ip"] = client.empty() ? json::value(nullptr) : json::value(client);
  out["last_client_ip"] = last.empty() ? json::value(nullptr) : json::value(last);
  out["state"] = session.state == SessionState::active ? name(session.presence) : name(session.state);
  out["reason"] = session.state == SessionState::active ? json::value(name(session.presence_reason)) : nullptr;
  out["since"] = shown_time(session.presence_since);
  out["lane"] = session.lane.empty() ? json::value(nullptr) : json::value(session.lane.str());
  out["started_at"] = shown_time(session.opened);
  out["ended_at"] = shown_time(session.ended);
  out["last_seen_at"] = shown_time(session.last_seen());
  out["bytes_rx"] = session.received;
  out["bytes_tx"] = session.sent;
  json::object lanes;
  std::uint64_t receive_rate = 0, send_rate = 0;
  for (const auto& account : session.counters) {
    json::object lane;
    lane["bytes_rx"] = account.total_received();
    lane["bytes_tx"] = account.total_sent();
    lane["last_handshake"] = shown_time(account.handshake);
    lane["last_active"] = shown_time(account.active);
    lanes[account.lane.str()] = std::move(lane);
    receive_rate += account.receive_rate;
    send_rate += account.send_rate;
  }
  out["lanes"] = std::move(lanes);
  out["rate_rx"] = receive_rate;
  out["rate_tx"] = send_rate;
  out["roamed"] = session.roamed;
  out["preshared_key"] = session.preshared;
  out["close_reason"] = session.reason ? json::value(name(*session.reason)) : json::value(nullptr);
  return out;
}

json::object shown(const Lease& lease, Instant now) {
  json::object out;
  out["device_id"] = lease.owner.str();
  for (const auto& address : lease.addresses) {
    out[address.lane.str() + "_ip"] = address.v4.str();
    if (address.v6) out[address.lane.str() + "_ip6"] = address.v6->str();
  }
  out["expires_at"] = shown_time(lease.expires);
  out["state"] = lease.dirty ? "dirty" : lease.expires == Instant() ? "bound" : lease.expires > now ? "held" : "lapsed";
  return out;
}

json::object shown(const KeyInfo& key) {
  json::object out;
  out["use"] = name(key.use);
  out["id"] = key.id;
  out["signs"] = key.signs;
  out["created_at"] = shown_time(key.created);
  out["signs_from"] = shown_time(key.signs_from);
  out["verifies_until"] = shown_time(key.verifies_until);
  return out;
}

void add_quota(json::object& out, const QuotaStanding& standing) {
  json::object quota;
  quota["used"] = standing.used;
  quota["limit"] = standing.limit;
  quota["percent"] = standing.limit == 0 ? 0 : standing.used / (standing.limit / 100);
  quota["state"] = !standing.exhausted()                      ? standing.reached == 0 ? "within" : "warned"
                   : standing.action == QuotaAction::warn     ? "over"
                   : standing.action == QuotaAction::throttle ? "throttled"
                                                              : "blocked";
  out["quota"] = std::move(quota);
}

void add_cut(json::object& out, const Revocation& revocation) {
  auto milliseconds = [](std::chrono::microseconds time) { return static_cast<double>(time.count()) / 1000; };
  json::array sessions;
  for (const auto& session : revocation.sessions) sessions.emplace_back(session.id());
  out["closed_sessions"] = std::move(sessions);
  out["revoked_sign_ins"] = revocation.sign_ins;
  json::object cut;
  cut["peers"] = revocation.cut.peers;
  cut["addresses_flushed"] = revocation.cut.flushed;
  cut["circuits"] = revocation.cut.circuits;
  cut["stopped_ms"] = milliseconds(revocation.cut.stopped);
  cut["finished_ms"] = milliseconds(revocation.cut.finished);
  out["cut"] = std::move(cut);
}

json::object shown(const Component& component) {
  json::object out;
  out["component"] = component.name;
  out["ready"] = component.ready;
  out["detail"] = component.detail;
  return out;
}

}  // namespace tornado::inline v1
