#include "limits/policy_repo.hpp"

#include "base/try.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::policy_repo {

Result<std::optional<StoredPolicy>> latest(Tx& tx) {
  TRY_PLAIN(auto rows, tx.exec("SELECT version, document, applied_by, applied_at FROM access_policies "
                               "ORDER BY version DESC LIMIT 1"));
  std::optional<StoredPolicy> out;
  if (rows.empty()) return out;
  out.emplace();
  out->version = integer(rows[0][0]);
  out->document = text(rows[0][1]);
  out->applied_by = text(rows[0][2]);
  out->applied = instant(rows[0][3]);
  return out;
}

Result<StoredPolicy> insert(Tx& tx, const std::string& document, const std::string& by, Instant now) {
  TRY_PLAIN(auto rows,
            tx.exec("INSERT INTO access_policies (version, document, applied_by, applied_at) "
                    "SELECT coalesce(max(version), 0) + 1, $1, $2, $3 FROM access_policies RETURNING version",
                    {document, by, iso8601(now)}));
  StoredPolicy out;
  out.version = integer(rows[0][0]);
  out.document = document;
  out.applied_by = by;
  out.applied = now;
  return out;
}

Result<int> trim(Tx& tx, int kept, int limit) {
  TRY_PLAIN(auto rows,
            tx.exec("DELETE FROM access_policies WHERE version IN (SELECT version FROM access_policies WHERE "
                    "version <= (SELECT max(version) FROM access_policies) - CAST($1 AS BIGINT) "
                    "ORDER BY version LIMIT $2)",
                    {std::to_string(kept), std::to_string(limit)}));
  return static_cast<int>(rows.changed);
}

}  // namespace tornado::inline v1::policy_repo
