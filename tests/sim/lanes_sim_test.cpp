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

TEST_F(LanesSim, ALinkThatIsRenamedGetsItsNameBack) {
  const auto before = world.runtime.wait(world.wireguard.get("wg0")).value();
  world.wireguard.rename("wg0", "wgx");
  world.runtime.wait(world.host->rename_link("wg0", "wgx")).value();
  world.settle();
  auto names = [&] {
    std::set<std::string> out;
    for (const auto& link : world.runtime.wait(world.host->links()).value()) out.insert(link.name);
    return out;
  };
  EXPECT_EQ(names(), (std::set<std::string>{"wg0", "wg1"})) << "no other link is made";
  world.wireguard.rename("wgx", "wg0");  // which the kernel does in the same step
  world.pass(Seconds(3));
  EXPECT_EQ(world.runtime.wait(world.wireguard.get("wg0")).value().index, before.index);
  EXPECT_TRUE(component("lane_vpn").ready);
  auto events = world.runtime.wait(world.gateway->events(0)).value().events;
  auto told = std::find_if(events.begin(), events.end(), [](const auto& e) { return e.name == "interface_renamed"; });
  ASSERT_NE(told, events.end());
  EXPECT_NE(told->json.find("wgx"), std::string::npos) << told->json;
  world.expect_sound("renamed back");
}

TEST_F(LanesSim, WhereAnotherLinkHasTheNameTheRenamedOneMakesRoom) {
  world.wireguard.rename("wg0", "wgx");
  world.wireguard.create("wg0");
  world.runtime.wait(world.host->rename_link("wg0", "wgx")).value();
  world.host->create_link("wg0", "wireguard");
  world.pass(Seconds(3));
  auto links = world.runtime.wait(world.host->links()).value();
  EXPECT_TRUE(std::none_of(links.begin(), links.end(), [](const Link& link) { return link.name == "wgx"; }));
  world.wireguard.drop("wgx");
  world.expect_sound("on the other link");
}

TEST_F(LanesSim, APeerThatIsRefusedIsSaidAndTriedAgain) {
  world.add_user("bob");
  world.initiate(world.login("bob").value()).value();
  const auto sessions = world.unclosed();
  ASSERT_EQ(sessions.size(), 2U);
  world.refusal.peer = sessions[0].key;
  take_away("wg1");
  (void)world.runtime.wait(world.gateway->reconcile());
  EXPECT_EQ(world.peers("wg1").size(), 1U);
  world.pass(Seconds(6));
  EXPECT_FALSE(component("peers").ready);
  EXPECT_TRUE(component("peers").advisory);
  EXPECT_EQ(component("peers").detail.substr(0, 8), "1 wanted") << component("peers").detail;
  auto parked = [&] {
    auto events = world.runtime.wait(world.gateway->events(0)).value().events;
    return std::count_if(events.begin(), events.end(), [](const auto& e) { return e.name == "peer_parked"; });
  };
  EXPECT_EQ(parked(), 0);
  world.pass(Seconds(40));
  EXPECT_EQ(parked(), 1);
  EXPECT_FALSE(component("peers").ready);

  world.refusal.peer.reset();
  world.pass(Seconds(120));
  EXPECT_EQ(world.peers("wg1").size(), 1U) << "for an hour";
  EXPECT_TRUE(world.runtime.wait(world.gateway->reconcile()).value().refused.empty());
  world.expect_sound("tried again");
  world.pass(Seconds(61));
  EXPECT_TRUE(component("peers").ready) << component("peers").detail;
}

TEST_F(LanesSim, AnEndThatFailsAgainAndAgainHoldsUpNoOther) {
  world.add_user("bob");
  auto bob = world.login("bob").value();
  world.initiate(bob).value();
  const auto alice = world.gateway->sessions().list("", 10).sessions;
  auto stuck = std::find_if(alice.begin(), alice.end(), [&](const Session& s) { return s.device != bob.device.id; });
  ASSERT_NE(stuck, alice.end());
  world.refusal.peer = stuck->key;
  EXPECT_FALSE(world.runtime.wait(world.gateway->close(Caller::system(), stuck->instance, CloseReason::killed)));
  world.pass(Seconds(100));
  EXPECT_EQ(world.history().size(), 0U);
  // By now it is tried again every 30 s.
  world.initiate(bob).value();
  world.pass(Seconds(2));
  EXPECT_EQ(world.history().size(), 1U) << "the session that was replaced";
  world.refusal.peer.reset();
  world.pass(Seconds(31));
  EXPECT_EQ(world.history().size(), 2U);
  world.expect_sound("both ended");
}

}  // namespace
}  // namespace tornado::test
