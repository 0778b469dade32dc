// A session that takes another one's place, and does not come up; and keys that come back.
#include "support/world.hpp"

namespace tornado::test {
namespace {

PublicKey parsed(const std::string& key) {
  return PublicKey::parse(key).value();
}

TEST(ReplacedSim, AKeyComesBackWhileItsFormerSessionEnds) {
  World world;
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  const std::string key = World::fresh_key();
  world.initiate(login, key).value();
  world.refusal.peer = parsed(key);
  world.initiate(login).value();
  world.settle();
  world.refusal.peer.reset();
  auto again = world.initiate(login, key);
  ASSERT_TRUE(again) << name(again.error().code()) << ": " << again.error().detail();
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  ASSERT_EQ(world.unclosed().size(), 1U);
  EXPECT_EQ(world.unclosed()[0].key, parsed(key));
  EXPECT_EQ(world.history().size(), 2U);
  world.expect_sound("the first key again");
}

/// The new peer is refused, and one more step fails, whichever. Says whether there was such a step.
bool fails_twice(int at, bool retried) {
  World world;
  world.boot().value();
  world.add_user("alice");
  auto login = world.login("alice").value();
  const std::string first = World::fresh_key(), second = World::fresh_key();
  world.initiate(login, first).value();
  world.settle();
  world.refusal.peer = parsed(second);
  world.steps.arm(at, Steps::Fault::fail_before);
  EXPECT_FALSE(world.initiate(login, second));
  const bool fired = world.steps.fired();
  world.steps.disarm();
  world.refusal.peer.reset();
  if (retried) {
    auto again = world.initiate(login, second);
    EXPECT_TRUE(again) << name(again.error().code()) << ": " << again.error().detail();
  }
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  const auto left = world.unclosed();
  EXPECT_EQ(left.size(), 1U);
  if (left.size() == 1) {
    EXPECT_EQ(left[0].key, parsed(retried ? second : first));
  }
  world.expect_sound("in the end");
  return fired;
}

TEST(ReplacedSim, WhatCouldNotBeTakenBackIsTakenBackLater) {
  for (bool retried : {false, true})
    for (int at = 0; fails_twice(at, retried); ++at) {
      SCOPED_TRACE((retried ? "retried, step " : "step ") + std::to_string(at));
      ASSERT_LT(at, 40);
      if (::testing::Test::HasFailure()) return;
    }
}

TEST(ReplacedSim, ASuccessorThatIsEndedMeanwhileIsNotTakenBack) {
  for (int at = 0; at < 20; ++at) {
    SCOPED_TRACE("step " + std::to_string(at));
    World world;
    world.boot().value();
    auto user = world.add_user("alice");
    auto login = world.login("alice").value();
    world.initiate(login).value();
    world.settle();
    const std::string second = World::fresh_key();
    world.refusal.peer = parsed(second);
    world.steps.arm(at, Steps::Fault::fail_before);
    EXPECT_FALSE(world.initiate(login, second));
    world.steps.disarm();
    world.refusal.peer.reset();
    world.runtime.wait(world.gateway->suspend(Caller::system(), user.id)).value();
    for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
    EXPECT_TRUE(world.unclosed().empty());
    world.expect_sound("suspended");
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tornado::test
