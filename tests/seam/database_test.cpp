#include "tornado/database.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <condition_variable>
#include <mutex>

#include "support/scratch.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

/// Keeps the first transaction of a batch on its thread until it is let go, so that others queue up behind it.
class Door {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

/// A caller beside others.
class Caller {
 public:
  explicit Caller(Database::Body body_, Scope scope_ = Scope::system()) : body(std::move(body_)), scope(scope_) {}
  Database::Body body;
  Scope scope;
  std::optional<Result<void>> result;
};

class DatabaseTest : public testing::Test {
 protected:
  DatabaseTest() : runtime_(RuntimeOptions().clock(clock_)), database_(open_sqlite(runtime_, path())) {}

  std::string path() const { return scratch_ / "test.db"; }
  Result<void> transact(Database::Body body, Scope scope = Scope::system()) {
    return runtime_.wait(database_->transact(std::move(scope), body));
  }
  Result<Rows> exec(const std::string& sql, const std::vector<Value>& params = {}) {
    Result<Rows> rows = errc::internal;
    auto done = transact([&](Tx& tx) -> Result<void> {
      rows = tx.exec(sql, params);
      return rows ? Result<void>() : rows.error();
    });
    if (!done) return done.error();
    return rows;
  }
  std::string text(const std::string& sql, const std::vector<Value>& params = {}) {
    auto rows = exec(sql, params);
    if (!rows) return rows.error().detail();
    std::string out;
    for (const auto& row : rows->rows)
      for (const auto& value : row) out += value.value_or("NULL") + " ";
    return out;
  }
  static Database::Body insert(int id) {
    return [id](Tx& tx) -> Result<void> {
      auto rows = tx.exec("INSERT INTO t (id) VALUES ($1)", {std::to_string(id)});
      return rows ? Result<void>() : rows.error();
    };
  }

  static Task<void> call(Database& database, Caller& caller) {
    caller.result = co_await database.transact(caller.scope, caller.body);
    co_return Result<void>();
  }
  Background spawn(Caller& caller) { return runtime_.spawn(call(*database_, caller)); }
  /// Until every caller has its answer.
  void finish(const std::vector<std::unique_ptr<Caller>>& callers) {
    auto nothing = []() -> Result<void> { return {}; };
    auto trip = [](Runtime& r, auto& fn) -> Task<void> { co_return co_await r.offload(Blocking::file, fn); };
    auto open = [&] { return std::any_of(callers.begin(), callers.end(), [](auto& c) { return !c->result; }); };
    for (int i = 0; i < 100'000 && open(); ++i) (void)runtime_.wait(trip(runtime_, nothing));
    ASSERT_FALSE(open());
  }

  ManualClock clock_;
  test::Scratch scratch_;
  Runtime runtime_;
  std::unique_ptr<Database> database_;
};

}  // namespace

TEST_F(DatabaseTest, FileIsPrivateAndDurable) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  struct stat info {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  EXPECT_EQ(text("PRAGMA journal_mode"), "wal ");
  EXPECT_EQ(text("PRAGMA synchronous"), "2 ") << "I-40: full";
  EXPECT_EQ(text("PRAGMA foreign_keys"), "1 ");
}

TEST_F(DatabaseTest, ParametersByNumberInAnyOrder) {
  EXPECT_EQ(text("SELECT $2, $1, $2", {"a", "b"}), "b a b ");
  EXPECT_EQ(text("SELECT $1 WHERE $2 = $1", {"x", "x"}), "x ");
  EXPECT_EQ(text("SELECT $11, $1", {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}), "11 1 ");
  EXPECT_EQ(text("SELECT coalesce($1, 'none')", {std::nullopt}), "none ");
  std::string binary("a\0b'\"\xff", 6);
  EXPECT_EQ(exec("SELECT $1", {binary})->rows[0][0], binary);
  EXPECT_EQ(text("SELECT 1", {}), "1 ");
  EXPECT_FALSE(exec("SELECT $1", {"a", "b"})) << "more values than places";
}

TEST_F(DatabaseTest, RowsAndCounts) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"));
  EXPECT_EQ(exec("INSERT INTO t VALUES (1,'a'),(2,NULL),(3,'')")->changed, 3U);
  EXPECT_EQ(text("SELECT v FROM t ORDER BY id"), "a NULL  ");
  EXPECT_EQ(exec("UPDATE t SET v='x' WHERE id > 1")->changed, 2U);
  EXPECT_EQ(text("DELETE FROM t WHERE id=1 RETURNING v"), "a ");
  EXPECT_EQ(text("INSERT INTO t VALUES (2,'y') ON CONFLICT (id) DO UPDATE SET v=excluded.v RETURNING v"), "y ");
}

TEST_F(DatabaseTest, ErrorsHaveTheirCodes) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0))"));
  ASSERT_TRUE(exec("INSERT INTO t VALUES (1, 1)"));
  EXPECT_EQ(exec("INSERT INTO t VALUES (1, 1)").error().code(), errc::already_exists);
  EXPECT_EQ(exec("INSERT INTO t VALUES (2, 0)").error().code(), errc::already_exists);
  EXPECT_EQ(exec("SELEC 1").error().code(), errc::internal);
  EXPECT_EQ(exec("SELECT * FROM nowhere").error().code(), errc::internal);
  EXPECT_EQ(text("SELECT count(*) FROM t"), "1 ");
}

TEST_F(DatabaseTest, FailedBodyRollsBackAndItsErrorIsReturned) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  auto failed = transact([](Tx& tx) -> Result<void> {
    EXPECT_TRUE(tx.exec("INSERT INTO t VALUES (1)"));
    return Error(errc::conflict, "mine");
  });
  EXPECT_EQ(failed.error().code(), errc::conflict);
  EXPECT_EQ(failed.error().detail(), "mine");
  auto thrown = transact([](Tx& tx) -> Result<void> {
    EXPECT_TRUE(tx.exec("INSERT INTO t VALUES (2)"));
    throw std::runtime_error("oops");
  });
  EXPECT_EQ(thrown.error().code(), errc::internal);
  EXPECT_EQ(text("SELECT count(*) FROM t"), "0 ");
  EXPECT_TRUE(exec("INSERT INTO t VALUES (3)")) << "the connection is usable afterwards";
}

// I-40: callers share a commit, each in a savepoint of its own.
TEST_F(DatabaseTest, GroupCommitLosesOnlyTheFailingBody) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  Door door;
  std::vector<std::unique_ptr<Caller>> callers;
  callers.push_back(std::make_unique<Caller>([&](Tx&) -> Result<void> {
    door.pass();
    return {};
  }));
  for (int i = 1; i <= 30; ++i) callers.push_back(std::make_unique<Caller>(insert(i)));
  callers.push_back(std::make_unique<Caller>(insert(7)));
  callers.push_back(std::make_unique<Caller>([](Tx& tx) -> Result<void> {
    EXPECT_TRUE(tx.exec("INSERT INTO t VALUES (100)"));
    return errc::conflict;
  }));
  callers.push_back(std::make_unique<Caller>([](Tx& tx) -> Result<void> {
    EXPECT_TRUE(tx.exec("INSERT INTO t VALUES (101)"));
    throw std::runtime_error("oops");
  }));
  callers.push_back(std::make_unique<Caller>(insert(31)));
  {
    std::vector<Background> running;
    for (auto& caller : callers) running.push_back(spawn(*caller));
    runtime_.settle();
    door.open();
    finish(callers);
  }
  for (int i = 0; i <= 30; ++i) EXPECT_TRUE(*callers[i]->result) << i;
  EXPECT_EQ(callers[31]->result->error().code(), errc::already_exists);
  EXPECT_EQ(callers[32]->result->error().code(), errc::conflict);
  EXPECT_EQ(callers[33]->result->error().code(), errc::internal);
  EXPECT_TRUE(*callers[34]->result);
  EXPECT_EQ(text("SELECT count(*), max(id) FROM t"), "31 31 ");
}

// I-11: refresh, close and heartbeat have reserved places.
TEST_F(DatabaseTest, FullQueueKeepsPlacesForUrgentCallers) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  Door door;
  Database::Body nothing = [](Tx&) { return Result<void>(); };
  std::vector<std::unique_ptr<Caller>> callers;
  std::vector<Background> running;
  auto add = [&](Database::Body body, Scope scope) {
    callers.push_back(std::make_unique<Caller>(std::move(body), scope));
    running.push_back(spawn(*callers.back()));
  };
  auto wait = [&](Tx&) -> Result<void> {
    door.pass();
    return {};
  };
  auto refused = [&] {
    runtime_.settle();
    return std::count_if(callers.begin(), callers.end(), [](auto& c) {
      return c->result && !*c->result && c->result->error().code() == errc::overloaded;
    });
  };
  add(wait, Scope::system());
  runtime_.settle();
  for (int i = 0; i < 3072; ++i) add(nothing, Scope::system());
  EXPECT_EQ(refused(), 0);
  add(nothing, Scope::system());
  EXPECT_EQ(refused(), 1);
  for (int i = 0; i < 1024; ++i) add(nothing, Scope::system().urgent());
  EXPECT_EQ(refused(), 1) << "reserved places";
  add(nothing, Scope::system().urgent());
  EXPECT_EQ(refused(), 2);
  door.open();
  finish(callers);
  EXPECT_EQ(refused(), 2) << "everybody who was taken was served";
  EXPECT_TRUE(exec("INSERT INTO t VALUES (1)"));
}

TEST_F(DatabaseTest, MigrationsAreIdempotentAndNewerSchemasAreRefused) {
  ASSERT_TRUE(runtime_.wait(database_->migrate()));
  std::string schema = text("SELECT group_concat(sql) FROM sqlite_master"),
              applied = text("SELECT * FROM schema_migrations");
  ASSERT_TRUE(runtime_.wait(database_->migrate()));
  EXPECT_EQ(text("SELECT group_concat(sql) FROM sqlite_master"), schema);
  EXPECT_EQ(text("SELECT * FROM schema_migrations"), applied);
  ASSERT_TRUE(exec("INSERT INTO schema_migrations VALUES (9999, 'future.sql', 'now')"));
  auto refused = runtime_.wait(database_->migrate());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), errc::failed_precondition);
  EXPECT_NE(refused.error().detail().find("9999"), std::string::npos);
}

TEST_F(DatabaseTest, ReopeningSeesTheData) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  ASSERT_TRUE(exec("INSERT INTO t VALUES (42)"));
  database_.reset();
  database_ = open_sqlite(runtime_, path());
  EXPECT_EQ(text("SELECT id FROM t"), "42 ") << "after a crash: nobody closed it";
  ASSERT_TRUE(runtime_.wait(database_->close()));
  EXPECT_EQ(exec("SELECT 1").error().code(), errc::store_unavailable);
  database_ = open_sqlite(runtime_, path());
  EXPECT_EQ(text("SELECT id FROM t"), "42 ");
}

TEST_F(DatabaseTest, WritesOfOthersAreNoticed) {
  ASSERT_TRUE(exec("CREATE TABLE t (id INTEGER PRIMARY KEY)"));
  EXPECT_FALSE(runtime_.wait(database_->changed_elsewhere()).value());
  ASSERT_TRUE(exec("INSERT INTO t VALUES (1)"));
  EXPECT_FALSE(runtime_.wait(database_->changed_elsewhere()).value()) << "our own do not count";
  auto other = open_sqlite(runtime_, path());
  Database::Body body = insert(2);
  ASSERT_TRUE(runtime_.wait(other->transact(Scope::system(), body)));
  EXPECT_TRUE(runtime_.wait(database_->changed_elsewhere()).value());
  EXPECT_FALSE(runtime_.wait(database_->changed_elsewhere()).value());
}

TEST_F(DatabaseTest, UnusableFilesHaveTheirCodes) {
  auto code_at = [&](const std::string& where) {
    auto database = open_sqlite(runtime_, where);
    Database::Body body = [](Tx& tx) -> Result<void> {
      auto rows = tx.exec("SELECT count(*) FROM sqlite_master");
      return rows ? Result<void>() : rows.error();
    };
    auto done = runtime_.wait(database->transact(Scope::system(), body));
    return done ? errc::internal : done.error().code();
  };
  EXPECT_EQ(code_at(scratch_ / "no/such/directory.db"), errc::store_unavailable);
  EXPECT_EQ(code_at(scratch_.str()), errc::store_unavailable) << "a directory";
  std::string garbage = scratch_ / "garbage.db";
  FILE* file = std::fopen(garbage.c_str(), "w");
  for (int i = 0; i < 1000; ++i) std::fputs("this is no database ", file);
  std::fclose(file);
  EXPECT_EQ(code_at(garbage), errc::data_loss);
}

TEST_F(DatabaseTest, MemoryDatabase) {
  database_ = open_sqlite(runtime_, ":memory:");
  ASSERT_TRUE(runtime_.wait(database_->migrate()));
  EXPECT_EQ(text("SELECT count(*) FROM users"), "0 ");
}
