#include "limits/usage_repo.hpp"

#include "base/try.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::usage_repo {

Result<void> put(Tx& tx, Month month, const std::vector<SessionUsage>& usage) {
  for (const SessionUsage& one : usage)
    TRY_VOID_PLAIN(
        tx.exec("INSERT INTO session_usage (instance, month, user_id, bytes) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (instance, month) DO UPDATE SET bytes = excluded.bytes",
                {one.instance.str(), month.str(), one.user.str(), std::to_string(one.bytes)}));
  return {};
}

Result<void> close(Tx& tx, Month month, const SessionUsage& total) {
  TRY_PLAIN(auto earlier,
            tx.exec("SELECT coalesce(sum(bytes), 0) FROM session_usage WHERE instance = $1 AND month <> $2",
                    {total.instance.str(), month.str()}));
  const auto before = static_cast<std::uint64_t>(integer(earlier[0][0]));
  SessionUsage share = total;
  share.bytes = total.bytes > before ? total.bytes - before : 0;
  TRY_VOID_PLAIN(put(tx, month, {share}));
  TRY_VOID_PLAIN(tx.exec("UPDATE session_usage SET is_open = FALSE WHERE instance = $1", {total.instance.str()}));
  return {};
}

Result<QuotaBook::Settled> settled(Tx& tx, Month month) {
  TRY_PLAIN(auto rows, tx.exec("SELECT user_id, sum(bytes) FROM session_usage WHERE month = $1 AND is_open = FALSE "
                               "GROUP BY user_id",
                               {month.str()}));
  QuotaBook::Settled out;
  for (const auto& row : rows.rows) out[UserId(text(row[0]))] = static_cast<std::uint64_t>(integer(row[1]));
  return out;
}

Result<QuotaBook::Bases> bases(Tx& tx, Month month) {
  TRY_PLAIN(auto rows, tx.exec("SELECT instance, sum(bytes) FROM session_usage WHERE is_open = TRUE AND month <> $1 "
                               "GROUP BY instance",
                               {month.str()}));
  QuotaBook::Bases out;
  for (const auto& row : rows.rows) out[Instance(text(row[0]))] = static_cast<std::uint64_t>(integer(row[1]));
  return out;
}

Result<int> trim(Tx& tx, Month first_kept, const Instance& oldest, int limit) {
  TRY_PLAIN(auto usage, tx.exec("DELETE FROM session_usage WHERE (instance, month) IN (SELECT instance, month FROM "
                                "session_usage WHERE month < $1 AND (is_open = FALSE OR instance < $2) LIMIT $3)",
                                {first_kept.str(), oldest.str(), std::to_string(limit)}));
  TRY_PLAIN(auto notices,
            tx.exec("DELETE FROM quota_notices WHERE (user_id, month, percent) IN (SELECT user_id, month, percent FROM "
                    "quota_notices WHERE month < $1 LIMIT $2)",
                    {first_kept.str(), std::to_string(limit)}));
  return static_cast<int>(usage.changed + notices.changed);
}

Result<std::vector<MonthlyUsage>> months_of(Tx& tx, const UserId& user) {
  TRY_PLAIN(auto rows, tx.exec("SELECT month, sum(bytes) FROM session_usage WHERE user_id = $1 GROUP BY month "
                               "ORDER BY month DESC LIMIT 120",
                               {user.str()}));
  std::vector<MonthlyUsage> out;
  for (const auto& row : rows.rows) {
    MonthlyUsage& one = out.emplace_back();
    one.month = text(row[0]);
    one.bytes = static_cast<std::uint64_t>(integer(row[1]));
  }
  return out;
}

Result<bool> note(Tx& tx, const UserId& user, Month month, int percent, Instant now) {
  TRY_PLAIN(auto rows, tx.exec("INSERT INTO quota_notices (user_id, month, percent, noted_at) VALUES ($1, $2, $3, $4) "
                               "ON CONFLICT (user_id, month, percent) DO NOTHING RETURNING percent",
                               {user.str(), month.str(), std::to_string(percent), iso8601(now)}));
  return !rows.empty();
}

}  // namespace tornado::inline v1::usage_repo
