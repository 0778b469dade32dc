// Whole gateways on a manual clock (I-01 to I-09): what clients are told, and what is left, in good times.
#include <algorithm>

#include "support/world.hpp"

namespace tornado::test {
namespace {

class GatewaySim : public ::testing::Test {
 protected:
  void SetUp() override { world.boot().value(); }
  World world;
};

TEST_F(GatewaySim, AClientConnectsBeatsAndLeaves) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto tunnel = world.initiate(login).value();
  ASSERT_EQ(tunnel.lanes.size(), 2U);
  EXPECT_EQ(tunnel.lanes[0].endpoint, "198.51.100.1:51820");
  EXPECT_EQ(tunnel.lanes[1].endpoint, "198.51.100.1:51821");
  world.settle();
  world.expect_sound("connected");
  EXPECT_FALSE(world.beat(login).value().recovered);
  world.logout(login).value();
  world.settle();
  world.expect_sound("left");
  auto rows = world.history();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].reason, CloseReason::disconnect);
  EXPECT_EQ(world.beat(login).error().code(), errc::revoked);
}

TEST_F(GatewaySim, ReconnectingReplacesTheSessionAndKeepsTheAddresses) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto first = world.initiate(login).value();
  auto second = world.initiate(login).value();
  world.settle();
  EXPECT_EQ(first.lanes[0].address, second.lanes[0].address);
  EXPECT_EQ(first.lanes[1].address, second.lanes[1].address);
  world.expect_sound("reconnected");
  auto rows = world.history();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].reason, CloseReason::replaced);
  EXPECT_EQ(rows[0].instance, first.session.instance);
}

TEST_F(GatewaySim, TheSameKeyAgainIsTheSameSession) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  std::string key = World::fresh_key();
  auto first = world.initiate(login, key).value();
  auto again = world.initiate(login, key).value();
  EXPECT_EQ(first.session.instance, again.session.instance);
  world.settle();
  world.expect_sound("same key");
}

TEST_F(GatewaySim, D062AKeyBelongsToOneDevice) {
  world.add_user("alice");
  world.add_user("mallory");
  auto alice = world.login("alice").value();
  auto mallory = world.login("mallory").value();
  std::string key = World::fresh_key();
  world.initiate(alice, key).value();
  EXPECT_EQ(world.initiate(mallory, key).error().code(), errc::key_in_use);
  world.settle();
  world.expect_sound("theft refused");
  // A key some device ever used is never another's (I-28).
  world.logout(alice).value();
  world.settle();
  EXPECT_EQ(world.initiate(mallory, key).error().code(), errc::key_in_use);
  world.expect_sound("late theft refused");
}

TEST_F(GatewaySim, I28KeysThatWireGuardSwallowsAreRefusedBeforeAnythingIsLeased) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto own = world.runtime.wait(world.wireguard.get("wg1")).value().public_key.str();
  std::string zero(43, 'A');
  for (const std::string& key :
       {std::string("x"), zero + "=", own, std::string("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        std::string("7P///////////////////////////////////////38="), std::string()}) {
    auto refused = world.initiate(login, key);
    ASSERT_FALSE(refused) << key;
    EXPECT_EQ(class_of(refused.error().code()), error_class::invalid_argument) << key;
  }
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).leased, 0U);
}

TEST_F(GatewaySim, D034AnOfflineSessionKeepsItsPeerAndRecovers) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  world.leap(Seconds(120));
  EXPECT_EQ(world.unclosed()[0].presence, Presence::offline);
  world.expect_sound("offline");
  EXPECT_TRUE(world.beat(login).value().recovered);
  EXPECT_FALSE(world.beat(login).value().recovered);
}

TEST_F(GatewaySim, GoingAndComingBackAreToldOnceEach) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  std::uint64_t seen = world.gateway->last_event();
  auto told = [&] {
    std::vector<std::string> names;
    auto batch = world.runtime.wait(world.gateway->events(seen)).value();
    for (const auto& event : batch.events) names.push_back(event.name);
    seen = world.gateway->last_event();
    return names;
  };
  world.leap(Seconds(120));
  EXPECT_EQ(told(), (std::vector<std::string>{"session_presence", "session_offline"}));
  EXPECT_TRUE(world.beat(login).value().recovered);
  EXPECT_EQ(told(), (std::vector<std::string>{"session_presence", "heartbeat_update"}));
}

TEST_F(GatewaySim, AHandshakeIsASignOfLife) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto tunnel = world.initiate(login).value();
  for (int i = 0; i < 20; ++i) {
    world.wireguard.traffic("wg1", tunnel.session.key, 1000, 10, world.clock.now());
    world.leap(Seconds(60));
  }
  auto session = world.unclosed()[0];
  EXPECT_EQ(session.presence, Presence::online);
  EXPECT_EQ(session.lane.str(), "tor");
}

TEST_F(GatewaySim, I44DeadlinesOfManyAtOnceWaitForAPerson) {
  world.add_user("crowd", 100);
  for (int i = 0; i < 30; ++i) world.initiate(world.login("crowd").value()).value();
  EXPECT_EQ(world.runtime.wait(world.gateway->confirm_ends(Caller::system())).error().code(), errc::conflict);
  world.leap(Seconds(86400 + 1));
  world.pass(Seconds(5));
  EXPECT_EQ(world.unclosed().size(), 30U);
  world.expect_sound("held");
  auto health = world.gateway->health();
  auto ends = std::find_if(health.begin(), health.end(), [](const Component& c) { return c.name == "ends"; });
  ASSERT_NE(ends, health.end());
  EXPECT_FALSE(ends->ready);
  EXPECT_EQ(world.runtime.wait(world.gateway->confirm_ends(Caller::system())).value(), 30U);
  world.pass(Seconds(5));
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_EQ(world.history().size(), 30U);
  world.pass(Seconds(1));
  EXPECT_EQ(world.runtime.wait(world.gateway->confirm_ends(Caller::system())).error().code(), errc::conflict);
}

TEST_F(GatewaySim, I44AFewOfManyEndByThemselves) {
  world.add_user("crowd", 300);
  world.initiate(world.login("crowd").value()).value();
  world.initiate(world.login("crowd").value()).value();
  world.leap(Seconds(86400 - 60));
  for (int i = 0; i < 30; ++i) world.initiate(world.login("crowd").value()).value();
  world.leap(Seconds(61));
  world.pass(Seconds(3));
  EXPECT_EQ(world.unclosed().size(), 30U);
}

TEST_F(GatewaySim, WhyFollowsADeviceFromItsAccountToItsHandshake) {
  auto wrong = [&](const std::string& subject) {
    auto why = world.runtime.wait(world.gateway->why(Caller::operator_named("test"), subject)).value();
    return why.first_wrong() == nullptr ? std::string() : why.first_wrong()->check;
  };
  User alice = world.add_user("alice");
  EXPECT_EQ(wrong("alice"), "sign_in");
  auto login = world.login("alice").value();
  EXPECT_EQ(wrong("alice@example.org"), "session");
  auto tunnel = world.initiate(login).value();
  EXPECT_EQ(wrong(alice.id.str()), "handshake");
  world.wireguard.traffic("wg0", tunnel.session.key, 1000, 10, world.clock.now());
  EXPECT_EQ(wrong(login.device.id.str()), "");
  EXPECT_EQ(wrong(tunnel.session.id()), "");
  world.wireguard.drop("wg1");
  EXPECT_EQ(wrong("alice"), "peer_tor");
  auto nobody = world.runtime.wait(world.gateway->why(Caller::operator_named("test"), "nobody"));
  EXPECT_EQ(nobody.error().code(), errc::not_found);
}

TEST_F(GatewaySim, I08AnIdleSessionEndsAndTheHardLimitHolds) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  world.leap(Seconds(86400 + 1));
  world.pass(Seconds(3));
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_EQ(world.history()[0].reason, CloseReason::idle);
  world.expect_sound("idle");

  auto again = world.login("alice").value();
  auto tunnel = world.initiate(again).value();
  for (int day = 0; day < 15; ++day) {
    world.leap(Seconds(86000));
    world.wireguard.traffic("wg0", tunnel.session.key, 10, 10, world.clock.now());
    world.pass(Seconds(6));
  }
  world.leap(Seconds(90000));
  world.pass(Seconds(3));
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_EQ(world.history()[0].reason, CloseReason::expired);
}

TEST_F(GatewaySim, I05SuspendCutsSessionsAndTokens) {
  auto user = world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  auto cut = world.runtime.wait(world.gateway->suspend(Caller::system(), user.id)).value();
  EXPECT_EQ(cut.sessions.size(), 1U);
  world.settle();
  world.expect_sound("suspended");
  EXPECT_EQ(world.history()[0].reason, CloseReason::revoked);
  EXPECT_EQ(class_of(world.initiate(login).error().code()), error_class::unauthenticated);
  EXPECT_EQ(world.login("alice").error().code(), errc::user_inactive);
  auto refresh =
      world.runtime.wait(world.gateway->reauth(Caller::system(), std::string(login.tokens.refresh.reveal())));
  EXPECT_EQ(refresh.error().code(), errc::user_inactive);
  // Reinstated accounts sign in again; old tokens stay void.
  world.runtime.wait(world.gateway->reinstate(Caller::system(), user.id)).value();
  EXPECT_EQ(world.beat(login).error().code(), errc::revoked);
  EXPECT_TRUE(world.login("alice"));
}

TEST_F(GatewaySim, D008APasswordChangeCutsEverything) {
  auto user = world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  UserChanges changes;
  changes.password = Secret("another horse");
  world.runtime.wait(world.gateway->update_user(Caller::system(), user.id, changes)).value();
  world.settle();
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_EQ(world.beat(login).error().code(), errc::revoked);
  EXPECT_EQ(world.login("alice").error().code(), errc::invalid_credentials);
  EXPECT_TRUE(world.login("alice", "another horse"));
}

TEST_F(GatewaySim, D005ADeletedUserIsGoneAndTheNameIsFree) {
  auto user = world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  world.runtime.wait(world.gateway->remove_user(Caller::system(), user.id)).value();
  world.settle();
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_EQ(world.login("alice").error().code(), errc::invalid_credentials);
  auto refresh =
      world.runtime.wait(world.gateway->reauth(Caller::system(), std::string(login.tokens.refresh.reveal())));
  EXPECT_FALSE(refresh);
  world.add_user("alice");
  EXPECT_TRUE(world.login("alice"));
  EXPECT_EQ(world.history().size(), 1U);
}

TEST_F(GatewaySim, I07TheLeastRecentlyUsedOfflineDeviceGivesUpItsSlot) {
  world.add_user("alice", 2);
  auto first = world.login("alice").value();
  world.leap(Seconds(10));
  auto second = world.login("alice").value();
  world.initiate(second).value();
  auto third = world.login("alice").value();
  ASSERT_EQ(third.evicted.size(), 1U);
  EXPECT_EQ(third.evicted[0], first.device.id);
  world.initiate(third).value();
  // Both are online now: a fourth is refused.
  EXPECT_EQ(world.login("alice").error().code(), errc::device_limit);
  world.leap(Seconds(200));
  EXPECT_TRUE(world.login("alice")) << "both are offline: one gives way";
}

TEST_F(GatewaySim, PoolExhaustionIsAClearErrorAndChangesNothing) {
  world.gateway.reset();
  world.config.lanes.tor.pool = "10.9.0.0/29";
  world.boot().value();
  std::vector<Login> logins;
  for (int i = 0; i < 6; ++i) {
    world.add_user("user" + std::to_string(i));
    logins.push_back(world.login("user" + std::to_string(i)).value());
  }
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(world.initiate(logins[static_cast<std::size_t>(i)])) << i;
  EXPECT_EQ(world.initiate(logins[5]).error().code(), errc::pool_exhausted);
  world.settle();
  world.expect_sound("exhausted");
  EXPECT_EQ(world.gateway->ipam().usage(Lane("vpn")).leased, 5U);
}

TEST_F(GatewaySim, D081AFreedAddressRestsBeforeSomebodyElseGetsIt) {
  world.gateway.reset();
  world.config.lanes.vpn.pool = "10.8.0.0/29";
  world.boot().value();
  world.add_user("alice");
  world.add_user("bob");
  auto alice = world.login("alice").value();
  auto had = world.initiate(alice).value().lanes[0].address;
  world.logout(alice).value();
  world.settle();
  auto bob = world.login("bob").value();
  EXPECT_NE(world.initiate(bob).value().lanes[0].address, had);
}

TEST_F(GatewaySim, TrafficIsCountedOnceThroughRestartsAndReplacements) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto tunnel = world.initiate(login).value();
  world.wireguard.traffic("wg0", tunnel.session.key, 1000, 2000, world.clock.now());
  world.pass(Seconds(6));
  world.runtime.wait(world.gateway->stop()).value();
  world.crash();
  world.boot().value();
  world.wireguard.traffic("wg0", tunnel.session.key, 500, 0, world.clock.now());
  world.wireguard.traffic("wg1", tunnel.session.key, 7, 3, world.clock.now());
  world.pass(Seconds(6));
  world.logout(login).value();
  world.settle();
  auto row = world.history()[0];
  EXPECT_EQ(row.received, 1507U);
  EXPECT_EQ(row.sent, 2003U);
}

TEST_F(GatewaySim, I06AddressesOfForeignPeersAreNotLeased) {
  world.crash();
  InterfaceChange change("wg0");
  Peer foreign;
  foreign.key = X25519Key::generate().public_key();
  foreign.allowed = {Prefix("10.8.0.2/32")};
  change.peers = {foreign};
  world.runtime.wait(world.wireguard.set(change)).value();
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  EXPECT_EQ(world.initiate(login).value().lanes[0].address.str(), "10.8.0.3");
  EXPECT_EQ(world.peers("wg0").size(), 2U) << "the foreign peer is left alone";
}

TEST_F(GatewaySim, HistoryKnowsHowOftenASessionRoamedAndWhereItWasLast) {
  for (const char* privacy : {"full", "network", "none"}) {
    world.crash();
    world.config.session.address_privacy = privacy;
    world.boot().value();
    const std::string name = std::string("user-") + privacy;
    world.add_user(name);
    auto login = world.login(name).value();
    world.initiate(login).value();
    for (const char* from : {"198.51.100.4", "198.51.100.5"})
      world.runtime.wait(world.gateway->heartbeat(world.caller(login, from).value())).value();
    const std::string now = privacy == std::string("full")      ? "198.51.100.5"
                            : privacy == std::string("network") ? "198.51.100.0/24"
                                                                : "";
    EXPECT_EQ(world.unclosed().at(0).seen_from.str(), now);
    auto events = world.runtime.wait(world.gateway->events(0)).value().events;
    for (const auto& event : events)
      EXPECT_TRUE(privacy == std::string("full") || event.json.find("198.51.100.5") == std::string::npos) << event.json;
    EXPECT_EQ(std::count_if(events.begin(), events.end(), [](const Event& e) { return e.name == "session_roamed"; }),
              2);
    world.logout(login).value();
    world.settle();
    world.pass(Seconds(3));
    auto row = world.history().at(0);
    EXPECT_EQ(row.roamed, 2U);
    EXPECT_EQ(row.seen_from.str(), now);
    EXPECT_EQ(row.first_seen_from.str(), privacy == std::string("full")      ? "203.0.113.7"
                                         : privacy == std::string("network") ? "203.0.113.0/24"
                                                                             : "");
  }
}

/// Sessions that have not become active yet have no sign of life, and are nobody's mass end.
TEST_F(GatewaySim, ManyWhoConnectAtOnceAreNotHeldForAMassEnd) {
  constexpr std::size_t many = 25;
  world.leap(Seconds(100));
  world.add_user("crowd", 100);
  std::vector<Login> logins;
  for (std::size_t i = 0; i < many; ++i) logins.push_back(world.login("crowd").value());
  auto connect = [](World& w, Caller who) -> Task<void> {
    (void)co_await w.gateway->initiate(std::move(who), World::fresh_key());
    co_return Result<void>();
  };
  std::vector<Background> connecting;
  world.steps.hold(true);
  for (const auto& login : logins)
    connecting.push_back(world.runtime.spawn(connect(world, world.caller(login).value())));
  world.settle();
  for (int guard = 0; world.unclosed().size() < many && guard < 100; ++guard) {
    world.steps.release(0);
    world.settle();
  }
  ASSERT_EQ(world.unclosed().size(), many);
  for (const auto& session : world.unclosed()) ASSERT_EQ(session.state, SessionState::pending);
  for (int i = 0; i < 3; ++i) world.leap(Seconds(1));
  for (const auto& component : world.gateway->health()) EXPECT_NE(component.name, "ends") << component.detail;
  world.steps.hold(false);
  while (world.steps.held() > 0) world.steps.release(0);
  world.settle();
  EXPECT_EQ(world.gateway->sessions().online(), many);
}

TEST_F(GatewaySim, AUsersNextDeviceTakesOverTheAddress) {
  world.add_user("alice");
  auto first = world.login("alice").value();
  auto had = world.initiate(first).value().lanes[0].address;
  for (int round = 0; round < 300; ++round) {
    world.logout(first).value();
    world.settle();
    first = world.login("alice").value();
    ASSERT_EQ(world.initiate(first).value().lanes[0].address, had) << "one account must not empty a pool";
  }
}

TEST_F(GatewaySim, I11HeartbeatsAndRefreshesOutliveTheStore) {
  world.add_user("alice");
  auto login = world.login("alice").value();
  world.initiate(login).value();
  world.beat(login).value();
  world.steps.power(false);
  world.clock.advance(Seconds(5));
  EXPECT_TRUE(world.beat(login));
  auto refreshing = [&]() {
    auto task = world.gateway->reauth(Caller::system(), std::string(login.tokens.refresh.reveal()));
    std::optional<Result<Refreshed>> out;
    auto body = [](Task<Refreshed> inner, std::optional<Result<Refreshed>>& into) -> Task<void> {
      into = co_await std::move(inner);
      co_return Result<void>();
    };
    Background running = world.runtime.spawn(body(std::move(task), out));
    for (int i = 0; i < 100 && !out; ++i) world.leap(Seconds(1));
    return std::move(*out);
  };
  auto renewed = refreshing();
  ASSERT_TRUE(renewed) << renewed.error().detail();
  auto initiated = world.initiate(login);
  ASSERT_FALSE(initiated);
  EXPECT_EQ(class_of(initiated.error().code()), error_class::unavailable);
  world.steps.power(true);
  // The newer generation is adopted, not taken for reuse.
  Login now = login;
  now.tokens = renewed->tokens;
  auto adopted = world.runtime.wait(world.gateway->reauth(Caller::system(), std::string(now.tokens.refresh.reveal())));
  EXPECT_TRUE(adopted) << adopted.error().detail();
}

TEST(Roaming, I16ABeatInsideTheTunnelTellsNothingOfTheOuterAddress) {
  World world;
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  auto tunnel = world.initiate(login).value();
  world.crash();
  world.boot().value();
  // Before any interface was read the gateway does not know where the tunnel ends outside.
  auto inside = world.caller(login, tunnel.lanes.at(0).address.str()).value();
  world.runtime.wait(world.gateway->heartbeat(inside)).value();
  auto session = world.unclosed().at(0);
  EXPECT_EQ(session.seen_from.str(), "203.0.113.0/24");
  EXPECT_EQ(session.roamed, 0U);
  for (const auto& event : world.runtime.wait(world.gateway->events(0)).value().events)
    EXPECT_NE(event.name, "session_roamed");
}

}  // namespace
}  // namespace tornado::test
