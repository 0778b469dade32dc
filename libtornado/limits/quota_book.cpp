#include "limits/quota_book.hpp"

#include <cstdio>

namespace tornado::inline v1 {

void QuotaBook::load(Month month, Settled settled, Bases bases) {
  month_ = month;
  settled_ = std::move(settled);
  bases_ = std::move(bases);
}

std::uint64_t QuotaBook::share(const Instance& instance, std::uint64_t total) const {
  auto base = bases_.find(instance);
  if (base == bases_.end()) return total;
  return total > base->second ? total - base->second : 0;
}

void QuotaBook::settle(const UserId& user, const Instance& instance, std::uint64_t total, Month ended) {
  if (total != 0 && ended == month_) settled_[user] += share(instance, total);
  bases_.erase(instance);
}

std::uint64_t QuotaBook::settled(const UserId& user) const {
  auto found = settled_.find(user);
  return found == settled_.end() ? 0 : found->second;
}

QuotaStanding standing_of(const UserLimit& limit, std::uint64_t used) {
  QuotaStanding out;
  out.used = used;
  out.limit = limit.monthly;
  out.action = limit.action;
  if (limit.monthly == 0) return out;
  // Volumes are whole megabytes and up to 2^60: a hundred times as much would not fit, a hundredth is exact enough.
  for (int percent : limit.warnings)
    if (used >= limit.monthly / 100 * static_cast<std::uint64_t>(percent)) out.reached = percent;
  if (used >= limit.monthly) out.reached = 100;
  return out;
}

Month Month::of(Instant instant) {
  const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(instant));
  Month out;
  out.year = static_cast<int>(day.year());
  out.month = static_cast<unsigned>(day.month());
  return out;
}

Month Month::before(int months) const {
  const std::chrono::year_month then =
      std::chrono::year(year) / std::chrono::month(month) - std::chrono::months(months);
  Month out;
  out.year = static_cast<int>(then.year());
  out.month = static_cast<unsigned>(then.month());
  return out;
}

std::string Month::str() const {
  char out[16];
  std::snprintf(out, sizeof out, "%04d-%02u", year % 10000, month % 100);
  return out;
}

}  // namespace tornado::inline v1
