#pragma once

#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// Presence and deadlines of a session as pure functions of its fields and a moment. `not_before`: the end of the
/// current grace after a restart or a clock step (I-02, I-44); no deadline lies before it.
class SessionMachine {
 public:
  explicit SessionMachine(const SessionOptions& options) : options_(options) {}

  /// Whether a sign of life is recent enough.
  bool alive(const Session& session, Instant now) const noexcept {
    return session.last_beat + options_.heartbeat_ttl > now || session.activated + options_.heartbeat_ttl > now ||
           session.last_handshake + options_.handshake_margin > now;
  }

  /// The instant at which an online session turns offline if nothing more is heard of it.
  Instant fades_at(const Session& session, Instant not_before) const noexcept {
    Instant at = std::max({session.last_beat + options_.heartbeat_ttl, session.activated + options_.heartbeat_ttl,
                           session.last_handshake + options_.handshake_margin});
    return std::max(at, not_before);
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
