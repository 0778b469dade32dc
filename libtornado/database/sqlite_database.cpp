#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/batcher.hpp"
#include "base/try.hpp"
#include "database/migrate.hpp"
#include "tornado/database.hpp"

namespace tornado::inline v1 {
namespace {

errc code_of(int rc) {
  // The index of the write-ahead log could not be made as large as it has to be.
  if (rc == SQLITE_IOERR_SHMSIZE) return errc::disk_full;
  switch (rc & 0xff) {
    case SQLITE_CONSTRAINT:
      return errc::already_exists;
    case SQLITE_FULL:
      return errc::disk_full;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return errc::store_unavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return errc::data_loss;
    default:
      return errc::internal;
  }
}

/// SQLite takes $2 for a name and numbers parameters as they come; ?2 is the second one wherever it stands.
std::string with_numbered_parameters(std::string_view sql) {
  std::string out(sql);
  for (std::size_t i = 0; i + 1 < out.size(); ++i)
    if (out[i] == '$' && out[i + 1] >= '0' && out[i + 1] <= '9') out[i] = '?';
  return out;
}

struct CloseStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
struct CloseConnection {
  void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};

/// One connection with its prepared statements. Used by one thread at a time.
class Connection final : public Tx {
 public:
  Result<void> open(const std::string& path) {
    // SQLite makes files with the umask's mode; ours is 0600 from the first moment.
    if (path != ":memory:") {
      int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
      if (fd < 0) return Error(errc::store_unavailable, path + ": " + std::strerror(errno));
      ::close(fd);
    }
    sqlite3* raw = nullptr;
    int rc =
        sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    connection_.reset(raw);
    if (rc != SQLITE_OK) return failure(rc, "open " + path);
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, 5000);
    for (const char* pragma : {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON",
                               "PRAGMA temp_store=MEMORY", "PRAGMA cache_size=-1024"})
      TRY_VOID_PLAIN(run(pragma));
    return {};
  }

  bool is_open() const noexcept { return connection_ != nullptr; }

  void close() {
    statements_.clear();
    connection_.reset();
  }

  Result<void> run(const char* sql) {
    int rc = sqlite3_exec(connection_.get(), sql, nullptr, nullptr, nullptr);
    return rc == SQLITE_OK ? Result<void>() : failure(rc, sql);
  }

  /// One statement that is run often: it stays prepared.
  Result<void> again(std::string_view sql) {
    TRY_PLAIN(sqlite3_stmt * statement, prepare(sql));
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc == SQLITE_DONE ? Result<void>() : failure(rc, sql);
  }

  Result<Rows> exec(std::string_view sql, const std::vector<Value>& params) override {
    TRY_PLAIN(sqlite3_stmt * statement, prepare(sql));
    for (std::size_t i = 0; i < params.size(); ++i) {
      int at = static_cast<int>(i) + 1;
      int rc = params[i] ? sqlite3_bind_text64(statement, at, params[i]->data(), params[i]->size(), SQLITE_STATIC,
                                               SQLITE_UTF8)
                         : sqlite3_bind_null(statement, at);
      if (rc != SQLITE_OK) return Error(errc::internal, "parameter " + std::to_string(at) + " of: " + std::string(sql));
    }
    auto rows = step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rows;
  }

  /// Several statements without parameters: a migration.
  Result<void> script(const std::string& sql) { return run(sql.c_str()); }

  bool in_transaction() const { return sqlite3_get_autocommit(connection_.get()) == 0; }

 private:
  Result<sqlite3_stmt*> prepare(std::string_view sql) {
    auto it = statements_.find(sql);
    if (it != statements_.end()) return it->second.get();
    sqlite3_stmt* raw = nullptr;
    std::string numbered = with_numbered_parameters(sql);
    int rc = sqlite3_prepare_v3(connection_.get(), numbered.data(), static_cast<int>(numbered.size()),
                                SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (rc != SQLITE_OK) return failure(rc, sql);
    statements_.emplace(std::string(sql), std::unique_ptr<sqlite3_stmt, CloseStatement>(raw));
    return raw;
  }

  Result<Rows> step(sqlite3_stmt* statement) {
    Rows out;
    int columns = sqlite3_column_count(statement);
    int rc = SQLITE_ROW;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
      auto& row = out.rows.emplace_back();
      row.reserve(static_cast<std::size_t>(columns));
      for (int c = 0; c < columns; ++c) {
        const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, c));
        if (text == nullptr)
          row.emplace_back(std::nullopt);
        else
          row.emplace_back(std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement, c))));
      }
    }
    if (rc != SQLITE_DONE) return failure(rc, sqlite3_sql(statement));
    out.changed = static_cast<std::uint64_t>(sqlite3_changes(connection_.get()));
    return out;
  }

  Error failure(int rc, std::string_view what) const {
    std::string message = connection_ != nullptr ? sqlite3_errmsg(connection_.get()) : sqlite3_errstr(rc);
    if (rc == SQLITE_IOERR_SHMSIZE) message = sqlite3_errstr(SQLITE_FULL);
    return Error(code_of(rc), message + " (" + std::string(what.substr(0, 160)) + ")");
  }

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unique_ptr<sqlite3, CloseConnection> connection_;
  std::unordered_map<std::string, std::unique_ptr<sqlite3_stmt, CloseStatement>, Hash, std::equal_to<>> statements_;
};

/// A caller of `transact`, in its coroutine frame, until its commit is durable.
struct Waiting {
  Waiting(Database::Body& body_, bool urgent_) : body(body_), urgent(urgent_) {}
  Database::Body& body;
  bool urgent;
  Result<void> result;
};

constexpr std::size_t most_waiting = 4096;
constexpr std::size_t reserved_places = 1024;
constexpr std::size_t most_in_commit = 64;

class SqliteDatabase final : public Database {
 public:
  SqliteDatabase(Runtime& runtime, std::string path, std::uint64_t reserve)
      : runtime_(runtime),
        path_(std::move(path)),
        reserve_(path_ == ":memory:" ? 0 : reserve),
        latency_(runtime.metrics().histogram("tornado_database_commit_seconds",
                                             "Time of a group commit, waiting for its thread included.")),
        commits_(runtime, most_in_commit) {}

  Task<void> transact(Scope scope, Body& body) override {
    std::size_t limit = scope.is_urgent() ? most_waiting : most_waiting - reserved_places;
    if (commits_.waiting() >= limit) co_return Error(errc::overloaded, "too many transactions wait");
    Waiting self(body, scope.is_urgent());
    auto run = [this](std::vector<Waiting*>& batch) { return commit(batch); };
    co_await commits_.join(self, run);
    co_return std::move(self.result);
  }

  std::size_t waiting() const noexcept override { return commits_.waiting(); }

  Task<void> migrate() override {
    Body body = [this](Tx& tx) {
      return apply_migrations(tx, runtime_.now(), [this](const std::string& sql) { return connection_.script(sql); });
    };
    co_return co_await transact(Scope::system(), body);
  }

  Task<bool> changed_elsewhere() override {
    bool changed = false;
    Body body = [&](Tx& tx) -> Result<void> {
      TRY_PLAIN(auto rows, tx.exec("PRAGMA data_version"));
      std::string version = rows[0][0].value_or("");
      changed = !data_version_.empty() && version != data_version_;
      data_version_ = version;
      return {};
    };
    TRY_VOID(co_await transact(Scope::system(), body));
    co_return changed;
  }

  Task<void> close() override {
    Body nothing = [](Tx&) { return Result<void>(); };
    auto last = co_await transact(Scope::system().urgent(), nothing);
    closed_ = true;
    auto shut = [this]() -> Result<void> {
      connection_.close();
      return {};
    };
    TRY_VOID(co_await runtime_.offload(Blocking::database, shut));
    co_return last;
  }

 private:
  /// Runs the bodies in one transaction, off the loop.
  boost::asio::awaitable<void> commit(std::vector<Waiting*>& batch) {
    auto job = [&]() -> Result<void> { return run_batch(batch); };
    Stopwatch watch;
    Result<void> outcome = co_await runtime_.offload(Blocking::database, job);
    latency_.observe(watch.seconds());
    if (outcome) co_return;
    for (Waiting* waiting : batch) waiting->result = outcome.error();
  }

  /// An error of this function is everybody's; an error of one body is its own.
  Result<void> run_batch(const std::vector<Waiting*>& batch) {
    if (closed_) return Error(errc::store_unavailable, "the database is closed");
    TRY_VOID_PLAIN(ensure_open());
    auto outcome = try_batch(batch);
    if (outcome || outcome.error().code() != errc::disk_full) {
      if (outcome && reserve_ > 0 && !reserve_held_) hold_reserve();
      return outcome;
    }
    bool urgent = std::any_of(batch.begin(), batch.end(), [](const Waiting* w) { return w->urgent; });
    if (!urgent || !give_up_reserve()) return outcome;
    return try_urgent(batch);
  }

  /// The reserve is for urgent transactions alone: the others of the batch are told that the disk is full.
  Result<void> try_urgent(const std::vector<Waiting*>& batch) {
    std::vector<Waiting*> urgent;
    for (Waiting* waiting : batch) {
      if (waiting->urgent)
        urgent.push_back(waiting);
      else
        waiting->result = Error(errc::disk_full, "the disk is full");
    }
    return try_batch(urgent);
  }

  Result<void> try_batch(const std::vector<Waiting*>& batch) {
    TRY_VOID_PLAIN(connection_.again("BEGIN IMMEDIATE"));
    for (Waiting* waiting : batch) {
      waiting->result = batch.size() == 1 ? run_body(*waiting) : in_savepoint(*waiting);
      bool lost = !connection_.in_transaction();
      bool full = !waiting->result && waiting->result.error().code() == errc::disk_full;
      if (lost || full)
        return abandon(waiting->result ? Error(errc::store_unavailable, "transaction was rolled back")
                                       : waiting->result.error());
    }
    if (batch.size() == 1 && !batch[0]->result) {
      TRY_VOID_PLAIN(connection_.again("ROLLBACK"));
      return {};
    }
    if (auto committed = connection_.again("COMMIT"); !committed) return abandon(committed.error());
    return {};
  }

  Result<void> run_body(Waiting& waiting) {
    try {
      return waiting.body(connection_);
    } catch (const std::exception& e) {
      return Error(errc::internal, e.what());
    }
  }

  Result<void> in_savepoint(Waiting& waiting) {
    TRY_VOID_PLAIN(connection_.again("SAVEPOINT caller"));
    auto result = run_body(waiting);
    if (!result && connection_.in_transaction()) TRY_VOID_PLAIN(connection_.again("ROLLBACK TO caller"));
    if (connection_.in_transaction()) TRY_VOID_PLAIN(connection_.again("RELEASE caller"));
    return result;
  }

  Result<void> abandon(Error why) {
    if (connection_.in_transaction()) (void)connection_.again("ROLLBACK");
    return why;
  }

  Result<void> ensure_open() {
    if (connection_.is_open()) return {};
    auto opened = open_connection();
    // Opening makes files too: on a full disk the reserve of an earlier run has room for them.
    if (!opened && reserve_ > 0 && ::unlink(reserve_path().c_str()) == 0) opened = open_connection();
    if (opened && reserve_ > 0) hold_reserve();
    return opened;
  }

  Result<void> open_connection() {
    auto opened = connection_.open(path_);
    if (!opened) connection_.close();
    return opened;
  }

  std::string reserve_path() const { return path_ + ".reserve"; }

  void hold_reserve() {
    int fd = ::open(reserve_path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) return;
    reserve_held_ = ::posix_fallocate(fd, 0, static_cast<off_t>(reserve_)) == 0;
    ::close(fd);
    if (!reserve_held_) ::unlink(reserve_path().c_str());
  }

  bool give_up_reserve() {
    bool held = reserve_held_;
    reserve_held_ = false;
    return ::unlink(reserve_path().c_str()) == 0 && held;
  }

  Runtime& runtime_;
  const std::string path_;
  const std::uint64_t reserve_;
  MetricHistogram& latency_;
  bool reserve_held_ = false;
  std::atomic<bool> closed_ = false;
  Connection connection_;
  std::string data_version_;
  Batcher<Waiting> commits_;
};

}  // namespace

std::unique_ptr<Database> open_sqlite(Runtime& runtime, std::string path, std::uint64_t reserve) {
  return std::make_unique<SqliteDatabase>(runtime, std::move(path), reserve);
}

}  // namespace tornado::inline v1
