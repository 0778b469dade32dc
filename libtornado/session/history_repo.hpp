#pragma once

#include <vector>

#include "tornado/database.hpp"
#include "tornado/history.hpp"

namespace tornado::inline v1::history_repo {

/// Writes an ended session and adds it to the totals of its user, once per instance however often it is called.
Result<void> insert(Tx& tx, const Session& session, Instant now);
Result<std::vector<Session>> list(Tx& tx, const HistoryQuery& query);

}  // namespace tornado::inline v1::history_repo
