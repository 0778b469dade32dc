// I-21: what others do to the ruleset is seen, whether the kernel tells of it or not, and told until it is mended.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class FirewallWatch : public ::testing::Test {
 protected:
  void boot(bool deaf = false) {
    world.refusal.deaf = deaf;
    world.boot().value();
    world.pass(Seconds(3));
  }
  Component firewall() {
    for (const auto& component : world.gateway->health())
      if (component.name == "firewall") return component;
    ADD_FAILURE() << "no such component";
    return Component("firewall", false, "");
  }
  bool stands() { return world.runtime.wait(world.firewall->intact()).value(); }
  World world;
};

TEST_F(FirewallWatch, AChangeThatNobodyToldOfIsFound) {
  boot(true);
  world.firewall->tamper();
  ASSERT_FALSE(stands());
  world.pass(Seconds(40));
  EXPECT_TRUE(stands());
  EXPECT_TRUE(firewall().ready) << firewall().detail;
}

TEST_F(FirewallWatch, ALookThatFailsIsRepeatedAndTold) {
  boot();
  world.refusal.looks = 3;
  world.firewall->tamper();
  world.pass(Seconds(1));
  EXPECT_FALSE(firewall().ready);
  EXPECT_NE(firewall().detail.find("in doubt"), std::string::npos) << firewall().detail;
  EXPECT_FALSE(stands());
  world.pass(Seconds(60));
  EXPECT_TRUE(stands());
  EXPECT_TRUE(firewall().ready) << firewall().detail;
}

TEST_F(FirewallWatch, ADoubtThatWasNoneEnds) {
  boot();
  world.refusal.looks = 2;
  world.pass(Seconds(32));
  EXPECT_FALSE(firewall().ready) << "looked at without being told to";
  world.pass(Seconds(5));
  EXPECT_TRUE(firewall().ready) << firewall().detail;
}

TEST_F(FirewallWatch, NothingIsReadyWhileAChangeIsNotMended) {
  boot();
  world.refusal.tables = true;
  world.firewall->tamper();
  for (int i = 0; i < 5; ++i) {
    world.pass(Seconds(20));
    EXPECT_FALSE(firewall().ready) << firewall().detail;
  }
  EXPECT_FALSE(stands());
  world.refusal.tables = false;
  world.pass(Seconds(40));
  EXPECT_TRUE(stands());
  EXPECT_TRUE(firewall().ready) << firewall().detail;
}

}  // namespace
}  // namespace tornado::test
