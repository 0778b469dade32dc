#include "database/migrate.hpp"

#include <charconv>

#include "base/embedded_file.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

int version_of(std::string_view file) {
  int version = 0;
  std::from_chars(file.data(), file.data() + file.size(), version);
  return version;
}

}  // namespace

Result<void> apply_migrations(Tx& tx, Instant now, const std::function<Result<void>(const std::string&)>& script) {
  TRY_VOID_PLAIN(
      tx.exec("CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, "
              "applied_at TIMESTAMPTZ NOT NULL)"));
  TRY_PLAIN(auto rows, tx.exec("SELECT coalesce(max(version), 0) FROM schema_migrations"));
  int applied = std::stoi(rows[0][0].value_or("0"));
  int newest = 0;
  for (const EmbeddedFile& file : embedded_migrations()) {
    int version = version_of(file.name);
    newest = std::max(newest, version);
    if (version <= applied) continue;
    TRY_VOID_PLAIN(script(std::string(file.text)));
    TRY_VOID_PLAIN(tx.exec("INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)",
                           {std::to_string(version), std::string(file.name), iso8601(now)}));
  }
  if (applied > newest)
    return Error(errc::failed_precondition, "the database has schema version " + std::to_string(applied) +
                                                ", this program knows " + std::to_string(newest) + ": run a newer one");
  return {};
}

}  // namespace tornado::inline v1
