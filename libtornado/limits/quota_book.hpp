#pragma once

#include <cstdint>
#include <unordered_map>

#include "tornado/limits.hpp"

namespace tornado::inline v1 {

/// What users have moved this month: the shares of sessions that have ended, and what each session that goes on had
/// moved before the month began. Memory only; `usage_repo` remembers. Loop thread.
class QuotaBook {
 public:
  using Settled = std::unordered_map<UserId, std::uint64_t>;
  using Bases = std::unordered_map<Instance, std::uint64_t>;

  /// As the database has it for that month. Sessions that have ended and are not in there yet are to be settled again.
  void load(Month month, Settled settled, Bases bases);
  Month month() const noexcept { return month_; }

  /// The part of a session's volume that belongs to this month.
  std::uint64_t share(const Instance& instance, std::uint64_t total) const;
  /// A session has ended in that month with that volume.
  void settle(const UserId& user, const Instance& instance, std::uint64_t total, Month ended);
  /// Of sessions that have ended.
  std::uint64_t settled(const UserId& user) const;

 private:
  Month month_;
  Settled settled_;
  Bases bases_;
};

}  // namespace tornado::inline v1
