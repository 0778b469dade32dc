// Another configuration for a gateway that runs.
#include "base/try.hpp"
#include "support/world.hpp"

namespace tornado::test {
namespace {

class Reload : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.config.dns.upstream = "192.0.2.53";
    world_.boot().value();
    world_.add_user("alice");
    login_ = world_.login("alice").value();
    world_.initiate(login_).value();
    world_.file = world_.config;
  }
  Result<std::vector<ConfigChange>> reload() {
    auto done = world_.runtime.wait(world_.gateway->reload());
    world_.settle();
    return done;
  }
  const Config& running() { return world_.gateway->config(); }
  /// In the kernel, whatever is wanted.
  bool table_has(const std::string& text) {
    return to_text(*world_.firewall->applied()).find(text) != std::string::npos;
  }

  World world_;
  Login login_;
};

TEST_F(Reload, TakesOverWhatItMayAndNamesTheRest) {
  ASSERT_TRUE(table_has("192.0.2.53"));
  world_.file->dns.upstream = "192.0.2.54";
  world_.file->session.reconcile_interval = 20;
  world_.file->lanes.vpn.pool = "10.77.0.0/24";
  auto asked = world_.runtime.wait(world_.gateway->config_changes()).value();
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(running().dns.upstream, "192.0.2.53") << "asked only";
  auto changes = reload().value();
  ASSERT_EQ(changes.size(), 3U);
  EXPECT_EQ(changes[0].key, "lanes.vpn.pool");
  EXPECT_EQ(changes[0].running, R"("10.8.0.0/24")");
  EXPECT_EQ(changes[0].wanted, R"("10.77.0.0/24")");
  EXPECT_FALSE(changes[0].reloadable);
  EXPECT_EQ(changes[1].key, "session.reconcile_interval");
  EXPECT_TRUE(changes[1].reloadable);
  EXPECT_EQ(changes[2].key, "dns.upstream");
  EXPECT_EQ(running().lanes.vpn.pool, "10.8.0.0/24");
  EXPECT_EQ(running().session.reconcile_interval, 20);
  EXPECT_TRUE(table_has("192.0.2.54"));
  EXPECT_FALSE(table_has("192.0.2.53"));
  auto rest = reload().value();
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].key, "lanes.vpn.pool");
  EXPECT_TRUE(world_.beat(login_));
  world_.pass(Seconds(120));
  world_.expect_sound("reloaded");
}

TEST_F(Reload, AnIntervalHoldsFromItsNextRoundOn) {
  const auto readings = [&]() {
    const int before = world_.steps.done();
    world_.pass(Seconds(20));
    return world_.steps.done() - before;
  };
  const int slow = readings();
  world_.file->session.sample_interval = 1;
  reload().value();
  world_.pass(Seconds(5));
  EXPECT_GE(readings(), slow + 10);
}

TEST_F(Reload, TwoAtOnceFollowEachOtherAndTheLastOneCounts) {
  std::vector<std::size_t> changes;
  auto one = [&]() -> Task<void> {
    TRY(auto made, co_await world_.gateway->reload());
    changes.push_back(made.size());
    co_return Result<void>();
  };
  world_.file->ipam.warn_percent = 91;
  Background first = world_.runtime.spawn(one()), second = world_.runtime.spawn(one());
  world_.settle();
  EXPECT_EQ(changes, (std::vector<std::size_t>{1, 0}));
  EXPECT_EQ(running().ipam.warn_percent, 91);
}

TEST_F(Reload, WhatIsWrongChangesNothing) {
  const std::string before = running().show();
  const auto refused = [&](errc code, const std::string& says) {
    auto done = reload();
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code(), code);
    EXPECT_NE(done.error().detail().find(says), std::string::npos) << done.error().detail();
    EXPECT_EQ(running().show(), before);
  };
  world_.file = Error(errc::store_unavailable, "the disk is away");
  refused(errc::store_unavailable, "the disk is away");
  world_.file = world_.config;
  world_.file->dns.upstream = "127.0.0.1";
  refused(errc::invalid_config, "dns.upstream");
  // Good together with a quarantine that only a restart brings.
  world_.file = world_.config;
  world_.file->dns.upstream = "192.0.2.54";
  world_.file->ipam.quarantine = 3000;
  world_.file->session.reconcile_interval = 1200;
  refused(errc::invalid_config, "after a restart");
  EXPECT_TRUE(table_has("192.0.2.53"));
}

TEST_F(Reload, AFirewallThatRefusesFollowsByItself) {
  const auto former = world_.firewall->applied();
  world_.refusal.tables = true;
  world_.file->dns.upstream = "192.0.2.54";
  auto done = reload();
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().detail().find("follows by itself"), std::string::npos) << done.error().detail();
  EXPECT_EQ(running().dns.upstream, "192.0.2.54");
  EXPECT_EQ(world_.firewall->applied(), former);
  world_.refusal.tables = false;
  world_.pass(Seconds(40));
  for (const auto& part : world_.gateway->health())
    EXPECT_TRUE(part.ready || part.advisory) << part.name << ": " << part.detail;
  EXPECT_NE(world_.firewall->applied(), former);
  EXPECT_TRUE(table_has("192.0.2.54"));
  world_.expect_sound("followed");
}

TEST_F(Reload, WithoutASourceThereIsNothingToRead) {
  Scratch scratch;
  Config config = world_.config;
  config.state_dir = scratch / "state";
  std::filesystem::create_directories(config.state_dir);
  Gateway other(world_.runtime, config);
  EXPECT_EQ(world_.runtime.wait(other.reload()).error().code(), errc::failed_precondition);
  EXPECT_EQ(world_.runtime.wait(other.config_changes()).error().code(), errc::failed_precondition);
}

}  // namespace
}  // namespace tornado::test
