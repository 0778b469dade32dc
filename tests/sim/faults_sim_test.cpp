// A failure and a crash after every step of every operation (I-01, I-04, I-06, D-066, D-070), and every order of the
// steps of two requests of one device (I-03).
#include "support/world.hpp"

namespace tornado::test {
namespace {

using Fault = Steps::Fault;

struct Scenario {
  const char* name;
  void (*run)(World&, const Login&, const User&);
  bool bystander_idles = false;
  bool under_a_policy = false;
  bool ends_access = false;
};

void apply_policy(World& world, const std::string& ports = "tcp/443") {
  (void)world.runtime.wait(world.gateway->apply_policy(
      Caller::system(),
      R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": ")" + ports + R"("}]})"));
}

void connect_and_apply(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  apply_policy(world, "tcp/80");
}

void connect(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
}

void reconnect(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  (void)world.initiate(login);
}

void connect_and_log_out(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  (void)world.logout(login);
}

void connect_and_disconnect(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  if (auto who = world.caller(login)) (void)world.runtime.wait(world.gateway->disconnect(*who));
}

void connect_and_suspend(World& world, const Login& login, const User& user) {
  (void)world.initiate(login);
  (void)world.runtime.wait(world.gateway->suspend(Caller::system(), user.id));
}

void connect_and_revoke(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  (void)world.runtime.wait(world.gateway->revoke_device(Caller::system(), login.device.id));
}

void connect_and_remove(World& world, const Login& login, const User& user) {
  (void)world.initiate(login);
  (void)world.runtime.wait(world.gateway->remove_user(Caller::system(), user.id));
}

void connect_and_change_password(World& world, const Login& login, const User& user) {
  (void)world.initiate(login);
  UserChanges changes;
  changes.password = Secret("another correct horse");
  (void)world.runtime.wait(world.gateway->update_user(Caller::system(), user.id, std::move(changes)));
}

Task<void> refresh(World& world, const Login& login) {
  (void)co_await world.gateway->reauth(Caller::system(), std::string(login.tokens.refresh.reveal()));
  co_return Result<void>();
}

/// A refresh token that was used is used again when no lost answer excuses it.
void connect_and_reuse(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  for (int i = 0; i < 2; ++i) {
    Background asking = world.runtime.spawn(refresh(world, login));
    world.settle();
    // An attempt that fails is repeated after a pause.
    world.leap(Seconds(60));
  }
}

void connect_and_idle(World& world, const Login& login, const User&) {
  (void)world.initiate(login);
  world.leap(Seconds(86500));
  world.pass(Seconds(2));
}

constexpr Scenario scenarios[] = {
    {"Connect", connect},
    {"Reconnect", reconnect},
    {"Logout", connect_and_log_out, false, false, true},
    {"Disconnect", connect_and_disconnect},
    {"Suspend", connect_and_suspend, false, false, true},
    {"RevokeDevice", connect_and_revoke, false, false, true},
    {"RemoveUser", connect_and_remove, false, false, true},
    {"ChangePassword", connect_and_change_password, false, false, true},
    {"Reuse", connect_and_reuse, false, false, true},
    {"Idle", connect_and_idle, true},
    {"ReconnectUnderAPolicy", reconnect, false, true},
    {"DisconnectUnderAPolicy", connect_and_disconnect, false, true},
    {"SuspendUnderAPolicy", connect_and_suspend, false, true},
    {"APolicy", connect_and_apply},
    {"AnotherPolicy", connect_and_apply, false, true},
};

class Faults : public ::testing::TestWithParam<Scenario> {};

int steps_of(const Scenario& scenario) {
  World world;
  world.boot().value();
  auto user = world.add_user("alice");
  auto login = world.login("alice").value();
  if (scenario.under_a_policy) apply_policy(world);
  world.steps.arm(-1, Fault::none);
  scenario.run(world, login, user);
  world.settle();
  const int steps = world.steps.count();
  auto session = world.gateway->sessions().find(login.device.id);
  EXPECT_FALSE(scenario.ends_access && session) << "it is to end the access of the device";
  return steps;
}

/// I-05: whoever may not connect has no session, whatever became of the answer to the change that said so.
void expect_only_entitled(World& world) {
  for (const auto& session : world.gateway->sessions().list("", 1000).sessions) {
    if (!session.live()) continue;
    ASSERT_TRUE(world.runtime.wait(world.gateway->users().recall({session.device})));
    auto account = world.runtime.wait(world.gateway->users().account(session.device));
    ASSERT_TRUE(account) << account.error().detail();
    EXPECT_TRUE(account->may_connect()) << account->username.str() << " may not connect and has a session (I-05)";
  }
}

void run_with_fault(const Scenario& scenario, int at, Fault fault) {
  std::optional<Address> early;
  World world;
  world.boot().value();
  // A session that was up before a crash counts as online for its grace: a second slot lets alice sign in again.
  auto user = world.add_user("alice", 5);
  world.add_user("bob", 5);
  auto login = world.login("alice").value();
  auto bob = world.login("bob").value();
  world.initiate(bob).value();
  if (scenario.under_a_policy) apply_policy(world);
  world.steps.watch = [&] {
    if (!early) early = world.rights_without_lease();
  };
  world.steps.arm(at, fault);
  scenario.run(world, login, user);
  world.settle();
  if (!world.steps.fired()) return;
  bool crashed = fault == Fault::crash_before || fault == Fault::crash_after;
  if (crashed) {
    world.crash();
    auto booted = world.boot();
    ASSERT_TRUE(booted) << booted.error().detail();
  }
  world.steps.disarm();
  world.settle();
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  world.expect_sound("after the fault");
  expect_only_entitled(world);
  // Whatever happened, nobody is locked out, and the bystander has noticed nothing.
  if (!scenario.bystander_idles) {
    EXPECT_TRUE(world.beat(bob));
  }
  (void)world.runtime.wait(world.gateway->reinstate(Caller::system(), user.id));
  auto account = world.runtime.wait(world.gateway->users().get(user.id));
  const bool gone = !account || account->deleted != Instant();
  auto again = gone ? world.login("bob") : world.login("alice");
  if (!again && again.error().code() == errc::invalid_credentials)
    again = world.login("alice", "another correct horse");
  ASSERT_TRUE(again) << again.error().detail();
  auto tunnel = world.initiate(*again);
  ASSERT_TRUE(tunnel) << name(tunnel.error().code()) << ": " << tunnel.error().detail();
  world.settle();
  for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
  world.expect_sound("connected again");
  EXPECT_FALSE(early) << early->str() << " had rights after its lease was released";
}

TEST_P(Faults, EveryStepMayFailOrBeTheLast) {
  int steps = steps_of(GetParam());
  ASSERT_GE(steps, 4) << "the scenario takes hardly a step: is it wired?";
  for (int at = 0; at < steps; ++at)
    for (Fault fault : {Fault::fail_before, Fault::fail_after, Fault::crash_before, Fault::crash_after}) {
      SCOPED_TRACE(std::string(GetParam().name) + ", step " + std::to_string(at) + " of " + std::to_string(steps) +
                   ", fault " + std::to_string(static_cast<int>(fault)));
      run_with_fault(GetParam(), at, fault);
      if (::testing::Test::HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, Faults, ::testing::ValuesIn(scenarios),
                         [](const auto& info) { return std::string(info.param.name); });

// ---------------------------------------------------------------- orders

using Request = Task<void> (*)(World&, const Login&, const User&);

template <class T>
Task<void> drop(Task<T> task) {
  (void)co_await std::move(task);
  co_return Result<void>();
}

Task<void> ask_initiate(World& world, const Login& login, const User&) {
  auto who = world.caller(login);
  if (!who) co_return who.error();
  co_return co_await drop(world.gateway->initiate(*who, World::fresh_key()));
}
Task<void> ask_logout(World& world, const Login& login, const User&) {
  co_return co_await world.gateway->logout(Caller::system(), std::string(login.tokens.refresh.reveal()));
}
Task<void> ask_disconnect(World& world, const Login& login, const User&) {
  auto who = world.caller(login);
  if (!who) co_return who.error();
  co_return co_await world.gateway->disconnect(*who);
}
Task<void> ask_suspend(World& world, const Login&, const User& user) {
  co_return co_await drop(world.gateway->suspend(Caller::system(), user.id));
}
Task<void> ask_close(World& world, const Login& login, const User&) {
  auto session = world.gateway->sessions().find(login.device.id);
  if (!session) co_return Result<void>();
  co_return co_await drop(world.gateway->close(Caller::system(), session->instance, CloseReason::killed));
}
Task<void> ask_refresh(World& world, const Login& login, const User&) {
  co_return co_await drop(world.gateway->reauth(Caller::system(), std::string(login.tokens.refresh.reveal())));
}

Task<void> ask_revoke(World& world, const Login& login, const User&) {
  co_return co_await drop(world.gateway->revoke_device(Caller::system(), login.device.id));
}

struct Pair {
  const char* name;
  Request first, second;
};

constexpr Pair pairs[] = {
    {"InitiateInitiate", ask_initiate, ask_initiate},
    {"InitiateLogout", ask_initiate, ask_logout},
    {"InitiateSuspend", ask_initiate, ask_suspend},
    {"InitiateClose", ask_initiate, ask_close},
    {"InitiateDisconnect", ask_initiate, ask_disconnect},
    {"LogoutDisconnect", ask_logout, ask_disconnect},
    {"LogoutSuspend", ask_logout, ask_suspend},
    {"RefreshLogout", ask_refresh, ask_logout},
    {"RefreshSuspend", ask_refresh, ask_suspend},
    {"RefreshRefresh", ask_refresh, ask_refresh},
    {"CloseSuspend", ask_close, ask_suspend},
    {"InitiateRefresh", ask_initiate, ask_refresh},
    {"InitiateRevoke", ask_initiate, ask_revoke},
};

Task<void> nothing() {
  co_return Result<void>();
}

/// A request that arrives when the schedule says so.
Task<void> arrive(Request request, World& world, const Login& login, const User& user) {
  auto arrived = co_await world.steps.pass(nothing());
  if (!arrived) co_return arrived;
  co_return co_await request(world, login, user);
}

class Orders : public ::testing::TestWithParam<Pair> {};

void run_in_order(const Pair& pair, bool connected, Schedule& schedule) {
  std::optional<Address> early;
  World world;
  world.boot().value();
  auto user = world.add_user("alice");
  auto login = world.login("alice").value();
  if (connected) world.initiate(login).value();
  // With one there is more that can go wrong, and more orders.
  if (connected) apply_policy(world);
  world.settle();
  world.steps.watch = [&] {
    if (!early) early = world.rights_without_lease();
  };
  world.steps.hold(true);
  Background first = world.runtime.spawn(arrive(pair.first, world, login, user));
  Background second = world.runtime.spawn(arrive(pair.second, world, login, user));
  world.settle();
  for (int guard = 0; world.steps.held() > 0 && guard < 500; ++guard) {
    world.steps.release(schedule.choose(world.steps.held()));
    world.settle();
  }
  world.steps.hold(false);
  world.settle();
  world.pass(Seconds(2));
  world.expect_sound("after both");
  EXPECT_FALSE(early) << early->str() << " had rights after its lease was released";
  world.steps.watch = nullptr;
  expect_only_entitled(world);
}

TEST_P(Orders, EveryInterleavingIsSound) {
  constexpr int most_runs = 300;
  for (bool connected : {true, false}) {
    Schedule schedule;
    int runs = 0;
    do {
      SCOPED_TRACE(std::string(GetParam().name) + (connected ? " connected" : " new") + ", order " +
                   std::to_string(runs));
      run_in_order(GetParam(), connected, schedule);
      if (::testing::Test::HasFailure()) return;
    } while (++runs < most_runs && schedule.next());
    RecordProperty(connected ? "orders_connected" : "orders_new", runs);
    if (connected) {
      EXPECT_GT(runs, 1) << "the two requests never had a choice: is anything held?";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pairs, Orders, ::testing::ValuesIn(pairs),
                         [](const auto& info) { return std::string(info.param.name); });

class FaultsInOrders : public ::testing::TestWithParam<Pair> {
 protected:
  /// The initiate's steps first or last, one of all steps with a fault. True: the former session was replaced, and was
  /// brought back.
  bool run(bool initiate_first, int at, Fault fault) {
    World world;
    world.boot().value();
    auto user = world.add_user("alice", 5);
    auto login = world.login("alice").value();
    const Instance former = world.initiate(login).value().session.instance;
    world.settle();
    bool replaced = false, brought_back = false;
    world.steps.watch = [&] {
      auto session = world.gateway->sessions().find(former);
      replaced = replaced || (session && session->state == SessionState::closing);
      brought_back = brought_back || (replaced && session && session->state == SessionState::active);
    };
    world.steps.hold(true);
    Background first = world.runtime.spawn(arrive(GetParam().first, world, login, user));
    Background second = world.runtime.spawn(arrive(GetParam().second, world, login, user));
    world.settle();
    world.steps.arm(at, fault);
    for (int guard = 0; world.steps.held() > 0 && guard < 500; ++guard) {
      world.steps.release(initiate_first ? 0 : world.steps.held() - 1);
      world.settle();
    }
    world.steps.hold(false);
    world.steps.disarm();
    world.settle();
    for (int i = 0; i < 4; ++i) world.leap(Seconds(31));
    world.steps.watch = nullptr;
    world.expect_sound("after both");
    expect_only_entitled(world);
    expect_nobody_locked_out(world, user);
    return brought_back;
  }

  void expect_nobody_locked_out(World& world, const User& user) {
    (void)world.runtime.wait(world.gateway->reinstate(Caller::system(), user.id));
    auto again = world.login("alice");
    ASSERT_TRUE(again) << again.error().detail();
    auto tunnel = world.initiate(*again);
    EXPECT_TRUE(tunnel) << name(tunnel.error().code()) << ": " << tunnel.error().detail();
  }
};

constexpr Pair fateful[] = {
    {"Revoke", ask_initiate, ask_revoke}, {"Suspend", ask_initiate, ask_suspend},
    {"Logout", ask_initiate, ask_logout}, {"Disconnect", ask_initiate, ask_disconnect},
    {"Close", ask_initiate, ask_close},
};

/// An initiate that fails to replace a session brings it back: not for a device whose access has ended meanwhile, nor
/// with addresses that somebody else has.
TEST_P(FaultsInOrders, WhatAFailedInitiateBringsBackIsSound) {
  int brought_back = 0;
  for (Fault fault : {Fault::fail_before, Fault::fail_after})
    for (bool initiate_first : {true, false})
      for (int at = 0; at < 24; ++at) {
        SCOPED_TRACE(std::to_string(at) + (initiate_first ? ", initiate first" : ", initiate last") +
                     (fault == Fault::fail_before ? ", fails" : ", its answer is lost"));
        brought_back += run(initiate_first, at, fault) ? 1 : 0;
        if (::testing::Test::HasFailure()) return;
      }
  EXPECT_GT(brought_back, 0) << "no session came back";
}

INSTANTIATE_TEST_SUITE_P(Ends, FaultsInOrders, ::testing::ValuesIn(fateful),
                         [](const auto& info) { return std::string(info.param.name); });

/// What is closing is finished in the background, whoever wakes that: not what an initiate has brought back meanwhile.
TEST(BroughtBack, ASessionThatComesBackIsNotFinishedForTheOneThatWasToReplaceIt) {
  World world;
  world.boot().value();
  auto user = world.add_user("alice"), other = world.add_user("bob");
  auto alice = world.login("alice").value(), bob = world.login("bob").value();
  const Instance former = world.initiate(alice).value().session.instance;
  world.initiate(bob).value();
  world.settle();
  world.steps.hold(true);
  world.refusal.interfaces = 1;
  Background replacing = world.runtime.spawn(ask_initiate(world, alice, user));
  world.settle();
  for (int guard = 0; world.refusal.interfaces > 0 && guard < 20; ++guard) {
    ASSERT_EQ(world.steps.held(), 1U);
    world.steps.release(0);
    world.settle();
  }
  ASSERT_EQ(world.gateway->sessions().find(former)->state, SessionState::closing) << "it is being replaced";
  Background leaving = world.runtime.spawn(ask_disconnect(world, bob, other));
  world.settle();
  for (int guard = 0; world.steps.held() > 1 && guard < 100; ++guard) {
    world.steps.release(1);
    world.settle();
  }
  ASSERT_EQ(world.steps.held(), 1U) << "only the peer that is to be refused";
  world.steps.hold(false);
  world.steps.release(0);
  world.settle();
  for (int i = 0; i < 4; ++i) world.leap(Seconds(5));
  auto session = world.gateway->sessions().find(alice.device.id);
  ASSERT_TRUE(session);
  EXPECT_EQ(session->instance, former);
  EXPECT_TRUE(world.beat(alice));
  world.expect_sound("brought back");
}

}  // namespace
}  // namespace tornado::test
