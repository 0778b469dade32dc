// What befalls one lane's link, and what goes on all the same.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class LanesSim : public ::testing::Test {
 protected:
  void SetUp() override {
    world.config.wireguard.backend = "kernel";
    world.config.dns.upstream = "192.0.2.53";
    world.boot().value();
    world.add_user("alice");
    world.initiate(world.login("alice").value()).value();
    world.settle();
    world.pass(Seconds(5));  // what the start itself has changed is looked at
  }
  Component component(const std::string& name) {
    for (const auto& entry : world.gateway->health())
      if (entry.name == name) return entry;
    ADD_FAILURE() << "no component " << name;
    return Component();
  }
  void take_away(const std::string& interface) {
    InterfaceChange change(interface);
    change.replace_peers = true;
    world.runtime.wait(world.wireguard.set(change)).value();
  }

  World world;
};

TEST_F(LanesSim, OneThatCannotBeMendedKeepsTheOtherFromNothing) {
  // The host makes the link, and WireGuard does not know it: so it is with a port that somebody else has.
  world.wireguard.drop("wg0");
  world.runtime.wait(world.host->remove_link("wg0")).value();
  world.pass(Seconds(5));
  EXPECT_FALSE(component("lane_vpn").ready);
  EXPECT_NE(component("lane_vpn").detail.find("wg0"), std::string::npos) << component("lane_vpn").detail;
  EXPECT_TRUE(component("lane_tor").ready);
  EXPECT_FALSE(component("peers").ready);

  take_away("wg1");
  world.runtime.wait(world.host->set_link("wg1", false, std::nullopt)).value();
  world.pass(Seconds(31));  // it is tried again with backoff
  EXPECT_EQ(world.peers("wg1").size(), 1U);
  auto links = world.runtime.wait(world.host->links()).value();
  for (const auto& link : links) EXPECT_TRUE(link.name != "wg1" || link.up);
  EXPECT_FALSE(component("lane_vpn").ready);

  world.wireguard.create("wg0");
  world.pass(Seconds(31));
  EXPECT_TRUE(component("lane_vpn").ready) << component("lane_vpn").detail;
  EXPECT_TRUE(component("peers").ready) << component("peers").detail;
  world.expect_sound("mended");
}

}  // namespace
}  // namespace tornado::test
