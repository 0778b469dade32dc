#pragma once

#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// What the signs of life of a session come to, and until when, if no further one is seen.
class PresenceVerdict {
 public:
  PresenceVerdict(Presence presence_, PresenceReason reason_, Instant until_)
      : presence(presence_), reason(reason_), until(until_) {}
  Presence presence;
  PresenceReason reason;
  Instant until;
};

/// Presence and deadlines of a session as pure functions of its fields and a moment. `not_before`: the end of the
/// current grace after a restart or a clock step (I-02, I-44); no deadline lies before it.
class SessionMachine {
 public:
  explicit SessionMachine(const SessionOptions& options) : options_(options) {}

  /// Online while the program calls, or the tunnel lives and something goes through it; idle while the tunnel only
  /// lives; else offline. A tunnel lives as long as its handshake is young: WireGuard makes a new one every two
  /// minutes while there is anything to send, and refuses to use one that is older than three.
  PresenceVerdict judge(const Session& session, Instant now) const noexcept {
    const Instant lives = session.last_handshake + options_.handshake_margin;
    const Instant called = session.last_beat + options_.heartbeat_ttl;
    const Instant begun = session.activated + options_.heartbeat_ttl;
    const Instant used = std::min(session.last_traffic + options_.quiet_after, lives);
    const Instant online = std::max({called, begun, used});
    const auto reason = online == used     ? PresenceReason::traffic
                        : online == called ? PresenceReason::heartbeat
                                           : PresenceReason::connected;
    if (now < online) return PresenceVerdict(Presence::online, reason, online);
    if (now < lives) return PresenceVerdict(Presence::idle, PresenceReason::quiet, lives);
    return PresenceVerdict(Presence::offline, PresenceReason::silent, Instant::max());
  }

  /// The instant at which a live session has to be closed, and why.
  std::pair<Instant, CloseReason> closes_at(const Session& session, Instant not_before) const noexcept {
    Instant idle = session.last_seen() + options_.idle_ttl;
    if (idle < session.hard_deadline) return {std::max(idle, not_before), CloseReason::idle};
    return {std::max(session.hard_deadline, not_before), CloseReason::expired};
  }

 private:
  const SessionOptions& options_;
};

}  // namespace tornado::inline v1
