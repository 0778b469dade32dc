#pragma once

#include <memory>
#include <vector>

#include "tornado/database.hpp"
#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// The durable side of sessions: one row per instance, one row per address it holds (I-01). All SQL of the journal
/// lives here; partial unique indexes have the last word on addresses, keys and live instances.
class Journal {
 public:
  explicit Journal(Database& database) : database_(database) {}

  Task<void> create_tables();
  Task<RestoredSessions> load(Instant freed_since);

  /// Writes a pending row; a live row of the device becomes closing/replaced and hands its addresses over. Returns the
  /// replaced instance, if any.
  Task<std::optional<Instance>> open(const Session& session, const std::function<Result<void>(Tx&)>& guard,
                                     Instant now);
  Task<void> activate(const Session& session);
  Task<void> set_preshared(const Instance& instance, bool preshared);
  Task<void> begin_close(const Instance& instance, CloseReason reason, Instant now);
  Task<void> revert(const Instance& failed, const Instance& former, Instant now);
  /// Repeating it changes nothing. `former`: the one that a session in doubt would have replaced, and that gets back
  /// what it took; else empty.
  Task<void> finish_close(const Session& session, const Instance& former, Instant now);
  /// Counters and times of unclosed sessions, and what steps of the clock did to the times of freed addresses.
  Task<void> save(const std::vector<Session>& sessions, const std::vector<ClockStep>& steps, Instant now);
  Task<std::vector<Session>> undrained(int limit);
  Task<void> drained(const std::vector<Instance>& instances);

 private:
  Database& database_;
};

}  // namespace tornado::inline v1
