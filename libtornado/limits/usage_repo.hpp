#pragma once

#include <vector>

#include "limits/quota_book.hpp"
#include "tornado/database.hpp"

namespace tornado::inline v1::usage_repo {

/// What one session has moved in one month.
class SessionUsage {
 public:
  SessionUsage(Instance instance_, UserId user_, std::uint64_t bytes_)
      : instance(std::move(instance_)), user(std::move(user_)), bytes(bytes_) {}
  Instance instance;
  UserId user;
  std::uint64_t bytes;
};

/// Writes the shares of sessions that go on; repeated, the last one counts.
Result<void> put(Tx& tx, Month month, const std::vector<SessionUsage>& usage);
/// A session has ended in that month with that volume in all: what other months have is taken off. Repeated: the
/// same.
Result<void> close(Tx& tx, Month month, const SessionUsage& total);

/// Of sessions that have ended, by user.
Result<QuotaBook::Settled> settled(Tx& tx, Month month);
/// Of sessions that go on: what they moved in other months; later ones are there if the clock was set back.
Result<QuotaBook::Bases> bases(Tx& tx, Month month);

/// Removes at most `limit` rows of months before that one: of sessions that have ended, and of any that are older than
/// `oldest`, which nobody will record any more. How many; 0: there are none left.
Result<int> trim(Tx& tx, Month first_kept, const Instance& oldest, int limit);

/// Months of a user, newest first, and what was moved in each by sessions that have ended or were written.
class MonthlyUsage {
 public:
  std::string month;
  std::uint64_t bytes = 0;
};
Result<std::vector<MonthlyUsage>> months_of(Tx& tx, const UserId& user);

/// Notes that a user's threshold was reached. False: it was noted before.
Result<bool> note(Tx& tx, const UserId& user, Month month, int percent, Instant now);

}  // namespace tornado::inline v1::usage_repo
