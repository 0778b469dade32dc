#include "session/history_repo.hpp"

#include "base/try.hpp"
#include "base/uuid.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::history_repo {
namespace {

Value address_on(const Session& session, std::string_view lane) {
  const auto* address = session.on(lane);
  return address != nullptr ? Value(address->v4.str()) : Value();
}

std::optional<CloseReason> reason_named(std::string_view text) {
  for (int i = 0; i < 8; ++i)
    if (name(static_cast<CloseReason>(i)) == text) return static_cast<CloseReason>(i);
  return std::nullopt;
}

void add_address(std::vector<LaneAddress>& addresses, const char* lane, const Value& value) {
  if (!value) return;
  if (auto address = Address::parse(*value)) addresses.emplace_back(Lane(lane), *address);
}

}  // namespace

Result<void> insert(Tx& tx, const Session& s, Instant now, bool keeps_address) {
  std::string rx = std::to_string(s.received), tx_bytes = std::to_string(s.sent);
  auto stored = [](const std::string& address) { return address.empty() ? Value() : Value(address); };
  Value first = stored(s.first_seen_from.str()), last = stored(s.seen_from.str());
  Instant ended = std::max(s.ended, s.opened);
  TRY_PLAIN(
      auto rows,
      tx.exec(
          "INSERT INTO vpn_session_history (id, instance, session_key, user_id, device_id, public_key, vpn_ip, tor_ip, "
          "client_ip, bytes_tx, bytes_rx, close_reason, started_at, ended_at, created_at, last_client_ip, roamed) "
          "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) "
          "ON CONFLICT (instance) DO NOTHING RETURNING id",
          {uuid4(), s.instance.str(), s.id(), s.user.str(), s.device.str(), s.key.str(), address_on(s, "vpn"),
           address_on(s, "tor"), first, tx_bytes, rx, std::string(name(s.reason.value_or(CloseReason::failed))),
           iso8601(s.opened), iso8601(ended), iso8601(now), last, std::to_string(s.roamed)}));
  if (rows.empty()) return {};
  std::string update =
      "UPDATE users SET total_sessions = total_sessions + 1, total_bytes_rx = total_bytes_rx + $2, "
      "total_bytes_tx = total_bytes_tx + $3, last_seen_at = $4, last_device_id = $5, last_client_ip = ";
  update += keeps_address ? "coalesce($6, last_client_ip)" : "$6";
  update += " WHERE id = $1";
  TRY_VOID_PLAIN(tx.exec(update, {s.user.str(), rx, tx_bytes, iso8601(ended), s.device.str(), last}));
  for (const auto& account : s.counters)
    TRY_VOID_PLAIN(tx.exec(
        "INSERT INTO lane_traffic (lane, bytes_rx, bytes_tx) VALUES ($1, $2, $3) ON CONFLICT (lane) DO UPDATE SET "
        "bytes_rx = lane_traffic.bytes_rx + excluded.bytes_rx, bytes_tx = lane_traffic.bytes_tx + excluded.bytes_tx",
        {account.lane.str(), std::to_string(account.total_received()), std::to_string(account.total_sent())}));
  return {};
}

Result<bool> has(Tx& tx, const Instance& instance) {
  TRY_PLAIN(auto rows, tx.exec("SELECT 1 FROM vpn_session_history WHERE instance = $1", {instance.str()}));
  return !rows.empty();
}

Result<std::vector<LaneTraffic>> lane_traffic(Tx& tx) {
  TRY_PLAIN(auto rows, tx.exec("SELECT lane, bytes_rx, bytes_tx FROM lane_traffic ORDER BY lane"));
  std::vector<LaneTraffic> out;
  for (const auto& row : rows.rows) {
    LaneTraffic& lane = out.emplace_back(Lane(text(row[0])));
    lane.received = static_cast<std::uint64_t>(integer(row[1]));
    lane.sent = static_cast<std::uint64_t>(integer(row[2]));
  }
  return out;
}

Result<std::vector<Session>> list(Tx& tx, const HistoryQuery& query) {
  TRY_PLAIN(
      auto rows,
      tx.exec(
          "SELECT instance, user_id, device_id, public_key, vpn_ip, tor_ip, client_ip, bytes_rx, "
          "bytes_tx, close_reason, "
          "started_at, ended_at, last_client_ip, roamed FROM vpn_session_history WHERE ($1 IS NULL OR user_id = $1) "
          "ORDER BY started_at DESC, instance DESC LIMIT $2 OFFSET $3",
          {query.user ? Value(query.user->str()) : Value(), std::to_string(query.limit),
           std::to_string(query.offset)}));
  std::vector<Session> out;
  for (const auto& row : rows.rows) {
    Session& s = out.emplace_back();
    s.instance = Instance(text(row[0]));
    s.user = UserId(text(row[1]));
    s.device = DeviceId(text(row[2]));
    if (auto key = PublicKey::parse(text(row[3]))) s.key = *key;
    std::vector<LaneAddress> addresses;
    add_address(addresses, "vpn", row[4]);
    add_address(addresses, "tor", row[5]);
    s.addresses = std::move(addresses);
    s.first_seen_from = ShownAddress(text(row[6]));
    s.seen_from = ShownAddress(text(row[12]));
    s.roamed = static_cast<std::uint32_t>(integer(row[13]));
    s.received = static_cast<std::uint64_t>(integer(row[7]));
    s.sent = static_cast<std::uint64_t>(integer(row[8]));
    s.reason = reason_named(text(row[9]));
    s.opened = instant(row[10]);
    s.ended = instant(row[11]);
    s.state = SessionState::closed;
  }
  return out;
}

}  // namespace tornado::inline v1::history_repo
