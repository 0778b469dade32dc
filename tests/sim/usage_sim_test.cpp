// What users have moved, whatever fails between the end of a session and its history; and what is kept of it.
#include "support/world.hpp"

namespace tornado::test {
namespace {

using Fault = Steps::Fault;
constexpr std::uint64_t megabyte = 1'000'000;

class Usage : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.clock.set(*parse_iso8601("2026-11-20T12:00:00.000Z"));
    world_.config.session.idle_ttl = 10'000'000;
    world_.config.auth.access_term = 86400;
    world_.boot().value();
    alice_ = world_.add_user("alice", 3);
    login_ = world_.login("alice").value();
    world_.initiate(login_).value();
  }

  void apply(const std::string& document) {
    world_.runtime.wait(world_.gateway->apply_policy(Caller::system(), document)).value();
  }
  void move(std::uint64_t megabytes) {
    auto now = world_.gateway->sessions().find(login_.device.id).value();
    ASSERT_TRUE(world_.wireguard.traffic("wg0", now.key, megabytes * megabyte, 0, world_.clock.now()));
    world_.pass(Seconds(12));
  }
  Result<void> close() {
    auto session = world_.gateway->sessions().find(login_.device.id);
    if (!session) return {};
    auto closed = world_.runtime.wait(world_.gateway->close(Caller::system(), session->instance, CloseReason::killed));
    return closed ? Result<void>() : Result<void>(closed.error());
  }
  /// A fault may be waiting for just this step.
  User account() {
    auto read = world_.runtime.wait(world_.gateway->account(alice_.id));
    return read ? *read : world_.runtime.wait(world_.gateway->account(alice_.id)).value();
  }
  std::uint64_t total() { return account().total_received; }
  std::uint64_t this_month() {
    return world_.runtime.wait(world_.gateway->usage(alice_.id)).value().months.front().second;
  }
  std::int64_t count(const std::string& table) {
    std::int64_t out = 0;
    auto database = open_sqlite(world_.runtime, world_.config.database_path());
    Database::Body body = [&](Tx& tx) -> Result<void> {
      auto rows = tx.exec("SELECT count(*) FROM " + table);
      if (!rows) return rows.error();
      out = std::stoll(*rows->rows.at(0).at(0));
      return {};
    };
    world_.runtime.wait(database->transact(Scope::system(), body)).value();
    world_.runtime.wait(database->close()).value();
    return out;
  }

  World world_;
  User alice_;
  Login login_;
};

/// What ended in the journal just before a kill is taken over by the next start, or by a later tick.
TEST_F(Usage, AFailedDrainAtTheStartLosesNothingAndCountsNothingTwice) {
  std::uint64_t expected = 0, sessions = 0;
  for (Fault fault : {Fault::fail_before, Fault::fail_after})
    for (int many : {1, 3}) {
      bool fired = true;
      for (int step = 0; fired; ++step) {
        SCOPED_TRACE("fault " + std::to_string(static_cast<int>(fault)) + ", step " + std::to_string(step) + ", " +
                     std::to_string(many) + " faults");
        ASSERT_LT(step, 100);
        if (!world_.gateway->sessions().find(login_.device.id)) {
          login_ = world_.login("alice").value();
          world_.initiate(login_).value();
        }
        move(60);
        expected += 60 * megabyte;
        ++sessions;
        ASSERT_TRUE(close());
        world_.crash();
        world_.steps.arm(step, fault, many);
        auto booted = world_.boot();
        fired = world_.steps.fired();
        world_.steps.disarm();
        if (!booted) {
          world_.crash();
          world_.boot().value();
        }
        EXPECT_EQ(total(), expected) << "at once";
        world_.pass(Seconds(3));
        EXPECT_EQ(total(), expected);
        EXPECT_EQ(account().total_sessions, sessions);
        EXPECT_EQ(this_month(), expected);
        if (::testing::Test::HasFailure()) return;
      }
    }
}

/// The same with what the quota goes by in memory: who has used it up is blocked when the drain at the start fails.
TEST(UsageAtTheStart, WhoHasUsedUpAQuotaStaysBlockedWhenTheDrainFails) {
  int failed_drains = 0;
  for (int step = 0;; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    ASSERT_LT(step, 100);
    World world;
    world.clock.set(*parse_iso8601("2026-11-20T12:00:00.000Z"));
    world.boot().value();
    auto user = world.add_user("alice", 3);
    auto login = world.login("alice").value();
    world.initiate(login).value();
    world.runtime
        .wait(world.gateway->apply_policy(
            Caller::system(),
            R"({"limits": [{"name": "all", "who": "everyone", "monthly": "50 MB", "then": "block"}]})"))
        .value();
    auto session = world.gateway->sessions().find(login.device.id).value();
    ASSERT_TRUE(world.wireguard.traffic("wg0", session.key, 60 * megabyte, 0, world.clock.now()));
    world.pass(Seconds(12));
    world.runtime.wait(world.gateway->close(Caller::system(), session.instance, CloseReason::killed)).value();
    world.crash();
    world.steps.arm(step, Fault::fail_before, 1);
    auto booted = world.boot();
    if (!world.steps.fired()) break;
    world.steps.disarm();
    if (!booted) continue;
    ++failed_drains;
    auto again = world.login("alice").value();
    world.initiate(again).value();
    auto now = world.gateway->sessions().find(again.device.id).value();
    EXPECT_EQ(world.firewall->access_of(now.on("vpn")->v4)->access_class, blocked_class);
    world.pass(Seconds(12));
    EXPECT_EQ(world.gateway->standing(user.id).value().used, 60 * megabyte);
    EXPECT_EQ(world.firewall->access_of(now.on("vpn")->v4)->access_class, blocked_class);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GE(failed_drains, 1) << "a start goes on without the drain";
}

TEST_F(Usage, TotalsOfAUserAreRightAtEveryStepOfAnEnd) {
  for (Fault fault : {Fault::none, Fault::fail_before, Fault::fail_after}) {
    bool fired = true;
    for (int at = 0; fired; ++at) {
      SCOPED_TRACE("fault " + std::to_string(static_cast<int>(fault)) + ", step " + std::to_string(at));
      ASSERT_LT(at, 60);
      const User before = account();
      if (!world_.gateway->sessions().find(login_.device.id)) world_.initiate(login_).value();
      move(7);
      EXPECT_EQ(total(), before.total_received + 7 * megabyte);
      world_.steps.arm(at, fault);
      (void)close();
      EXPECT_EQ(total(), before.total_received + 7 * megabyte) << "at once";
      for (int i = 0; i < 3; ++i) {
        world_.pass(Seconds(1));
        EXPECT_EQ(total(), before.total_received + 7 * megabyte);
      }
      fired = world_.steps.fired();
      world_.steps.disarm();
      world_.leap(Seconds(31));
      world_.leap(Seconds(31));
      EXPECT_EQ(total(), before.total_received + 7 * megabyte) << "in the end";
      EXPECT_EQ(account().total_sessions, world_.history().size() + world_.unclosed().size());
      if (::testing::Test::HasFailure()) return;
    }
  }
}

/// Whoever looks while a session ends and is taken over into the history sees every byte once, in every order.
TEST_F(Usage, TotalsOfAUserAreRightInEveryOrderOfSteps) {
  Schedule schedule;
  std::uint64_t runs = 0;
  do {
    SCOPED_TRACE("order " + std::to_string(runs));
    if (runs > 0) world_.initiate(login_).value();
    move(5);
    const std::uint64_t sessions = ++runs;
    const Instance instance = world_.gateway->sessions().find(login_.device.id).value().instance;
    auto end = [&]() -> Task<void> {
      auto closed = co_await world_.gateway->close(Caller::system(), instance, CloseReason::killed);
      if (!closed) co_return closed.error();
      auto drained = co_await world_.gateway->history(HistoryQuery());
      if (!drained) co_return drained.error();
      co_return Result<void>();
    };
    int looks = 0;
    auto look = [&]() -> Task<void> {
      auto one = co_await world_.gateway->account(alice_.id);
      if (!one) co_return one.error();
      EXPECT_EQ(one->total_received, sessions * 5 * megabyte);
      auto all = co_await world_.gateway->accounts(UserQuery());
      if (!all) co_return all.error();
      EXPECT_EQ(all->front().total_received, sessions * 5 * megabyte);
      EXPECT_EQ(all->front().total_sessions, sessions);
      ++looks;
      co_return Result<void>();
    };
    world_.steps.hold(true);
    Background ending = world_.runtime.spawn(end());
    Background looking = world_.runtime.spawn(look());
    world_.settle();
    for (int guard = 0; world_.steps.held() > 0 && guard < 500; ++guard) {
      world_.steps.release(schedule.choose(world_.steps.held()));
      world_.settle();
    }
    world_.steps.hold(false);
    world_.settle();
    EXPECT_EQ(looks, 1);
    if (::testing::Test::HasFailure()) return;
  } while (runs < 300 && schedule.next());
  EXPECT_GT(runs, 20U);
}

TEST_F(Usage, AnOrderlyStopOverTheEndOfAMonthChargesNothingToTheNextOne) {
  world_.clock.set(*parse_iso8601("2026-11-30T23:50:00.000Z"));
  (void)world_.beat(login_);
  world_.pass(Seconds(12));
  move(30);
  world_.runtime.wait(world_.gateway->stop()).value();
  world_.crash();
  world_.clock.set(*parse_iso8601("2026-12-01T00:10:00.000Z"));
  world_.boot().value();
  EXPECT_EQ(this_month(), 0U);
  move(4);
  EXPECT_EQ(this_month(), 4 * megabyte);
  EXPECT_EQ(total(), 34 * megabyte);
}

TEST_F(Usage, OldMonthsAndOldPoliciesGoInBatches) {
  world_.config.policy.usage_months = 2;
  world_.config.policy.versions = 3;
  move(20);
  world_.crash();
  auto database = open_sqlite(world_.runtime, world_.config.database_path());
  Database::Body body = [&](Tx& tx) -> Result<void> {
    for (int i = 0; i < 1200; ++i)
      for (const char* open : {"TRUE", "FALSE"}) {
        auto done = tx.exec(std::string("INSERT INTO session_usage (instance, month, user_id, bytes, is_open) VALUES "
                                        "($1, '2026-09', $2, 5, ") +
                                open + ")",
                            {"0000" + std::to_string(i) + open, alice_.id.str()});
        if (!done) return done.error();
      }
    for (const char* month : {"2026-09", "2026-10", "2026-11"}) {
      auto done = tx.exec("INSERT INTO quota_notices (user_id, month, percent, noted_at) VALUES ($1, $2, 80, $3)",
                          {alice_.id.str(), month, "2026-11-01T00:00:00.000Z"});
      if (!done) return done.error();
      done =
          tx.exec("INSERT INTO session_usage (instance, month, user_id, bytes, is_open) VALUES ($1, $2, $3, 9, FALSE)",
                  {std::string("old-") + month, month, alice_.id.str()});
      if (!done) return done.error();
    }
    // Of the session that goes on: needed as long as it does.
    auto live = tx.exec(
        "INSERT INTO session_usage (instance, month, user_id, bytes) SELECT instance, '2026-08', user_id, 1 "
        "FROM session_journal WHERE state = 'active'");
    return live ? Result<void>() : Result<void>(live.error());
  };
  world_.runtime.wait(database->transact(Scope::system(), body)).value();
  world_.runtime.wait(database->close()).value();
  world_.boot().value();
  for (int i = 0; i < 8; ++i) apply(R"({"groups": {"g": ["alice"]}})");
  EXPECT_EQ(count("access_policies"), 8);
  for (int i = 0; i < 62; ++i) {
    world_.leap(Seconds(5));
    (void)world_.beat(login_);
  }
  EXPECT_EQ(count("access_policies"), 3);
  EXPECT_EQ(world_.runtime.wait(world_.gateway->policy_in_force()).value().version, 8);
  EXPECT_EQ(count("session_usage WHERE month = '2026-09'"), 0);
  EXPECT_EQ(count("session_usage WHERE month = '2026-08'"), 1) << "of a session that goes on";
  EXPECT_EQ(count("session_usage WHERE month = '2026-10'"), 1);
  EXPECT_EQ(count("quota_notices"), 2);
  EXPECT_EQ(total(), 20 * megabyte) << "totals outlive the months they were made in";
  ASSERT_TRUE(close());
  world_.pass(Seconds(2));
  for (int i = 0; i < 62; ++i) world_.leap(Seconds(5));
  EXPECT_EQ(count("session_usage WHERE month = '2026-08'"), 0);
}

}  // namespace
}  // namespace tornado::test
