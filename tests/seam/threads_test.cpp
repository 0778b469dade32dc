// What may be called from any thread, called from several at once. ThreadSanitizer is the reader of most of this.
#include <gtest/gtest.h>

#include <atomic>
#include <boost/json/parse.hpp>
#include <sstream>
#include <thread>

#include "support/scratch.hpp"
#include "tornado/database.hpp"
#include "tornado/key_rotator.hpp"

using namespace tornado;

namespace {

/// Starts that many threads, each with its number.
template <class Fn>
std::vector<std::thread> together(int count, Fn fn) {
  std::vector<std::thread> out;
  for (int i = 0; i < count; ++i) out.emplace_back([fn, i] { fn(i); });
  return out;
}

void join(std::vector<std::thread>& threads) {
  for (auto& thread : threads) thread.join();
}

Task<int> doubled(Runtime& runtime, int value) {
  auto work = [value]() -> Result<int> { return value * 2; };
  co_return co_await runtime.offload(Blocking::file, work);
}

Task<void> tick(Runtime& runtime, int& ticks) {
  for (;;) {
    ++ticks;
    Instant next = runtime.now() + std::chrono::milliseconds(1);
    bool woken = co_await runtime.sleep_until(next);
    if (!woken) co_return Error(errc::cancelled);
  }
}

Task<void> count(Database& database) {
  Database::Body body = [](Tx& tx) -> Result<void> {
    auto rows = tx.exec("UPDATE t SET n = n + 1");
    return rows ? Result<void>() : rows.error();
  };
  co_return co_await database.transact(Scope::system(), body);
}

}  // namespace

TEST(Threads, TasksAndCallsFromForeignThreads) {
  Runtime runtime;
  int calls = 0, ticks = 0;
  LoopThread loop = runtime.start();
  std::atomic<int> wrong = 0;
  auto threads = together(4, [&](int number) {
    for (int i = 0; i < 50; ++i) {
      if (runtime.wait(doubled(runtime, i)).value() != 2 * i) ++wrong;
      runtime.call([&] { ++calls; });
      if (number == 0) Background beside = runtime.spawn(tick(runtime, ticks));
    }
  });
  join(threads);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(runtime.call([&] { return calls; }), 200);
}

TEST(Threads, ALoopThreadEndsBeforeWhatRunsOnIt) {
  Runtime runtime;
  int ticks = 0;
  Background beside;
  {
    LoopThread loop = runtime.start();
    beside = runtime.spawn(tick(runtime, ticks));
    EXPECT_EQ(runtime.wait(doubled(runtime, 4)).value(), 8);
  }
  int before = ticks;
  EXPECT_EQ(runtime.wait(doubled(runtime, 5)).value(), 10);
  beside.stop();
  EXPECT_GE(ticks, before);
}

TEST(Threads, TransactionsFromForeignThreads) {
  test::Scratch scratch;
  Runtime runtime;
  auto database = open_sqlite(runtime, scratch / "db", 0);
  std::string total;
  {
    LoopThread loop = runtime.start();
    Database::Body make = [](Tx& tx) -> Result<void> {
      auto made = tx.exec("CREATE TABLE t (n INTEGER)");
      if (made) made = tx.exec("INSERT INTO t VALUES (0)");
      return made ? Result<void>() : made.error();
    };
    runtime.wait(database->transact(Scope::system(), make)).value();
    std::atomic<int> failed = 0;
    auto threads = together(4, [&](int) {
      for (int i = 0; i < 25; ++i)
        if (!runtime.wait(count(*database))) ++failed;
    });
    join(threads);
    EXPECT_EQ(failed, 0);
    Database::Body read = [&](Tx& tx) -> Result<void> {
      auto rows = tx.exec("SELECT n FROM t");
      if (!rows) return rows.error();
      total = (*rows)[0][0].value_or("");
      return {};
    };
    runtime.wait(database->transact(Scope::system(), read)).value();
  }
  EXPECT_EQ(total, "100");
  runtime.wait(database->close()).value();
}

TEST(Threads, KeyRingWhileKeysRotate) {
  test::Scratch scratch;
  Runtime runtime;
  KeyRotator rotator(runtime, KeyOptions(scratch / "keys"));
  runtime.wait(rotator.open()).value();
  LoopThread loop = runtime.start();
  std::atomic<bool> over = false;
  std::atomic<int> wrong = 0, rounds = 0;
  auto threads = together(3, [&](int) {
    while (!over) {
      auto ring = rotator.ring();
      auto seconds = std::to_string(std::chrono::duration_cast<Seconds>(runtime.now().time_since_epoch()).count());
      auto token = ring->sign(KeyUse::access, R"({"iat":)" + seconds + R"(,"exp":99999999999})");
      if (!token || !rotator.ring()->verify(KeyUse::access, *token, runtime.now())) ++wrong;
      if (ring->agree(ring->login_key(), runtime.now()).empty() || ring->jwks().empty()) ++wrong;
      ++rounds;
    }
  });
  for (int i = 0; i < 100 || rounds < 20; ++i) runtime.wait(rotator.rotate(KeyUse::login)).value();
  runtime.wait(rotator.rotate(KeyUse::access)).value();
  over = true;
  join(threads);
  EXPECT_EQ(wrong, 0);
}

TEST(Threads, LogLinesStayWhole) {
  testing::internal::CaptureStderr();
  auto log = json_log(LogLevel::info);
  auto threads = together(3, [&](int number) {
    for (int i = 0; i < 100; ++i) log->write(LogLevel::info, "line", {{"thread", std::to_string(number)}});
  });
  join(threads);
  std::istringstream written(testing::internal::GetCapturedStderr());
  int lines = 0;
  for (std::string line; std::getline(written, line); ++lines)
    EXPECT_EQ(boost::json::parse(line).at("event").as_string(), "line");
  EXPECT_EQ(lines, 300);
}
