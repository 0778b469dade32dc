// The throw-away device of `lane verify`: one at a time, never a session, gone after a minute whatever happens.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class VerificationSim : public ::testing::Test {
 protected:
  void SetUp() override { world.boot().value(); }

  Result<VerificationTicket> begin(const char* lane = "tor", const std::string& key = World::fresh_key()) {
    return world.runtime.wait(world.gateway->verify_begin(Caller::system(), Lane(lane), key));
  }
  Result<LaneVerified> end(const std::string& token, int held, std::vector<std::string> failed = {}) {
    return world.runtime.wait(world.gateway->verify_end(Caller::system(), token, held, std::move(failed)));
  }
  std::vector<Event> outcomes() {
    auto batch = world.runtime.wait(world.gateway->events(0)).value();
    std::erase_if(batch.events, [](const Event& event) { return event.name != "lane_verified"; });
    return batch.events;
  }
  void expect_gone() {
    world.settle();
    world.expect_sound("after the verification");
    EXPECT_TRUE(world.peers("wg0").empty() && world.peers("wg1").empty());
    EXPECT_TRUE(world.gateway->ipam().list().empty());
    EXPECT_TRUE(world.history().empty());
  }
  World world;
};

TEST_F(VerificationSim, ItsDeviceIsOnOneLaneAndNoSession) {
  auto ticket = begin().value();
  EXPECT_TRUE(world.peers("wg0").empty());
  ASSERT_EQ(world.peers("wg1").size(), 1U);
  EXPECT_EQ(world.peers("wg1")[0].allowed.at(0), Prefix(ticket.address.v4, 32));
  EXPECT_TRUE(world.unclosed().empty());
  EXPECT_TRUE(world.runtime.wait(world.gateway->reconcile()).value().foreign.empty());
  auto outcome = end(ticket.token, 57).value();
  EXPECT_EQ(outcome.held, 57);
  expect_gone();
  ASSERT_EQ(world.gateway->verified().size(), 1U);
  ASSERT_EQ(outcomes().size(), 1U);
  // Verifying again and again uses up no pool (I-08).
  auto again = begin().value();
  EXPECT_EQ(again.address, ticket.address);
}

TEST_F(VerificationSim, OneAtATime) {
  auto ticket = begin().value();
  EXPECT_EQ(begin("vpn").error().code(), errc::conflict);
  EXPECT_EQ(end("another", 1).error().code(), errc::not_found);
  end(ticket.token, 1).value();
  EXPECT_EQ(end(ticket.token, 1).error().code(), errc::not_found);
  EXPECT_EQ(begin("moon").error().code(), errc::not_found);
  EXPECT_EQ(begin("vpn", "no key").error().code(), errc::key_invalid);
  EXPECT_TRUE(begin("vpn"));
}

Task<void> begin_into(Gateway& gateway, std::optional<Result<VerificationTicket>>& out) {
  out = co_await gateway.verify_begin(Caller::system(), Lane("tor"), World::fresh_key());
  co_return Result<void>();
}

TEST_F(VerificationSim, OneThatTakesAMinuteToBeginIsNotClearedUnderneath) {
  world.steps.hold(true);
  std::optional<Result<VerificationTicket>> ticket;
  Background beginning = world.runtime.spawn(begin_into(*world.gateway, ticket));
  // The peer: nothing before it is a step.
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (world.steps.held() == 0 && std::chrono::steady_clock::now() < limit) world.settle();
  world.leap(Seconds(61));
  for (int i = 0; i < 50 && world.steps.held() > 0; ++i) {
    world.steps.release(0);
    world.settle();
  }
  world.steps.hold(false);
  world.settle();
  ASSERT_TRUE(ticket);
  ASSERT_TRUE(*ticket) << (*ticket).error().detail();
  EXPECT_FALSE((*ticket)->token.empty());
  world.pass(Seconds(3));
  expect_gone();
}

TEST_F(VerificationSim, AMinuteIsAllItGets) {
  auto ticket = begin().value();
  world.pass(Seconds(58));
  EXPECT_EQ(world.peers("wg1").size(), 1U);
  world.pass(Seconds(4));
  expect_gone();
  EXPECT_EQ(end(ticket.token, 57).error().code(), errc::not_found);
  EXPECT_TRUE(world.gateway->verified().empty());
}

TEST_F(VerificationSim, WhatCouldNotBeTakenAwayIsTriedAgainAndKeepsItsAddress) {
  auto ticket = begin().value();
  world.wireguard.fail_next(20, errc::backend_failed);
  end(ticket.token, 57).value();
  EXPECT_EQ(begin().error().code(), errc::conflict);
  EXPECT_EQ(world.gateway->ipam().list().size(), 1U);
  world.wireguard.fail_next(0, errc::backend_failed);
  world.pass(Seconds(4));
  expect_gone();
  EXPECT_TRUE(begin());
}

TEST_F(VerificationSim, WhatCouldNotBeAdmittedLeavesNothing) {
  world.wireguard.fail_next(1, errc::backend_failed);
  EXPECT_FALSE(begin());
  world.pass(Seconds(4));
  expect_gone();
  EXPECT_TRUE(begin());
}

TEST_F(VerificationSim, ACrashLeavesNoForeignPeer) {
  auto ticket = begin().value();
  world.crash();
  world.boot().value();
  EXPECT_EQ(end(ticket.token, 57).error().code(), errc::not_found);
  EXPECT_TRUE(world.runtime.wait(world.gateway->reconcile()).value().foreign.empty());
  world.pass(Seconds(4));
  expect_gone();
  EXPECT_TRUE(begin());
}

TEST_F(VerificationSim, ALaneThatDidNotHoldShowsInItsHealth) {
  end(begin().value().token, 55, {"udp_quic leaked", "host_tcp answered"}).value();
  bool shown = false;
  for (const auto& component : world.gateway->health())
    if (component.name == "lane_tor_verified")
      shown = !component.ready && component.advisory && component.detail.find("udp_quic leaked") != std::string::npos;
  EXPECT_TRUE(shown);
  end(begin().value().token, 57).value();
  for (const auto& component : world.gateway->health())
    EXPECT_TRUE(component.name != "lane_tor_verified" || component.ready);
}

}  // namespace
}  // namespace tornado::test
