#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/ipam.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

class Database;
class Tx;

enum class SessionState : std::uint8_t { pending, active, closing, closed };
enum class Presence : std::uint8_t { online, idle, offline };
enum class CloseReason : std::uint8_t { disconnect, revoked, killed, expired, idle, replaced, failed, retired };

/// Why a session has the presence it has. The first four are signs of life, each the latest there is.
enum class PresenceReason : std::uint8_t {
  connected,  ///< it has just become active
  heartbeat,  ///< the client program has called
  traffic,    ///< more came through the tunnel than keeping it alive takes
  handshake,  ///< the tunnel came alive again
  quiet,      ///< the tunnel is kept alive, and neither program nor user makes use of it
  silent,     ///< neither heartbeat nor handshake in time
  restored,   ///< the gateway has started and waits for a sign
  ended,      ///< it is being closed
};

TORNADO_API std::string_view name(SessionState state) noexcept;
TORNADO_API std::string_view name(Presence presence) noexcept;
TORNADO_API std::string_view name(PresenceReason reason) noexcept;
TORNADO_API std::string_view name(CloseReason reason) noexcept;

/// How much of a client's outer address is shown, told and stored. Decisions are made with all of it, in memory.
enum class AddressPrivacy : std::uint8_t {
  full,
  network,  ///< IPv4 /24, IPv6 /48: tells providers and places apart, not households
  none,
};

/// An address as it is shown: "203.0.113.7", "203.0.113.0/24", or nothing.
using ShownAddress = Name<struct ShownAddressTag>;

TORNADO_API ShownAddress shown_address(const std::optional<Address>& address, AddressPrivacy privacy);

/// What a session is opened with.
class NewSession {
 public:
  NewSession(UserId user_, DeviceId device_, LaneAddresses addresses_, PublicKey key_)
      : user(std::move(user_)), device(std::move(device_)), addresses(std::move(addresses_)), key(key_) {}

  UserId user;
  DeviceId device;
  LaneAddresses addresses;
  PublicKey key;
  std::optional<Address> source;
  bool preshared = false;  ///< its peer gets a preshared key (see `Session`)
  /// Runs inside the transaction that makes the session durable; its error refuses the session (I-05).
  std::function<Result<void>(Tx&)> guard;
};

/// The account of one lane: what the interface counts now, on top of what earlier lives of its counters came to (I-09).
class LaneCounters {
 public:
  LaneCounters() {}
  std::uint64_t total_received() const noexcept { return base_received + received; }
  std::uint64_t total_sent() const noexcept { return base_sent + sent; }

  Lane lane;
  std::uint64_t received = 0, sent = 0;            ///< bytes, as the interface counted them when last read
  std::uint64_t base_received = 0, base_sent = 0;  ///< bytes of lives that are over
  Instant handshake;                               ///< as the interface tells it
  Instant read;                                    ///< when they were last read; default: never
  Instant active;                                  ///< last traffic or new handshake
  std::uint32_t interface = 0;                     ///< index of the interface they were read from; 0: unknown
  /// Bytes a second between the last two readings, 4 GiB at most.
  std::uint32_t receive_rate = 0, send_rate = 0;
};

/// An owner connected through this gateway.
class Session {
 public:
  Session() {}
  /// "<user>-<device>" as the contract writes it.
  std::string id() const { return user.str() + "-" + device.str(); }
  bool live() const noexcept { return state == SessionState::pending || state == SessionState::active; }
  const LaneAddress* on(std::string_view lane) const noexcept {
    for (const auto& address : addresses)
      if (address.lane.str() == lane) return &address;
    return nullptr;
  }

  Instance instance;
  UserId user;
  DeviceId device;
  LaneAddresses addresses;  ///< empty once a newer instance of the device has taken them over
  PublicKey key;
  SessionState state = SessionState::pending;
  Presence presence = Presence::offline;
  PresenceReason presence_reason = PresenceReason::silent;
  std::optional<CloseReason> reason;
  /// Its peer has a preshared key. The key itself is derived when it is needed, and is nobody's to store.
  bool preshared = false;
  bool bytes_missed = false;  ///< some may have passed uncounted: restored after a stop, or its peer was lost
  /// Opening failed in a way that leaves open whether the row reached the disk; ending it settles that.
  bool in_doubt = false;
  std::optional<Address> source;  ///< last known outer address of the client: for decisions, in memory only
  std::uint32_t recoveries = 0;   ///< times it came back from offline
  std::uint32_t roamed = 0;       ///< times the client's outer address changed, within one network too
  Instant presence_since;         ///< when its presence became so
  /// The first and the last one at `SessionOptions::address_privacy`, which is what is shown, told and stored.
  ShownAddress first_seen_from, seen_from;
  Instant opened, activated, ended;
  Instant last_beat;       ///< heartbeat
  Instant last_handshake;  ///< of any lane
  Instant last_traffic;    ///< when more was received than keeping a tunnel alive takes
  Instant hard_deadline;
  Lane lane;                   ///< the one in use: with the latest traffic or new handshake; empty: none yet (D-057)
  std::uint64_t received = 0;  ///< bytes from the client, all lanes, whole session
  std::uint64_t sent = 0;      ///< bytes to the client
  std::vector<LaneCounters> counters;
  std::uint64_t revision = 0;

  const LaneCounters* counters_on(const Lane& wanted) const noexcept {
    for (const auto& account : counters)
      if (account.lane == wanted) return &account;
    return nullptr;
  }
  /// The later of heartbeat, handshake and activation.
  Instant last_seen() const noexcept { return std::max({last_beat, last_handshake, activated}); }
};

/// A reading of one peer on one lane.
class Observation {
 public:
  explicit Observation(Lane lane_) : lane(std::move(lane_)) {}
  Lane lane;
  std::uint64_t received = 0, sent = 0;
  Instant handshake;
  std::uint32_t interface = 0;  ///< index of the interface; 0: unknown
  std::optional<Address> source;
};

/// A lane of a session on which its peer is about to be made anew.
class RestartedCounters {
 public:
  RestartedCounters(Instance instance_, Lane lane_) : instance(std::move(instance_)), lane(std::move(lane_)) {}
  Instance instance;
  Lane lane;
};

/// What sessions have moved on one lane.
class LaneTraffic {
 public:
  explicit LaneTraffic(Lane lane_) : lane(std::move(lane_)) {}
  Lane lane;
  std::uint64_t received = 0, sent = 0;  ///< bytes
  std::uint64_t handshakes = 0;          ///< at most one per peer and reading
};

/// What a heartbeat found.
class Beat {
 public:
  Beat() {}
  Session session;
  bool recovered = false;  ///< the session was offline
};

/// A page of sessions; `next` is empty on the last one.
class SessionPage {
 public:
  SessionPage() {}
  std::vector<Session> sessions;
  std::string next;
  std::uint64_t revision = 0;
};

/// An address freed lately.
class FreedAddress {
 public:
  FreedAddress() {}
  LaneAddress address;
  Owner last;
  UserId user;
  Instant freed;
};

/// Everything a gateway needs to know after a restart (I-02).
class RestoredSessions {
 public:
  RestoredSessions() {}
  std::vector<Session> unclosed;    ///< pending, active and closing ones, without the accounts of their lanes
  std::vector<FreedAddress> freed;  ///< within the time asked for, and the last one of each device
};

class TORNADO_API SessionOptions {
 public:
  explicit SessionOptions(std::string journal_ = ":memory:") : journal(std::move(journal_)) {}
  std::string journal;            ///< path of the journal's SQLite file, if no database is shared
  Seconds heartbeat_ttl{90};      ///< without a sign of life for this long a session is offline; 10 to 3600
  Seconds hard_ttl{1296000};      ///< a session ends this long after it was opened; at least 60
  Seconds idle_ttl{86400};        ///< offline for longer than this: closed as idle; at least heartbeat_ttl
  Seconds handshake_margin{200};  ///< a handshake younger than this is a sign of life (K-15); at least 180
  Seconds quiet_after{300};       ///< alive without traffic and heartbeat for this long: idle; at least 10
  Seconds grace{90};              ///< after a restart no deadline is nearer than this
  AddressPrivacy address_privacy = AddressPrivacy::network;
};

/// Sessions: memory answers, the journal remembers.
///
/// The journal is one SQLite table with a row per session instance, and it is the authority after a crash (I-01). It
/// lies in a file of its own or in a shared SQLite database. State: pending -> active -> closing -> closed; presence
/// is a separate field that is never written down. Loop thread. Steps of one device must not overlap.
/// Errors of tasks besides those named: store_unavailable, disk_full, data_loss.
class TORNADO_API SessionStore {
 public:
  SessionStore(Runtime& runtime, SessionOptions options);
  SessionStore(Runtime& runtime, Database& journal, SessionOptions options);
  ~SessionStore();

  /// Reads the journal. Must end before anything else is called.
  Task<RestoredSessions> restore(Seconds freed_within);

  /// Durable as pending. A live instance of the device is marked replaced in the same commit and its addresses pass to
  /// the new one. Errors: those of the guard; key_in_use (an unclosed session of another device has the key, or had
  /// it ever); already_exists (an address is held by another session). After an error of class unavailable or
  /// deadline_exceeded the session stands as closing and `in_doubt`; it must be ended and recorded like any other,
  /// before the device opens another one. What it would have replaced goes on then.
  Task<Session> open(NewSession wanted);
  Task<Session> activate(Instance instance);
  /// Durable: the peer of a live session has a preshared key from now on, or none any more. not_found.
  Task<Session> set_preshared(Instance instance, bool preshared);
  /// A sign of life; never waits. session_expired: the device has no live session.
  Result<Beat> beat(const DeviceId& device, std::optional<Address> source);
  /// What WireGuard counts on one lane now. A counter that fell has started anew; totals never fall (I-09). not_found.
  Result<Presence> observe(const Instance& instance, const Observation& seen);
  /// The same of the live session with that key.
  Result<Presence> observe(const PublicKey& key, const Observation& seen);
  /// Whether the live session with that key was seen like this by the reading before. If so, `observe` would note no
  /// more than that it was read again; that is done.
  bool unmoved(const PublicKey& key, const Observation& seen);
  /// Peers are about to be made anew: their counters will start at zero. Durable before it returns, so that no crash
  /// takes the new counters for the old ones (I-09); in memory it holds in any case. Instances that are gone are left
  /// out.
  Task<void> counters_restarted(std::vector<RestartedCounters> restarted);
  /// Durable as closing. Repeated, or after the end: the same session with its first reason. not_found.
  Task<Session> end(Instance instance, CloseReason reason);
  /// Hands a replaced session's addresses back to it, because the new one could not be brought up. One commit that
  /// also ends the new one as failed.
  Task<Session> revert(Instance failed, Instance former);
  /// closing -> closed, once, with its final counters; its addresses are free from now on. not_found afterwards.
  Task<Session> record(Instance instance);
  /// Writes counters and times of sessions that changed since the last time down, so that a crash loses at most what
  /// came after; the counters of peers that live on lose nothing.
  Task<void> checkpoint();

  /// Sessions that need closing now: hard deadline or idle, with the reason. In order of their deadline.
  std::vector<std::pair<Session, CloseReason>> due() const;
  /// Whether `due` would return it.
  bool is_due(const Instance& instance) const;
  /// How many `due` would return that were active: those that have not become so yet are always due.
  std::size_t overdue_count() const;
  /// Updates presence from the clock; returns sessions that went idle or offline.
  std::vector<Session> fade();
  /// Told of every change of presence of a live session, with what it was before, at once and on the loop. Must not
  /// call the store.
  void on_presence(std::function<void(const Session&, Presence before)> told);
  /// Told when the outer address of a live session changed, with the former one. Must not call the store.
  void on_roaming(std::function<void(const Session&, const Address& before)> told);
  /// When `due` or `fade` may next have something.
  std::optional<Instant> next_deadline() const;
  /// The host was asleep or the clock stepped: every grace starts anew (I-44).
  void restart_graces();
  /// The wall clock was set forward or (negative) back: every moment of every session keeps its distance from now, and
  /// graces start anew. The next `checkpoint` makes that durable.
  void clock_stepped(const ClockStep& step);

  /// The live session of a device.
  std::optional<Session> find(const DeviceId& device) const;
  std::optional<Session> find(const Instance& instance) const;
  std::optional<Session> find(const PublicKey& key) const;
  /// Of the live session with that key.
  std::optional<Instance> instance_of(const PublicKey& key) const;
  /// Moves with every `counters_restarted`: a reading from before is of no use then.
  std::uint64_t restarts() const noexcept;
  /// Unclosed sessions in order of instance, after `after`, at most `limit` (1 to 10,000).
  SessionPage list(std::string after, int limit) const;
  std::vector<Session> of(const UserId& user) const;
  /// Shows the unclosed sessions of a user without copying them. The visitor must not change the store.
  void visit_of(const UserId& user, const std::function<void(const Session&)>& visitor) const;
  /// Shows unclosed sessions in order of instance, after `after`, at most `limit`, without copying them; where to go
  /// on, or nothing. The visitor must not change the store.
  std::optional<Instance> visit(const Instance& after, int limit,
                                const std::function<void(const Session&)>& visitor) const;
  /// Sessions that were ended and not recorded yet.
  std::vector<Session> closing() const;
  std::vector<Instance> closing(const DeviceId& device) const;
  std::size_t size() const noexcept;
  /// Live sessions by presence.
  std::size_t online() const noexcept;
  std::size_t idle() const noexcept;
  std::size_t offline() const noexcept;
  std::size_t closing_count() const noexcept;
  /// What all sessions together have moved by lane since the store was made.
  const std::vector<LaneTraffic>& traffic() const noexcept;

  /// Closed rows that history has not taken yet, oldest first, at most `limit`.
  Task<std::vector<Session>> undrained(int limit);
  /// History has them. Rows are kept as long as `restore` may ask for their addresses.
  Task<void> drained(std::vector<Instance> instances);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
