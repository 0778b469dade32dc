// Peers on our interfaces that are somebody else's: told, kept on purpose, let go.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class AdoptionSim : public ::testing::Test {
 protected:
  AdoptionSim() { world.config.wireguard.foreign_peers = "adopt"; }

  PublicKey put(const std::string& interface, std::vector<Prefix> allowed, PublicKey key = fresh(),
                std::optional<Secret> preshared = std::nullopt) {
    InterfaceChange change(interface);
    Peer peer;
    peer.key = key;
    peer.allowed = std::move(allowed);
    peer.preshared = std::move(preshared);
    change.peers = {peer};
    world.runtime.wait(world.wireguard.set(change)).value();
    return key;
  }
  static PublicKey fresh() { return X25519Key::generate().public_key(); }
  std::optional<Peer> find(const std::string& interface, const PublicKey& key) {
    for (const auto& peer : world.peers(interface))
      if (peer.key == key) return peer;
    return std::nullopt;
  }
  Difference reconcile() { return world.runtime.wait(world.gateway->reconcile()).value(); }
  std::vector<std::string> events(const std::string& name) {
    std::vector<std::string> out;
    for (const auto& event : world.runtime.wait(world.gateway->events(0)).value().events)
      if (event.name == name) out.push_back(event.json);
    return out;
  }
  Result<void> release(const PublicKey& key) {
    return world.runtime.wait(world.gateway->release(Caller::operator_named("root"), key));
  }
  std::string connect(const std::string& name) {
    world.add_user(name);
    return world.initiate(world.login(name).value()).value().lanes[0].address.str();
  }

  World world;
};

TEST_F(AdoptionSim, IsKeptListedToldOnceAndItsAddressIsNobodys) {
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.2/32"), Prefix("192.168.7.0/24")});
  EXPECT_TRUE(reconcile().foreign.empty());
  EXPECT_TRUE(reconcile().foreign.empty());
  ASSERT_EQ(world.gateway->adopted().size(), 1U);
  AdoptedPeer adopted = world.gateway->adopted()[0];
  EXPECT_EQ(adopted.peer.key, key);
  EXPECT_EQ(adopted.peer.lane.str(), "vpn");
  EXPECT_EQ(adopted.by, "policy");
  EXPECT_EQ(adopted.since, world.clock.now());
  EXPECT_EQ(events("peer_adopted").size(), 1U);
  EXPECT_TRUE(events("foreign_peers").empty());
  EXPECT_EQ(connect("alice"), "10.8.0.3");
  EXPECT_EQ(find("wg0", key)->allowed.size(), 2U);
  world.add_user("bob");
  auto taken = world.initiate(world.login("bob").value(), key.str());
  EXPECT_EQ(taken.error().code(), errc::key_in_use) << "no device gets its key";
}

TEST_F(AdoptionSim, OutlivesInterfacesAndRestarts) {
  world.boot().value();
  const Secret preshared(std::string(32, 'p'));
  PublicKey key = put("wg0", {Prefix("10.8.0.2/32")}, fresh(), preshared);
  reconcile();
  world.wireguard.drop("wg0");
  world.wireguard.create("wg0");
  auto difference = world.runtime.wait(world.gateway->difference()).value();
  ASSERT_EQ(difference.peers.adopted_missing.size(), 1U);
  EXPECT_FALSE(difference.empty());
  reconcile();
  ASSERT_TRUE(find("wg0", key));
  EXPECT_EQ(find("wg0", key)->allowed, std::vector{Prefix("10.8.0.2/32")});
  EXPECT_EQ(find("wg0", key)->preshared, preshared);

  world.crash();
  world.wireguard.drop("wg0");
  world.wireguard.create("wg0");
  world.config.wireguard.foreign_peers = "alert";
  world.boot().value();
  ASSERT_TRUE(find("wg0", key)) << "whatever the policy says now";
  EXPECT_EQ(find("wg0", key)->preshared, preshared);
  EXPECT_EQ(world.gateway->adopted().size(), 1U);
  EXPECT_TRUE(events("peer_adopted").empty()) << "it was told when it was adopted";
  EXPECT_EQ(connect("alice"), "10.8.0.3");
  EXPECT_TRUE(world.runtime.wait(world.gateway->difference()).value().empty());
}

TEST_F(AdoptionSim, LetGoItIsGoneAndItsAddressRests) {
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.2/32")});
  put("wg1", {}, key);
  reconcile();
  EXPECT_EQ(world.gateway->adopted().size(), 2U);
  EXPECT_EQ(release(fresh()).error().code(), errc::not_found);
  release(key).value();
  EXPECT_FALSE(find("wg0", key));
  EXPECT_FALSE(find("wg1", key));
  EXPECT_EQ(world.host->flushed_networks(), std::vector{Prefix("10.8.0.2/32")});
  EXPECT_TRUE(world.gateway->adopted().empty());
  EXPECT_EQ(events("peer_released").size(), 1U);
  reconcile();
  EXPECT_FALSE(find("wg0", key));
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).resting, 1U);
  EXPECT_EQ(connect("alice"), "10.8.0.3") << "in quarantine";
  world.crash();
  world.boot().value();
  EXPECT_TRUE(world.gateway->adopted().empty());
}

TEST_F(AdoptionSim, WhatOverlapsALeaseOrTheGatewayIsToldAndNotAdopted) {
  world.boot().value();
  ASSERT_EQ(connect("alice"), "10.8.0.2");
  const auto session = world.unclosed().at(0);
  put("wg0", {Prefix("10.8.0.0/30")});
  put("wg0", {Prefix("0.0.0.0/0")});
  PublicKey thief = put("wg0", {Prefix("10.8.0.2/32")});
  auto difference = reconcile();
  EXPECT_EQ(difference.foreign.size(), 3U);
  EXPECT_TRUE(world.gateway->adopted().empty());
  EXPECT_TRUE(events("peer_adopted").empty());
  EXPECT_FALSE(events("foreign_peers").empty());
  EXPECT_EQ(find("wg0", session.key)->allowed.at(0).str(), "10.8.0.2/32") << "the session has its address back";
  EXPECT_TRUE(find("wg0", thief)->allowed.empty());
  // Without it the thief is in nobody's way.
  reconcile();
  EXPECT_EQ(world.gateway->adopted().size(), 1U);
}

TEST_F(AdoptionSim, AChangeBySomebodyElseIsFollowedNeverOverwritten) {
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.2/32")});
  reconcile();
  put("wg0", {Prefix("10.8.0.9/32")}, key);
  EXPECT_TRUE(reconcile().foreign.empty());
  EXPECT_EQ(find("wg0", key)->allowed, std::vector{Prefix("10.8.0.9/32")});
  EXPECT_EQ(world.gateway->adopted().at(0).peer.allowed, std::vector{Prefix("10.8.0.9/32")});
  EXPECT_EQ(events("peer_adopted").size(), 2U);
  world.pass(Seconds(901));
  EXPECT_EQ(connect("alice"), "10.8.0.3") << "one nobody ever had goes first";
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).resting, 0U);
}

TEST_F(AdoptionSim, AnOperatorAdoptsOneWhateverThePolicy) {
  world.config.wireguard.foreign_peers = "alert";
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.77/32")});
  put("wg0", {Prefix("10.8.0.78/32")});
  EXPECT_EQ(reconcile().foreign.size(), 2U);
  auto adopt = [&](const PublicKey& which) {
    return world.runtime.wait(world.gateway->adopt(Caller::operator_named("root"), which));
  };
  EXPECT_EQ(adopt(fresh()).error().code(), errc::not_found);
  auto adopted = adopt(key).value();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].by, "root");
  EXPECT_EQ(reconcile().foreign.size(), 1U);
}

TEST_F(AdoptionSim, WhatAForeignPeerHasIsNobodysWhileItIsThere) {
  world.config.wireguard.foreign_peers = "alert";
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.2/31"), Prefix("192.168.7.0/24")});
  reconcile();
  EXPECT_EQ(connect("alice"), "10.8.0.4");
  EXPECT_EQ(find("wg0", key)->allowed.size(), 2U);
  // Another one now: the former addresses rest first.
  put("wg0", {Prefix("10.8.0.5/32")}, key);
  reconcile();
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).resting, 2U);
  EXPECT_EQ(connect("bob"), "10.8.0.6");
  const std::uint64_t size = world.gateway->ipam().usage(Lane("vpn")).size;
  InterfaceChange gone("wg0");
  gone.peers.emplace_back();
  gone.peers[0].key = key;
  gone.peers[0].remove = true;
  world.runtime.wait(world.wireguard.set(gone)).value();
  reconcile();
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).size, size + 1);
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).resting, 3U);
}

TEST_F(AdoptionSim, AForeignPeerWithAllOfThePoolTakesNothingFromIt) {
  world.config.wireguard.foreign_peers = "alert";
  world.boot().value();
  const std::uint64_t size = world.gateway->ipam().usage(Lane("vpn")).size;
  put("wg0", {Prefix("0.0.0.0/0")});
  put("wg0", {Prefix("10.8.0.0/24")});
  reconcile();
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).size, size);
  EXPECT_EQ(connect("alice"), "10.8.0.2");
}

TEST_F(AdoptionSim, I44RemovalsOfManyAtOnceWaitForAPerson) {
  world.config.wireguard.foreign_peers = "remove";
  world.boot().value();
  world.add_user("crowd", 20);
  for (int i = 0; i < 20; ++i) world.initiate(world.login("crowd").value()).value();
  auto confirm = [&] { return world.runtime.wait(world.gateway->confirm_removals(Caller::system())); };
  PublicKey few = put("wg0", {Prefix("10.8.0.99/32")});
  reconcile();
  EXPECT_FALSE(find("wg0", few));
  EXPECT_EQ(confirm().error().code(), errc::conflict);

  for (int i = 0; i < 10; ++i) put("wg0", {Prefix("10.8.0." + std::to_string(100 + i) + "/32")});
  reconcile();
  EXPECT_EQ(world.peers("wg0").size(), 30U);
  EXPECT_EQ(events("removals_held").size(), 1U);
  world.pass(Seconds(61));
  EXPECT_EQ(world.peers("wg0").size(), 30U);
  EXPECT_EQ(events("removals_held").size(), 1U);
  auto health = world.gateway->health();
  EXPECT_TRUE(std::any_of(health.begin(), health.end(),
                          [](const Component& c) { return c.name == "foreign_removals" && !c.ready && c.advisory; }));
  EXPECT_EQ(confirm().value(), 10U);
  world.pass(Seconds(5));
  EXPECT_EQ(world.peers("wg0").size(), 20U);
  EXPECT_EQ(confirm().error().code(), errc::conflict);
  world.expect_sound("confirmed");
}

TEST_F(AdoptionSim, WithoutADatabaseNothingIsAdoptedAndALaterPassTriesAgain) {
  world.boot().value();
  PublicKey key = put("wg0", {Prefix("10.8.0.2/32")});
  world.steps.power(false);
  auto work = [](Gateway& gateway, std::optional<Result<Difference>>& out) -> Task<void> {
    out = co_await gateway.reconcile();
    co_return Result<void>();
  };
  std::optional<Result<Difference>> out;
  {
    Background running = world.runtime.spawn(work(*world.gateway, out));
    for (int i = 0; i < 100 && !out; ++i) world.leap(Seconds(1));
  }
  EXPECT_TRUE(world.gateway->adopted().empty());
  world.steps.power(true);
  reconcile();
  EXPECT_EQ(world.gateway->adopted().size(), 1U);
  EXPECT_TRUE(find("wg0", key));
}

}  // namespace
}  // namespace tornado::test
