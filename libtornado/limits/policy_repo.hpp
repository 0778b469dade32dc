#pragma once

#include <optional>
#include <string>

#include "tornado/database.hpp"

namespace tornado::inline v1::policy_repo {

class StoredPolicy {
 public:
  std::int64_t version = 0;
  std::string document;
  std::string applied_by;
  Instant applied;
};

/// The latest one; nothing: there never was one.
Result<std::optional<StoredPolicy>> latest(Tx& tx);
/// Removes at most `limit` of the oldest, and never one of the latest `kept`. How many; 0: there are none left.
Result<int> trim(Tx& tx, int kept, int limit);
/// Becomes the latest; former ones stay.
Result<StoredPolicy> insert(Tx& tx, const std::string& document, const std::string& by, Instant now);

}  // namespace tornado::inline v1::policy_repo
