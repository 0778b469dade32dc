// What many sessions have counted goes into the journal in batches, and none of it is lost when one of them fails.
#include <gtest/gtest.h>

#include "base/task_group.hpp"
#include "support/scratch.hpp"
#include "tornado/database.hpp"
#include "tornado/manual_clock.hpp"
#include "tornado/session_store.hpp"

namespace tornado {
namespace {

constexpr int many = 1201;

/// Refuses the transactions that a test names, counted from the last `watch`.
class RefusingDatabase final : public Database {
 public:
  explicit RefusingDatabase(std::unique_ptr<Database> inner) : inner_(std::move(inner)) {}
  void watch(int refused) {
    count = 0;
    refused_ = refused;
  }
  Task<void> transact(Scope scope, Body& body) override {
    const bool refuses = ++count == refused_;
    if (refuses) co_return Error(errc::disk_full, "no room for this one");
    co_return co_await inner_->transact(scope, body);
  }
  Task<void> migrate() override { return inner_->migrate(); }
  Task<bool> changed_elsewhere() override { return inner_->changed_elsewhere(); }
  Task<void> close() override { return inner_->close(); }

  int count = 0;

 private:
  std::unique_ptr<Database> inner_;
  int refused_ = 0;
};

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : runtime_(RuntimeOptions().clock(clock_).blocking_threads(1)) {
    begin();
    TaskGroup opening(runtime_);
    for (int i = 0; i < many; ++i) opening.add("open", open(i));
    auto all = [](TaskGroup& group) -> Task<void> {
      co_await group.settled(1);
      co_return Result<void>();
    };
    EXPECT_TRUE(runtime_.wait(all(opening)));
  }
  ~CheckpointTest() override { sessions_.reset(); }

  /// As after a kill: what was not written is gone.
  void begin() {
    sessions_.reset();
    database_ = std::make_unique<RefusingDatabase>(open_sqlite(runtime_, scratch_ / "journal.db"));
    sessions_ = std::make_unique<SessionStore>(runtime_, *database_, SessionOptions(scratch_ / "unused.db"));
    ASSERT_TRUE(runtime_.wait(sessions_->restore(Seconds(900))));
  }

  static PublicKey key(int i) {
    std::array<std::uint8_t, PublicKey::size> bytes{};
    bytes[0] = static_cast<std::uint8_t>(i);
    bytes[1] = static_cast<std::uint8_t>(i >> 8);
    bytes[2] = 1;
    return PublicKey(bytes);
  }
  Task<void> open(int i) {
    std::vector<LaneAddress> addresses(
        1, LaneAddress(Lane("vpn"), Address::from_v4(0x0a080002U + static_cast<unsigned>(i))));
    const std::string name = std::to_string(i);
    NewSession wanted(UserId("user" + name), DeviceId("device" + name), addresses, key(i));
    auto opened = co_await sessions_->open(std::move(wanted));
    if (!opened) co_return opened.error();
    auto active = co_await sessions_->activate(opened->instance);
    co_return active ? Result<void>() : Result<void>(active.error());
  }
  void carry(std::uint64_t bytes) {
    Observation seen(Lane("vpn"));
    seen.received = bytes;
    seen.handshake = clock_.now();
    for (int i = 0; i < many; ++i) ASSERT_TRUE(sessions_->observe(key(i), seen));
  }
  int with(std::uint64_t bytes) {
    int count = 0;
    for (const auto& session : sessions_->list("", 10'000).sessions) count += session.received == bytes ? 1 : 0;
    return count;
  }

  test::Scratch scratch_;
  ManualClock clock_;
  Runtime runtime_;
  std::unique_ptr<RefusingDatabase> database_;
  std::unique_ptr<SessionStore> sessions_;
};

TEST_F(CheckpointTest, IsWrittenInBatches) {
  carry(1000);
  database_->watch(0);
  ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
  EXPECT_EQ(database_->count, 3) << "of 500 at most";
  EXPECT_TRUE(runtime_.wait(sessions_->checkpoint()));
  EXPECT_EQ(database_->count, 3) << "nothing has changed since";
  begin();
  EXPECT_EQ(with(1000), many);
  for (int i = 0; i < many; ++i)
    EXPECT_EQ(sessions_->find(key(i))->addresses.front().v4, Address::from_v4(0x0a080002U + static_cast<unsigned>(i)))
        << "whichever page of the journal it was on";
}

TEST_F(CheckpointTest, WhatABatchThatFailedLeftIsWrittenByTheNextOne) {
  carry(1000);
  database_->watch(2);
  EXPECT_EQ(runtime_.wait(sessions_->checkpoint()).error().code(), errc::disk_full);
  EXPECT_EQ(database_->count, 2) << "those after it do not try";
  ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
  EXPECT_EQ(database_->count, 4) << "only what was not written";
  begin();
  EXPECT_EQ(with(1000), many);
}

TEST_F(CheckpointTest, CountersRestartInMemoryWhateverBecomesOfTheirJournal) {  // I-09
  carry(1000);
  std::vector<RestartedCounters> restarted;
  for (int i = 0; i < many; ++i) restarted.emplace_back(*sessions_->instance_of(key(i)), Lane("vpn"));
  database_->watch(2);
  EXPECT_EQ(runtime_.wait(sessions_->counters_restarted(restarted)).error().code(), errc::disk_full);
  EXPECT_EQ(database_->count, 2);
  carry(300);
  EXPECT_EQ(with(1300), many) << "300 of the new counters on top of 1000 of the old ones";
  ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
  begin();
  EXPECT_EQ(with(1300), many);
}

}  // namespace
}  // namespace tornado
