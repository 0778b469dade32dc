// A preshared key for clients that ask for one: derived, never stored, the same after a restart.
#include <fstream>

#include "base/encoding.hpp"
#include "support/world.hpp"

namespace tornado::test {
namespace {

class PresharedSim : public ::testing::Test {
 protected:
  void begin() {
    world.boot().value();
    world.add_user("alice");
    login = world.login("alice").value();
  }
  TunnelConfig initiate(const std::string& key, bool preshared) {
    auto who = world.caller(login).value();
    return world.runtime.wait(world.gateway->initiate(who, key, preshared)).value();
  }
  Found why(const std::string& check) {
    const auto told = world.runtime.wait(world.gateway->why(Caller::system(), "alice")).value();
    for (const auto& step : told.steps)
      if (step.check == check) return step.found;
    return Found::unknown;
  }
  std::optional<Secret> on(const std::string& interface) { return world.peers(interface).at(0).preshared; }

  World world;
  Login login;
};

TEST_F(PresharedSim, IsGivenToWhoeverAsksAndToNobodyElse) {
  begin();
  const std::string key = World::fresh_key();
  auto plain = initiate(key, false);
  EXPECT_FALSE(plain.preshared);
  EXPECT_FALSE(on("wg0"));
  // The same device with the same key again: its session goes on, with a key now.
  auto asked = initiate(key, true);
  ASSERT_TRUE(asked.preshared);
  EXPECT_EQ(asked.session.instance, plain.session.instance);
  EXPECT_EQ(asked.preshared->size(), 32U);
  EXPECT_EQ(on("wg0"), asked.preshared);
  EXPECT_EQ(on("wg1"), asked.preshared);
  EXPECT_EQ(initiate(key, true).preshared, asked.preshared);
  EXPECT_FALSE(initiate(key, false).preshared);
  EXPECT_FALSE(on("wg0"));
  // Another session, another key.
  auto other = initiate(World::fresh_key(), true);
  EXPECT_NE(other.preshared, asked.preshared);
}

TEST_F(PresharedSim, SurvivesARestartAndIsPutRight) {
  begin();
  auto asked = initiate(World::fresh_key(), true);
  world.crash();
  for (const char* interface : {"wg0", "wg1"}) {
    world.wireguard.drop(interface);
    world.wireguard.create(interface);
  }
  world.boot().value();
  EXPECT_EQ(on("wg0"), asked.preshared);
  for (const Secret& wrong : {Secret(std::string(32, 'x')), no_preshared_key()}) {
    InterfaceChange change("wg0");
    change.peers = world.peers("wg0");
    change.peers.at(0).preshared = wrong;
    world.runtime.wait(world.wireguard.set(change)).value();
    EXPECT_EQ(world.runtime.wait(world.gateway->difference()).value().peers.missing.size(), 1U);
    EXPECT_EQ(why("peer_vpn"), Found::wrong);
    EXPECT_EQ(why("peer_tor"), Found::good);
    world.runtime.wait(world.gateway->reconcile()).value();
    EXPECT_EQ(on("wg0"), asked.preshared);
    EXPECT_EQ(why("peer_vpn"), Found::good);
    EXPECT_TRUE(world.runtime.wait(world.gateway->difference()).value().empty());
  }
}

TEST_F(PresharedSim, NoSecretIsStored) {
  begin();
  auto asked = initiate(World::fresh_key(), true);
  world.pass(Seconds(61));
  const std::string raw(asked.preshared->reveal()), text = base64(raw);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(world.config.state_dir)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), {});
    EXPECT_EQ(content.find(raw), content.npos) << entry.path();
    EXPECT_EQ(content.find(text), content.npos) << entry.path();
  }
  auto mode = std::filesystem::status(world.config.state_dir + "/wireguard/preshared.key").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(std::filesystem::file_size(world.config.state_dir + "/wireguard/preshared.key"), 32U);
}

TEST_F(PresharedSim, OffGivesNoneAndADamagedSecretStopsTheStart) {
  world.config.wireguard.preshared_keys = "off";
  begin();
  EXPECT_FALSE(initiate(World::fresh_key(), true).preshared);
  EXPECT_FALSE(on("wg0"));
  world.crash();
  std::ofstream(world.config.state_dir + "/wireguard/preshared.key") << "short";
  EXPECT_EQ(world.boot().error().code(), errc::data_loss);
}

/// The row and the peer agree whatever fails on the way.
TEST_F(PresharedSim, ARefusedChangeLeavesTheSessionAsItWas) {
  begin();
  const std::string key = World::fresh_key();
  (void)initiate(key, false);
  world.wireguard.fail_next(10, errc::backend_failed);
  auto who = world.caller(login).value();
  EXPECT_FALSE(world.runtime.wait(world.gateway->initiate(who, key, true)));
  world.wireguard.fail_next(0, errc::backend_failed);
  EXPECT_FALSE(world.unclosed().at(0).preshared);
  world.runtime.wait(world.gateway->reconcile()).value();
  EXPECT_FALSE(on("wg0"));
}

class PresharedFaults : public ::testing::TestWithParam<bool> {};

void change_with_faults(bool first, int at, Steps::Fault fault, int many, bool& fired) {
  World world;
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  const std::string key = World::fresh_key();
  auto who = world.caller(login).value();
  auto had = world.runtime.wait(world.gateway->initiate(who, key, first)).value().preshared;
  world.steps.arm(at, fault, many);
  auto changed = world.runtime.wait(world.gateway->initiate(who, key, !first));
  fired = world.steps.fired();
  // The client goes by the last answer it got.
  if (changed) had = changed->preshared;
  auto expect_same = [&](const std::string& when) {
    SCOPED_TRACE(when);
    EXPECT_EQ(world.unclosed().at(0).preshared, had.has_value()) << "row";
    for (const char* interface : {"wg0", "wg1"}) EXPECT_EQ(world.peers(interface).at(0).preshared, had) << interface;
    EXPECT_TRUE(world.runtime.wait(world.gateway->difference()).value().empty()) << "peer book";
  };
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  world.steps.disarm();
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  expect_same("after the passes");
  world.crash();
  world.boot().value();
  expect_same("after a restart");
}

/// Row, peer book, peers and client agree in the end whichever steps fail, those of the undo included.
TEST_P(PresharedFaults, EveryStepOfAChangeMayFailAndItsUndoToo) {
  int faults = 0;
  for (auto fault : {Steps::Fault::fail_before, Steps::Fault::fail_after})
    for (int many : {1, 2, 3, 5, 8, 1000}) {
      bool fired = true;
      for (int at = 0; fired; ++at) {
        SCOPED_TRACE("step " + std::to_string(at) + ", " + std::to_string(many) + " faults of kind " +
                     std::to_string(static_cast<int>(fault)));
        ASSERT_LT(at, 50);
        change_with_faults(GetParam(), at, fault, many, fired);
        if (::testing::Test::HasFailure()) return;
        faults += fired ? 1 : 0;
      }
    }
  EXPECT_GE(faults, 30);
}

INSTANTIATE_TEST_SUITE_P(From, PresharedFaults, ::testing::Bool());

}  // namespace
}  // namespace tornado::test
