// WireGuard processes that a service manager runs (I-30): the gateway waits for them, and mends what comes back empty.
#include "support/world.hpp"

namespace tornado::test {
namespace {

Task<void> start_into(Gateway& gateway, std::optional<Result<void>>& outcome) {
  outcome = co_await gateway.start();
  co_return Result<void>();
}

class ExternalSim : public ::testing::Test {
 protected:
  void SetUp() override {
    world.config.wireguard.backend = "userspace";
    world.config.wireguard.launch = "external";
    world.config.dns.upstream = "192.0.2.53";
  }
  Component component(const std::string& name) {
    for (const auto& entry : world.gateway->health())
      if (entry.name == name) return entry;
    ADD_FAILURE() << "no component " << name;
    return Component();
  }
  PublicKey key_of(const std::string& interface) {
    return world.runtime.wait(world.wireguard.get(interface)).value().public_key;
  }
  World world;
};

TEST_F(ExternalSim, WhatComesBackEmptyIsFilledAgain) {
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  world.settle();
  EXPECT_TRUE(component("wireguard-vpn").ready);
  PublicKey key = key_of("wg0");

  world.wireguard.drop("wg0");
  world.pass(Seconds(16));
  EXPECT_FALSE(component("wireguard-vpn").ready);
  EXPECT_TRUE(component("wireguard-tor").ready);
  world.wireguard.create("wg0");
  world.pass(Seconds(3));
  EXPECT_TRUE(component("wireguard-vpn").ready);
  EXPECT_EQ(key_of("wg0"), key);
  world.expect_sound("after the loss");

  // Gone and back between two looks: only the lost key tells. Shorter than the periodic pass.
  world.wireguard.drop("wg1");
  world.wireguard.create("wg1");
  world.pass(Seconds(20));
  world.expect_sound("after an unseen loss");
}

TEST_F(ExternalSim, TheStartWaitsAndThenNamesWhatIsMissing) {
  world.boot().value();
  world.crash();
  world.wireguard.drop("wg1");
  GatewayParts parts;
  parts.wireguard = std::make_unique<SteppedWireGuard>(world.wireguard, world.steps, world.refusal);
  parts.host = std::make_unique<MemoryHost>(world.runtime, std::vector<std::string>{"wg0", "wg1"});
  parts.firewall = std::make_unique<MemoryFirewall>(world.runtime);
  world.gateway = std::make_unique<Gateway>(world.runtime, world.config, std::move(parts));

  std::optional<Result<void>> outcome;
  {
    Background starting = world.runtime.spawn(start_into(*world.gateway, outcome));
    // Files are read in real time: its ten seconds begin when it looks for the interface.
    auto waits = [&] {
      auto health = world.gateway->health();
      return std::any_of(health.begin(), health.end(),
                         [](const Component& part) { return part.name == "wireguard-tor" && !part.ready; });
    };
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!waits() && std::chrono::steady_clock::now() < limit) world.runtime.settle();
    ASSERT_TRUE(waits());
    world.pass(Seconds(5));
    EXPECT_FALSE(outcome);
    world.pass(Seconds(7));
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->error().code(), errc::interface_missing);
    EXPECT_NE(outcome->error().detail().find("lane tor (wg1)"), std::string::npos) << outcome->error().detail();
  }
  outcome.reset();
  {
    Background starting = world.runtime.spawn(start_into(*world.gateway, outcome));
    world.pass(Seconds(2));
    EXPECT_FALSE(outcome);
    world.wireguard.create("wg1");
    // The database is read in real time.
    for (int i = 0; i < 20 && !outcome; ++i) world.pass(Seconds(1));
    ASSERT_TRUE(outcome);
    EXPECT_TRUE(*outcome);
  }
}

TEST_F(ExternalSim, TeardownLeavesTheInterfacesEmptyAndDown) {
  world.boot().value();
  world.add_user("alice");
  world.initiate(world.login("alice").value()).value();
  world.settle();
  world.runtime.wait(world.gateway->teardown()).value();
  for (const char* name : {"wg0", "wg1"}) EXPECT_TRUE(world.peers(name).empty());
  auto links = world.runtime.wait(world.host->links()).value();
  ASSERT_EQ(links.size(), 2U);
  for (const auto& link : links) EXPECT_FALSE(link.up) << link.name;
}

/// Links of the kernel's own WireGuard: no process, and what is gone is made again.
class KernelSim : public ::testing::Test {
 protected:
  void SetUp() override {
    world.config.wireguard.backend = "kernel";
    world.config.dns.upstream = "192.0.2.53";
  }
  World world;
};

TEST_F(KernelSim, ALinkThatWentIsMadeAgainWithItsPeers) {
  world.boot().value();
  EXPECT_EQ(world.gateway->wireguard_choice().backend, WireGuardBackend::kernel);
  world.add_user("alice");
  world.initiate(world.login("alice").value()).value();
  world.settle();
  PublicKey key = world.runtime.wait(world.wireguard.get("wg0")).value().public_key;
  world.pass(Seconds(5));  // what the start itself has changed is looked at

  world.wireguard.drop("wg0");
  world.runtime.wait(world.host->remove_link("wg0")).value();
  world.settle();
  auto links = world.runtime.wait(world.host->links()).value();
  auto made = std::find_if(links.begin(), links.end(), [](const Link& link) { return link.name == "wg0"; });
  ASSERT_NE(made, links.end()) << "at once, and not when its time has come";
  EXPECT_EQ(made->kind, "wireguard");
  world.wireguard.create("wg0");  // which the kernel does in the same step
  world.pass(Seconds(3));
  EXPECT_EQ(world.runtime.wait(world.wireguard.get("wg0")).value().public_key, key);
  world.expect_sound("after the loss");
}

TEST_F(KernelSim, TeardownRemovesTheLinks) {
  world.boot().value();
  world.runtime.wait(world.gateway->teardown()).value();
  EXPECT_TRUE(world.runtime.wait(world.host->links()).value().empty());
}

TEST_F(KernelSim, OneMorePeerThanAnInterfaceHoldsIsRefusedBeforeAnythingIsTaken) {
  world.wireguard.hold_at_most(2);
  world.boot().value();
  for (const char* name : {"alice", "bob"}) {
    world.add_user(name);
    world.initiate(world.login(name).value()).value();
  }
  world.add_user("carol");
  auto carol = world.login("carol").value();
  auto leased = world.gateway->ipam().usage(Lane("vpn")).leased;
  auto refused = world.initiate(carol);
  ASSERT_FALSE(refused);
  EXPECT_EQ(class_of(refused.error().code()), error_class::resource_exhausted);
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).leased, leased);
  EXPECT_EQ(world.gateway->sessions().size(), 2U);
  world.expect_sound("after the refusal");
}

}  // namespace
}  // namespace tornado::test
