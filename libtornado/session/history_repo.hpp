#pragma once

#include <vector>

#include "tornado/database.hpp"
#include "tornado/history.hpp"

namespace tornado::inline v1::history_repo {

/// Writes an ended session and adds it to the totals of its user and of its lanes, once per instance however often it
/// is called.
/// `keeps_address`: the account keeps the last address that is known where the session has none.
Result<void> insert(Tx& tx, const Session& session, Instant now, bool keeps_address);
/// Whether the history, and with it every total, has that session.
Result<bool> has(Tx& tx, const Instance& instance);
/// Bytes of all recorded sessions, by lane.
Result<std::vector<LaneTraffic>> lane_traffic(Tx& tx);
Result<std::vector<Session>> list(Tx& tx, const HistoryQuery& query);

}  // namespace tornado::inline v1::history_repo
