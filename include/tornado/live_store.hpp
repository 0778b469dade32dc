#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A session as other gateways and dashboards see it.
class SessionRecord {
 public:
  SessionRecord() {}
  std::string session_id;  ///< "<user>-<device>" (contract 4.1)
  Instance instance;
  std::string json;  ///< fields of contract 4.1
  Instant deadline;  ///< forgotten after this
};

/// A sliding window of failures and the ban that follows.
class ThrottleRule {
 public:
  ThrottleRule() {}
  int limit = 5;        ///< failures within the window that lead to a ban, at least 1
  Seconds window{300};  ///< seconds, at least 1
  Seconds ban{900};     ///< seconds, at least 1
};

/// The answer of a throttle.
class Verdict {
 public:
  Verdict() {}
  bool allowed = true;
  Seconds retry_after{0};  ///< how long the ban lasts; 0 if allowed
  int failures = 0;        ///< within the window
};

/// One key that is throttled or counted.
class ThrottleState {
 public:
  ThrottleState() {}
  std::string key;
  int failures = 0;
  Instant banned_until;
};

/// A message for the owner of a session, delivered at least once.
class Command {
 public:
  Command() {}
  std::string id;  ///< given by the store; sorts in order of arrival
  std::string json;
};

/// Seam: state that is shared and may be rebuilt (published sessions, throttles, single-use tokens, inboxes).
///
/// Every verb is one atomic step. Loop thread. Errors of all verbs: store_unavailable, deadline_exceeded.
class TORNADO_API LiveStore {
 public:
  virtual ~LiveStore() = default;
  /// Changes when the content was lost; whoever depends on the content then starts anew.
  virtual Task<std::string> generation() = 0;

  /// Publishes a session. conflict: a newer instance of that session is published already.
  virtual Task<void> put(SessionRecord record) = 0;
  /// Removes it if it still is that instance; absent: success.
  virtual Task<void> erase(std::string session_id, Instance instance) = 0;
  /// Sessions with an id after `after`, in order, at most `limit` (1 to 10,000).
  virtual Task<std::vector<SessionRecord>> list(std::string after, int limit) = 0;

  /// Counts a failure, and tells whether the next attempt is allowed.
  virtual Task<Verdict> hit(std::string key, ThrottleRule rule) = 0;
  /// Tells without counting.
  virtual Task<Verdict> peek(std::string key) = 0;
  virtual Task<void> clear(std::string key) = 0;
  virtual Task<std::vector<ThrottleState>> throttled() = 0;

  /// True for the first caller with that key within `ttl`, false for all others.
  virtual Task<bool> claim(std::string key, Seconds ttl) = 0;
  /// Keeps a value for `ttl`; `take` returns it once. not_found: taken, expired, or never kept.
  virtual Task<void> keep(std::string key, std::string value, Seconds ttl) = 0;
  virtual Task<std::string> take(std::string key) = 0;

  /// A hint to observers (contract 4.5); may be lost.
  virtual Task<void> publish(std::string channel, std::string json) = 0;
  /// Puts a command into a gateway's inbox. overloaded: more than 10,000 wait.
  virtual Task<void> send(std::string gateway, std::string json) = 0;
  /// Drops commands up to and including `acknowledged` and returns the following ones, at most 100.
  virtual Task<std::vector<Command>> receive(std::string gateway, std::string acknowledged) = 0;
};

/// The store of a single node. Bounded: at most 1,000,000 keys; the oldest throttle counters give way first.
TORNADO_API std::unique_ptr<LiveStore> memory_live_store(Runtime& runtime);

}  // namespace tornado::inline v1
