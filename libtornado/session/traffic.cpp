#include "session/traffic.hpp"

#include <algorithm>
#include <limits>

namespace tornado::inline v1 {
namespace {

/// Received by a tunnel that is only kept alive: at most a handshake of 148 bytes and a few keepalives of 32 between
/// two readings that are close together, and 2.5 bytes a second in the long run (a keepalive every 25 s, a handshake
/// every two minutes).
constexpr std::uint64_t upkeep_bytes = 512;
constexpr std::uint64_t upkeep_bytes_a_second = 4;

std::uint64_t upkeep(Instant before, Instant now) {
  auto elapsed = std::chrono::duration_cast<Seconds>(now - before).count();
  return upkeep_bytes + static_cast<std::uint64_t>(std::max<std::int64_t>(elapsed, 0)) * upkeep_bytes_a_second;
}

std::uint32_t rate(std::uint64_t bytes, Instant before, Instant now) {
  constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
  auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now - before).count();
  if (elapsed <= 0) return 0;
  return static_cast<std::uint32_t>(std::min(bytes * 1000 / static_cast<std::uint64_t>(elapsed), most));
}

bool restarted(const LaneCounters& account, const Observation& seen) {
  bool other_interface = account.interface != 0 && seen.interface != 0 && account.interface != seen.interface;
  bool forgot = account.handshake != Instant() && seen.handshake == Instant();
  return other_interface || forgot || seen.received < account.received || seen.sent < account.sent;
}

}  // namespace

void restart(LaneCounters& account) {
  account.base_received += account.received;
  account.base_sent += account.sent;
  account.received = account.sent = 0;
  account.handshake = Instant();
}

TrafficDelta fold(LaneCounters& account, const Observation& seen, Instant now) {
  if (restarted(account, seen)) restart(account);
  TrafficDelta out;
  out.received = seen.received - account.received;
  out.sent = seen.sent - account.sent;
  // The kernel's moment does not follow a clock that is set: only another one is a new handshake.
  out.shaken = seen.handshake != Instant() && seen.handshake != account.handshake;
  // What came while nobody looked may have come at any time.
  out.used = account.read != Instant() && out.received > upkeep(account.read, now);
  account.receive_rate = account.read == Instant() ? 0 : rate(out.received, account.read, now);
  account.send_rate = account.read == Instant() ? 0 : rate(out.sent, account.read, now);
  account.received = seen.received;
  account.sent = seen.sent;
  account.handshake = seen.handshake;
  if (seen.interface != 0) account.interface = seen.interface;
  account.read = now;
  return out;
}

bool read_again(LaneCounters& account, const Observation& seen, Instant now) {
  const bool same = account.read != Instant() && seen.received == account.received && seen.sent == account.sent &&
                    seen.handshake == account.handshake && (seen.interface == 0 || seen.interface == account.interface);
  if (!same) return false;
  account.receive_rate = account.send_rate = 0;
  account.read = now;
  return true;
}

LaneCounters& account_on(Session& session, const Lane& lane) {
  for (auto& account : session.counters)
    if (account.lane == lane) return account;
  session.counters.emplace_back().lane = lane;
  return session.counters.back();
}

void sum_up(Session& session) {
  session.received = session.sent = 0;
  for (const auto& account : session.counters) {
    session.received += account.total_received();
    session.sent += account.total_sent();
  }
}

}  // namespace tornado::inline v1
