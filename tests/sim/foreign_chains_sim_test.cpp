// Firewalls of others that may drop what the lanes carry (I-24): told, not fatal.
#include "support/world.hpp"

namespace tornado::test {
namespace {

const ForeignChain forward("ip", "filter", "FORWARD", "forward");
const ForeignChain forward6("ip6", "filter", "FORWARD", "forward");
const ForeignChain input("inet", "filter", "input", "input");

class ForeignChains : public ::testing::Test {
 protected:
  Result<void> boot(std::vector<ForeignChain> chains) {
    GatewayParts parts;
    auto made = std::make_unique<MemoryFirewall>(world.runtime);
    firewall = made.get();
    firewall->set_foreign_drops(std::move(chains));
    parts.firewall = std::move(made);
    world.gateway = std::make_unique<Gateway>(world.runtime, world.config, std::move(parts));
    auto started = world.runtime.wait(world.gateway->start());
    if (started) world.gateway->listening();
    return started;
  }

  Component component() {
    for (const auto& component : world.gateway->health())
      if (component.name == "foreign_chains") return component;
    return Component();
  }

  std::vector<std::string> events() {
    std::vector<std::string> out;
    for (const auto& event : world.runtime.wait(world.gateway->events(0)).value().events)
      if (event.name == "foreign_chain_drops") out.push_back(event.json);
    return out;
  }

  void await_check() { world.pass(Seconds(world.config.session.reconcile_interval + 2)); }

  World world;
  MemoryFirewall* firewall = nullptr;
};

TEST_F(ForeignChains, WithoutAnyThePartIsReady) {
  boot({}).value();
  EXPECT_TRUE(component().ready);
  EXPECT_TRUE(events().empty());
}

TEST_F(ForeignChains, ADroppingChainDegradesTheGatewayAndDoesNotStopIt) {
  boot({forward}).value();
  EXPECT_TRUE(world.gateway->ready());
  EXPECT_FALSE(component().ready);
  EXPECT_TRUE(component().advisory);
  for (const char* part : {"ip filter FORWARD", "hook forward", "wg0", "wg1", "firewall.known_chains"})
    EXPECT_NE(component().detail.find(part), std::string::npos) << component().detail;
  ASSERT_EQ(events().size(), 1U);
  EXPECT_EQ(events()[0], R"({"family":"ip","table":"filter","chain":"FORWARD","hook":"forward"})");
  world.add_user("alice");
  EXPECT_TRUE(world.initiate(world.login("alice").value()));
}

TEST_F(ForeignChains, AChainThatComesOrGoesLaterIsNoticedAndToldOnce) {
  boot({}).value();
  firewall->set_foreign_drops({forward});
  await_check();
  EXPECT_FALSE(component().ready);
  await_check();
  EXPECT_EQ(events().size(), 1U);
  firewall->set_foreign_drops({forward, input});
  await_check();
  EXPECT_EQ(events().size(), 2U);
  EXPECT_NE(component().detail.find("4605/tcp, 51820/udp, 51821/udp"), std::string::npos) << component().detail;
  firewall->set_foreign_drops({});
  await_check();
  EXPECT_TRUE(component().ready);
}

TEST_F(ForeignChains, WhatSomebodyHasSeenToIsNotToldAgain) {
  world.config.firewall.known_chains = {"ip filter FORWARD"};
  boot({forward}).value();
  EXPECT_TRUE(component().ready);
  EXPECT_TRUE(events().empty());
}

TEST_F(ForeignChains, IPv6MattersOnlyToLanesThatHaveIt) {
  boot({forward6}).value();
  EXPECT_TRUE(component().ready);
  world.gateway.reset();
  world.config.lanes.vpn.pool6 = "fd00:8::/64";
  world.config.lanes.tor.pool6 = "fd00:9::/64";
  boot({forward6}).value();
  EXPECT_FALSE(component().ready);
}

TEST_F(ForeignChains, WithoutAnAnswerTheLastOneStays) {
  boot({forward}).value();
  firewall->fail_next(1, errc::backend_failed);
  await_check();
  EXPECT_FALSE(component().ready);
}

}  // namespace
}  // namespace tornado::test
