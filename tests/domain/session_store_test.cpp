#include "tornado/session_store.hpp"

#include <gtest/gtest.h>

#include "support/scratch.hpp"
#include "tornado/database.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

class SessionStoreTest : public testing::Test {
 protected:
  SessionStoreTest() : runtime_(RuntimeOptions().clock(clock_).blocking_threads(1)) { begin(); }

  void begin() {
    SessionOptions options(scratch_ / "journal.db");
    options.idle_ttl = Seconds(86400);
    options.hard_ttl = Seconds(2 * 86400);
    sessions_.reset();
    sessions_ = std::make_unique<SessionStore>(runtime_, options);
    restored_ = runtime_.wait(sessions_->restore(Seconds(900))).value();
  }

  Session open(const std::string& device, int last_octet, std::uint8_t key) {
    std::array<std::uint8_t, PublicKey::size> bytes{};
    bytes.fill(key);
    std::vector<LaneAddress> addresses = {
        LaneAddress(Lane("vpn"), Address::from_v4(0x0a080000U + static_cast<unsigned>(last_octet)))};
    NewSession wanted(UserId("user"), DeviceId(device), addresses, PublicKey(bytes));
    Session session = runtime_.wait(sessions_->open(std::move(wanted))).value();
    return runtime_.wait(sessions_->activate(session.instance)).value();
  }

  void step(Seconds by) {
    clock_.advance(by);
    sessions_->clock_stepped(ClockStep(by, clock_.now(), clock_.now()));
  }

  test::Scratch scratch_;
  ManualClock clock_;
  Runtime runtime_;
  std::unique_ptr<SessionStore> sessions_;
  RestoredSessions restored_;
};

}  // namespace

TEST_F(SessionStoreTest, AReadingLikeTheOneBeforeHasNotMoved) {
  Session session = open("laptop", 2, 9);
  Observation seen(Lane("vpn"));
  seen.received = 1000;
  seen.handshake = clock_.now();
  seen.source = Address::parse("192.0.2.7").value();
  EXPECT_FALSE(sessions_->unmoved(session.key, seen)) << "the first of its lane";
  ASSERT_TRUE(sessions_->observe(session.key, seen));
  EXPECT_TRUE(sessions_->unmoved(session.key, seen));
  seen.source = Address::parse("192.0.2.8").value();
  EXPECT_FALSE(sessions_->unmoved(session.key, seen)) << "the client has roamed";
  ASSERT_TRUE(sessions_->observe(session.key, seen));
  EXPECT_EQ(sessions_->find(session.instance)->roamed, 1u);
  ASSERT_TRUE(runtime_.wait(sessions_->end(session.instance, CloseReason::killed)));
  EXPECT_FALSE(sessions_->unmoved(session.key, seen)) << "it is not live any more";
  EXPECT_EQ(sessions_->observe(session.key, seen).error().code(), errc::not_found);
}

TEST_F(SessionStoreTest, AStepOfTheClockMakesNothingDue) {  // I-44
  Session session = open("laptop", 2, 9);
  ASSERT_TRUE(sessions_->beat(session.device, std::nullopt));
  step(Seconds(10 * 86400));
  EXPECT_TRUE(sessions_->due().empty());
  EXPECT_TRUE(sessions_->fade().empty());
  clock_.advance(Seconds(86399));
  EXPECT_TRUE(sessions_->due().empty()) << "idle time counts from the last beat, in real time";
  clock_.advance(Seconds(1));
  ASSERT_EQ(sessions_->due().size(), 1u);
  EXPECT_EQ(sessions_->due()[0].second, CloseReason::idle);
}

TEST_F(SessionStoreTest, AClockSetBackKeepsPresenceTrue) {
  Session session = open("laptop", 2, 9);
  ASSERT_TRUE(sessions_->beat(session.device, std::nullopt));
  step(-Seconds(86400));
  EXPECT_TRUE(sessions_->fade().empty());
  clock_.advance(Seconds(600));
  EXPECT_EQ(sessions_->fade().size(), 1u) << "silent for ten minutes, whatever the clock said before";
}

TEST_F(SessionStoreTest, DeadlinesFollowAStepIntoTheJournal) {
  Session session = open("laptop", 2, 9);
  step(Seconds(10 * 86400));
  ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
  begin();
  clock_.advance(Seconds(3600));
  EXPECT_TRUE(sessions_->due().empty());
  EXPECT_EQ(sessions_->find(session.device)->hard_deadline, session.hard_deadline + Seconds(10 * 86400));
}

TEST_F(SessionStoreTest, AKeyOfAnUnclosedSessionIsRefused) {  // I-01
  Session session = open("laptop", 2, 9);
  ASSERT_TRUE(runtime_.wait(sessions_->end(session.instance, CloseReason::killed)));
  std::vector<LaneAddress> addresses = {LaneAddress(Lane("vpn"), Address::from_v4(0x0a080003U))};
  auto again = runtime_.wait(sessions_->open(NewSession(session.user, session.device, addresses, session.key)));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), errc::key_in_use);
}

TEST_F(SessionStoreTest, WhatBeganAfterAStepIsNotMovedByIt) {
  clock_.advance(-Seconds(10 * 86400));
  Instant since = clock_.now();
  Session session = open("laptop", 2, 9);
  clock_.advance(Seconds(1));
  sessions_->clock_stepped(ClockStep(-Seconds(10 * 86400), since, clock_.now()));
  EXPECT_EQ(sessions_->find(session.device)->hard_deadline, session.hard_deadline);
  clock_.advance(Seconds(3600));
  EXPECT_TRUE(sessions_->due().empty());
}

TEST_F(SessionStoreTest, AnOldHandshakeIsNoSignOfLifeAfterTheClockWasSetBack) {
  Session session = open("laptop", 2, 9);
  Observation seen(Lane("vpn"));
  seen.handshake = clock_.now();
  ASSERT_TRUE(sessions_->observe(session.instance, seen));
  step(-Seconds(86400));
  clock_.advance(Seconds(600));
  ASSERT_EQ(sessions_->fade().size(), 1u);
  EXPECT_EQ(*sessions_->observe(session.instance, seen), Presence::offline) << "the same handshake as before";
  seen.handshake = clock_.now();
  EXPECT_EQ(*sessions_->observe(session.instance, seen), Presence::idle);
  EXPECT_EQ(sessions_->find(session.instance)->presence_reason, PresenceReason::handshake);
}

TEST_F(SessionStoreTest, AnAddressFreedBeforeAStepRestsAcrossARestart) {  // I-02, I-08
  Session session = open("laptop", 2, 9);
  ASSERT_TRUE(runtime_.wait(sessions_->end(session.instance, CloseReason::killed)));
  ASSERT_TRUE(runtime_.wait(sessions_->record(session.instance)));
  Instant freed = clock_.now();
  clock_.advance(Seconds(60));
  step(Seconds(86400));
  ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
  sessions_.reset();
  begin();
  ASSERT_EQ(restored_.freed.size(), 1u);
  EXPECT_EQ(restored_.freed[0].freed, freed + Seconds(86400));
}

TEST_F(SessionStoreTest, WhoTakesAddressesOverMayHaveConnectionsOfBefore) {  // I-25
  Session session = open("laptop", 2, 9);
  EXPECT_FALSE(session.bytes_missed);
  EXPECT_TRUE(open("laptop", 2, 10).bytes_missed);
}

TEST_F(SessionStoreTest, TheReasonIsThatOfTheLatestSign) {
  Session session = open("laptop", 2, 9);
  EXPECT_EQ(sessions_->find(session.device)->presence_reason, PresenceReason::connected);
  begin();
  EXPECT_EQ(sessions_->find(session.device)->presence_reason, PresenceReason::restored);
  clock_.advance(Seconds(1));
  ASSERT_TRUE(sessions_->beat(session.device, std::nullopt));
  EXPECT_EQ(sessions_->find(session.device)->presence_reason, PresenceReason::heartbeat);
}

TEST_F(SessionStoreTest, OldTrafficDoesNotExplainWhatAHandshakeBroughtBack) {
  Session session = open("laptop", 2, 9);
  clock_.advance(Seconds(95));
  Observation seen(Lane("vpn"));
  ASSERT_TRUE(sessions_->observe(session.instance, seen));
  clock_.advance(Seconds(5));
  seen.received = 10'000;
  seen.handshake = clock_.now();
  ASSERT_EQ(*sessions_->observe(session.instance, seen), Presence::online);
  clock_.advance(Seconds(205));
  ASSERT_EQ(sessions_->fade().size(), 1u);
  seen.received = 10'180;
  seen.handshake = clock_.now();
  ASSERT_EQ(*sessions_->observe(session.instance, seen), Presence::online);
  EXPECT_EQ(sessions_->find(session.device)->presence_reason, PresenceReason::handshake);
}

TEST_F(SessionStoreTest, AJournalOfAnEarlierVersionIsRead) {
  const std::string path = scratch_ / "earlier.db";
  auto database = open_sqlite(runtime_, path);
  Database::Body body = [](Tx& tx) -> Result<void> {
    auto made = tx.exec(
        "CREATE TABLE session_journal (instance TEXT PRIMARY KEY, user_id TEXT NOT NULL, device_id TEXT NOT NULL, "
        "public_key TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, client_ip TEXT, opened_ms BIGINT NOT NULL, "
        "activated_ms BIGINT NOT NULL DEFAULT 0, ended_ms BIGINT NOT NULL DEFAULT 0, hard_deadline_ms BIGINT NOT NULL, "
        "bytes_rx BIGINT NOT NULL DEFAULT 0, bytes_tx BIGINT NOT NULL DEFAULT 0, drained INTEGER NOT NULL DEFAULT 0, "
        "addresses TEXT NOT NULL, counters TEXT NOT NULL DEFAULT '')");
    if (!made) return made.error();
    auto row = tx.exec(
        "INSERT INTO session_journal (instance, user_id, device_id, public_key, state, client_ip, opened_ms, "
        "hard_deadline_ms, addresses) VALUES ('i', 'user', 'laptop', $1, 'active', '203.0.113.9', 1, 2, "
        "'vpn 10.8.0.2')",
        {PublicKey(std::array<std::uint8_t, PublicKey::size>{9}).str()});
    return row ? Result<void>() : Result<void>(row.error());
  };
  ASSERT_TRUE(runtime_.wait(database->transact(Scope::system(), body)));
  for (int round = 0; round < 2; ++round) {
    SessionStore store(runtime_, *database, SessionOptions());
    auto session = runtime_.wait(store.restore(Seconds(900))).value().unclosed.at(0);
    EXPECT_EQ(session.first_seen_from.str(), "203.0.113.9");
    EXPECT_FALSE(session.preshared);
    EXPECT_EQ(session.roamed, 0U);
  }
}
