#pragma once

#include <optional>

#include "tornado/session_store.hpp"

namespace tornado::inline v1 {

/// Which ended sessions to list, newest first.
class HistoryQuery {
 public:
  HistoryQuery() {}
  std::optional<UserId> user;  ///< of one account
  int limit = 100;             ///< 1 to 10,000
  int offset = 0;              ///< not negative
};

}  // namespace tornado::inline v1
