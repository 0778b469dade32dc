// An hour of maintenance on the Tor lane, with a program that speaks like tor: sessions go on as if nothing was.
#include "support/world.hpp"

namespace tornado::test {
namespace {

constexpr Seconds beat_every(30);
constexpr int beats = 120;

class TorMaintenanceSim : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy_file(TORNADO_SOURCE_DIR "/tests/support/fake_tor", world.scratch / "tor");
    world.config.wireguard.backend = "userspace";
    world.config.wireguard.launch = "external";
    world.config.dns.upstream = "192.0.2.53";
    world.config.tor.program = world.scratch / "tor";
    world.config.tor.account.clear();
    world.config.tor.probe_name.clear();
    world.config.lanes.tor.pool = "10.9.0.0/29";
    world.boot().value();
  }
  void TearDown() override {
    wish(TorWish::stopped);
    reached(TorPhase::stopped);
  }
  void wish(TorWish wanted) { world.runtime.wait(world.gateway->tor()->wish(wanted)).value(); }
  /// The process lives in real time, which the clock of the gateway follows: an attempt that failed is repeated.
  void reached(TorPhase phase) {
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    auto next = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (world.gateway->tor()->status().phase != phase && std::chrono::steady_clock::now() < limit) {
      world.runtime.settle();
      if (std::chrono::steady_clock::now() < next) continue;
      world.pass(Seconds(1));
      next += std::chrono::seconds(1);
    }
    ASSERT_EQ(world.gateway->tor()->status().phase, phase) << world.gateway->tor()->status().reason;
    world.settle();
  }
  /// The last mode of the lane that was told.
  std::string mode() {
    std::string last;
    EventBatch batch = world.runtime.wait(world.gateway->events(0)).value();
    for (const auto& event : batch.events)
      if (event.name == "lane_mode") last = event.json;
    return last;
  }
  World world;
};

TEST_F(TorMaintenanceSim, SessionsLiveThroughAnHourAndFreedAddressesRestAsEver) {
  reached(TorPhase::up);
  for (const char* name : {"alice", "bob", "carol"}) world.add_user(name);
  auto alice = world.login("alice").value();
  auto kept = world.initiate(alice).value();
  auto bob = world.login("bob").value();
  auto left = world.initiate(bob).value().session.on("tor")->v4;
  wish(TorWish::maintenance);
  reached(TorPhase::maintenance);
  EXPECT_NE(mode().find("maintenance"), std::string::npos) << mode();
  world.logout(bob).value();
  world.settle();

  auto carol = world.login("carol").value();
  EXPECT_NE(world.initiate(carol).value().session.on("tor")->v4, left) << "it rests";
  world.logout(carol).value();
  for (int i = 0; i < beats; ++i) {
    SCOPED_TRACE(i);
    world.pass(beat_every);
    // A token lives for fifteen minutes; the client renews it.
    if (i % 20 == 19) {
      auto renewed =
          world.runtime.wait(world.gateway->reauth(Caller::system(), std::string(alice.tokens.refresh.reveal())));
      ASSERT_TRUE(renewed) << renewed.error().detail();
      alice.tokens = std::move(renewed->tokens);
    }
    auto beat = world.beat(alice);
    ASSERT_TRUE(beat) << beat.error().detail();
    EXPECT_FALSE(beat->recovered) << "it was never offline";
    auto open = world.unclosed();
    ASSERT_EQ(open.size(), 1U);
    EXPECT_EQ(open[0].instance, kept.session.instance);
    EXPECT_EQ(open[0].presence, Presence::online);
    EXPECT_EQ(world.gateway->tor()->status().phase, TorPhase::maintenance);
  }
  world.expect_sound("after an hour");
  EXPECT_EQ(world.history().size(), 2U) << "of those who left";

  wish(TorWish::up);
  reached(TorPhase::up);
  EXPECT_NE(mode().find(R"("mode":"tor")"), std::string::npos) << mode();
  EXPECT_EQ(world.unclosed()[0].instance, kept.session.instance);
  // An hour is longer than the quarantine: five addresses are one for alice and four for others.
  for (const char* name : {"dave", "erin", "frank", "grace"}) {
    world.add_user(name);
    EXPECT_TRUE(world.initiate(world.login(name).value())) << name;
  }
  world.expect_sound("up again");
}

}  // namespace
}  // namespace tornado::test
