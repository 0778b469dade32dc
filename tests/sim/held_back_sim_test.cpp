// A stored policy that does not come into force: the gateway starts all the same, and opens nothing.
#include "support/world.hpp"

namespace tornado::test {
namespace {

constexpr const char* web = R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})";

class HeldBack : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.boot().value();
    world_.add_user("alice", 3);
    login_ = world_.login("alice").value();
    world_.initiate(login_).value();
    apply(web).value();
    EXPECT_EQ(rights()->access_class, first_class);
  }

  Result<PolicyInForce> apply(const std::string& document) {
    auto applied = world_.runtime.wait(world_.gateway->apply_policy(Caller::operator_named("olga"), document));
    world_.settle();
    return applied;
  }
  std::optional<DeviceAccess> rights_of(const Login& login) {
    auto session = world_.gateway->sessions().find(login.device.id).value();
    return world_.firewall->access_of(session.on("vpn")->v4);
  }
  std::optional<DeviceAccess> rights() { return rights_of(login_); }

  /// What another program, or a later version of this one, may have left.
  void spoil() {
    auto database = open_sqlite(world_.runtime, world_.config.database_path());
    Database::Body body = [](Tx& tx) -> Result<void> {
      auto done = tx.exec("UPDATE access_policies SET document = '{\"rights\": 7}'");
      return done ? Result<void>() : Result<void>(done.error());
    };
    world_.runtime.wait(database->transact(Scope::system(), body)).value();
    world_.runtime.wait(database->close()).value();
  }

  Component component(const std::string& name) {
    for (const auto& component : world_.gateway->health())
      if (component.name == name) return component;
    return {};
  }
  AccessVerdict explained() {
    return world_.runtime
        .wait(world_.gateway->explain_access(Caller::system(), "alice", AccessTarget::parse("1.1.1.1:443").value(),
                                             Lane("vpn")))
        .value();
  }
  int told(const std::string& event) {
    int count = 0;
    for (std::uint64_t seen = 0; world_.gateway->last_event() > seen;)
      for (const auto& one : world_.runtime.wait(world_.gateway->events(seen)).value().events) {
        count += one.name == event ? 1 : 0;
        seen = one.sequence;
      }
    return count;
  }

  /// The first steps that are held, one after the other: how many there were.
  int let_through(int most) {
    int count = 0;
    for (; count < most && world_.steps.held() > 0; ++count) {
      world_.steps.release(0);
      world_.settle();
    }
    return count;
  }

  void expect_closed(const std::string& where) {
    SCOPED_TRACE(where);
    ASSERT_TRUE(rights());
    EXPECT_EQ(rights()->access_class, blocked_class);
    EXPECT_FALSE(has_grants(*world_.firewall->applied()));
    EXPECT_FALSE(component("policy").ready);
    EXPECT_NE(component("policy").detail.find("tornadoctl policy apply"), std::string::npos);
    EXPECT_EQ(explained().rule, "policy held back");
    EXPECT_FALSE(explained().allowed);
    EXPECT_FALSE(world_.runtime.wait(world_.gateway->policy_in_force()).value().held_back.empty());
  }

  World world_;
  Login login_;
};

TEST_F(HeldBack, OneThatCannotBeReadOpensNothingAndTheNextOneMendsIt) {
  world_.crash();
  spoil();
  auto booted = world_.boot();
  ASSERT_TRUE(booted) << booted.error().detail();
  expect_closed("after the start");
  EXPECT_TRUE(world_.beat(login_)) << "the client API stays in reach";
  auto second = world_.login("alice").value();
  world_.initiate(second).value();
  EXPECT_EQ(rights_of(second)->access_class, blocked_class);
  world_.pass(Seconds(40));
  expect_closed("later");
  EXPECT_TRUE(component("limits").ready) << "what users move is counted all the same";
  EXPECT_EQ(told("policy_held_back"), 1) << "told once, not with every attempt";
  world_.expect_sound("held back");
  EXPECT_EQ(apply(web).value().version, 2);
  EXPECT_EQ(rights()->access_class, first_class);
  EXPECT_TRUE(component("policy").ready);
  EXPECT_EQ(explained().rule, "rights web");
  EXPECT_EQ(told("policy_applied"), 1);
  world_.expect_sound("mended");
}

TEST_F(HeldBack, OneThatTheKernelRefusesIsTriedAgainAndOpensNothingMeanwhile) {
  world_.crash();
  world_.refusal.refuses = has_grants;
  auto booted = world_.boot();
  ASSERT_TRUE(booted) << booted.error().detail();
  expect_closed("after the start");
  world_.refusal.count = 0;
  for (int i = 0; i < 60; ++i) {
    world_.pass(Seconds(10));
    (void)world_.beat(login_);
    ASSERT_NO_FATAL_FAILURE(expect_closed("after " + std::to_string(i * 10) + " s"));
  }
  EXPECT_GE(world_.refusal.count, 5);
  EXPECT_LE(world_.refusal.count, 12) << "with backoff";
  EXPECT_TRUE(component("peers").ready) << "peers are reconciled all the same";
  world_.refusal.refuses = [](const Ruleset&) { return false; };
  world_.pass(Seconds(310));
  EXPECT_EQ(rights()->access_class, first_class);
  EXPECT_TRUE(component("policy").ready);
  EXPECT_EQ(told("policy_applied"), 1);
  EXPECT_TRUE(world_.runtime.wait(world_.gateway->policy_in_force()).value().held_back.empty());
}

TEST_F(HeldBack, AnotherPolicyThatTheKernelRefusesTakesItsPlaceAndOpensNothing) {
  world_.crash();
  world_.refusal.refuses = has_grants;
  world_.boot().value();
  auto applied = apply(web);
  EXPECT_EQ(applied.error().code(), errc::backend_failed);
  expect_closed("after another one");
  EXPECT_NE(component("policy").detail.find("version 2"), std::string::npos) << component("policy").detail;
  // One that opens everything needs no grants: the kernel takes it.
  apply("{}").value();
  EXPECT_FALSE(rights());
  EXPECT_TRUE(component("policy").ready);
}

TEST_F(HeldBack, AKernelThatRefusesEverythingIsNotThePolicysFault) {
  world_.crash();
  world_.refusal.refuses = [](const Ruleset&) { return true; };
  auto booted = world_.boot();
  ASSERT_FALSE(booted);
  EXPECT_NE(booted.error().detail().find("the kernel refuses it"), std::string::npos) << booted.error().detail();
  EXPECT_EQ(told("policy_held_back"), 0);
}

TEST_F(HeldBack, AtRunTimeTheFormerOneGoesOnAndPeersDoNotWait) {
  world_.refusal.refuses = has_grants;
  EXPECT_EQ(apply(R"({"rights": [{"name": "web", "who": "everyone", "to": "any", "ports": "tcp/1"}]})").error().code(),
            errc::backend_failed);
  EXPECT_EQ(rights()->access_class, first_class) << "the table in the kernel is the former one";
  EXPECT_FALSE(component("policy").ready);
  EXPECT_FALSE(world_.runtime.wait(world_.gateway->policy_in_force()).value().held_back.empty());
  InterfaceChange change("wg0");
  change.peers = world_.peers("wg0");
  change.peers.at(0).remove = true;
  world_.runtime.wait(world_.wireguard.set(change)).value();
  for (int i = 0; i < 3; ++i) world_.leap(Seconds(61));
  EXPECT_EQ(world_.peers("wg0").size(), 1U) << "a policy that is not taken keeps no peer waiting";
  // Somebody flushes what was left: now nothing is open.
  world_.firewall->tamper();
  world_.pass(Seconds(3));
  expect_closed("flushed");
  world_.refusal.refuses = [](const Ruleset&) { return false; };
  world_.pass(Seconds(20));
  EXPECT_TRUE(component("policy").ready) << component("policy").detail;
  EXPECT_EQ(rights()->access_class, first_class);
  EXPECT_EQ(told("policy_applied"), 2);
}

TEST_F(HeldBack, AtRunTimeARefusedOneChangesNothingForAnybody) {
  auto grants = [](const Ruleset& ruleset) {
    std::size_t count = 0;
    for (const auto& set : ruleset.sets) count += set.grants.size();
    return count;
  };
  const std::size_t former = grants(*world_.firewall->applied());
  world_.refusal.refuses = [&](const Ruleset& ruleset) { return grants(ruleset) != former; };
  auto applied = apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"},
                                      {"name": "one", "who": "user:alice", "to": "any", "ports": "tcp/1"}]})");
  EXPECT_EQ(applied.error().code(), errc::backend_failed);
  EXPECT_NE(applied.error().detail().find("version 1 goes on"), std::string::npos) << applied.error().detail();
  world_.refusal.count = 0;
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(i);
    world_.pass(Seconds(10));
    (void)world_.beat(login_);
    // Whoever comes has the rights of the former one, and whoever goes leaves an address that may be given again.
    auto second = world_.login("alice").value();
    auto address = world_.initiate(second).value().session.on("vpn")->v4;
    EXPECT_EQ(rights_of(second)->access_class, first_class);
    world_.logout(second).value();
    world_.pass(Seconds(1));
    EXPECT_FALSE(world_.firewall->access_of(address));
    ASSERT_FALSE(world_.gateway->ipam().find(address)) << "it is held back with the policy";
  }
  EXPECT_GE(world_.refusal.count, 4);
  EXPECT_LE(world_.refusal.count, 12) << "with backoff";
  EXPECT_EQ(rights()->access_class, first_class);
  EXPECT_EQ(explained().rule, "rights web");
  EXPECT_FALSE(component("policy").ready);
  EXPECT_TRUE(component("policy").advisory) << "what is in force does its work";
  EXPECT_EQ(told("policy_held_back"), 1);
  EXPECT_EQ(told("policy_applied"), 1);
  world_.expect_sound("held back");
  world_.refusal.refuses = [](const Ruleset&) { return false; };
  world_.pass(Seconds(310));
  EXPECT_TRUE(component("policy").ready) << component("policy").detail;
  EXPECT_EQ(told("policy_applied"), 2);
  EXPECT_GT(grants(*world_.firewall->applied()), former);
}

Task<void> spawned(Task<PolicyInForce> task, std::optional<Result<PolicyInForce>>& out) {
  out = co_await std::move(task);
  co_return Result<void>();
}
template <class T>
Task<void> spawned(Task<T> task) {
  (void)co_await std::move(task);
  co_return Result<void>();
}

/// The kernel takes the table and refuses what came while it was made: the policy is in force, and the rest follows.
TEST_F(HeldBack, OneThatIsTakenIsNotHeldBackForWhoCameMeanwhile) {
  int reached = 0;
  for (int steps_before = 0; steps_before < 8; ++steps_before) {
    SCOPED_TRACE(steps_before);
    auto second = world_.login("alice").value();
    auto who = world_.caller(second).value();
    const std::int64_t version = world_.runtime.wait(world_.gateway->policy_in_force()).value().version;
    std::optional<Result<PolicyInForce>> applied;
    world_.steps.hold(true);
    Background applying =
        world_.runtime.spawn(spawned(world_.gateway->apply_policy(Caller::operator_named("olga"), web), applied));
    world_.settle();
    let_through(steps_before);
    Background connecting = world_.runtime.spawn(spawned(world_.gateway->initiate(who, World::fresh_key())));
    world_.settle();
    world_.refusal.devices = 1;
    for (int guard = 0; world_.steps.held() > 0 && guard < 100; ++guard) {
      world_.steps.release(world_.steps.held() - 1);
      world_.settle();
    }
    world_.steps.hold(false);
    reached += world_.refusal.devices == 0 && applied && *applied ? 1 : 0;
    world_.refusal.devices = 0;
    world_.pass(Seconds(3));
    ASSERT_TRUE(applied);
    ASSERT_TRUE(*applied) << applied->error().detail();
    EXPECT_TRUE(component("policy").ready) << component("policy").detail;
    EXPECT_EQ(world_.runtime.wait(world_.gateway->policy_in_force()).value().version, version + 1);
    EXPECT_EQ(rights()->access_class, first_class);
    EXPECT_EQ(told("policy_held_back"), 0);
    if (world_.gateway->sessions().find(second.device.id)) {
      EXPECT_EQ(rights_of(second)->access_class, first_class);
    }
    world_.expect_sound("applied");
    world_.logout(second).value();
    world_.pass(Seconds(2));
  }
  EXPECT_GT(reached, 0) << "nobody came while a table was made";
}

/// Until the kernel has it, and when the accounts could not be read, it is stored and no more.
TEST_F(HeldBack, OneThatIsOnlyStoredIsNotSaidToBeInForce) {
  std::optional<Result<PolicyInForce>> applied;
  world_.steps.hold(true);
  Background applying =
      world_.runtime.spawn(spawned(world_.gateway->apply_policy(Caller::operator_named("olga"), web), applied));
  world_.settle();
  // The names in it are looked up, and it is stored.
  ASSERT_EQ(let_through(2), 2);
  ASSERT_EQ(world_.steps.held(), 1U);
  world_.steps.hold(false);
  world_.steps.arm(0, Steps::Fault::fail_before);
  auto shown = world_.runtime.wait(world_.gateway->policy_in_force());
  ASSERT_FALSE(shown) << "the fault is for this one";
  world_.steps.disarm();
  auto stored = world_.runtime.wait(world_.gateway->policy_in_force()).value();
  EXPECT_EQ(stored.version, 2);
  EXPECT_NE(stored.held_back.find("not in force yet"), std::string::npos) << stored.held_back;
  world_.steps.arm(0, Steps::Fault::fail_before);
  world_.steps.release(0);
  world_.settle();
  ASSERT_TRUE(applied);
  ASSERT_FALSE(*applied);
  EXPECT_NE(applied->error().detail().find("the policy is stored"), std::string::npos) << applied->error().detail();
  world_.steps.disarm();
  EXPECT_FALSE(world_.runtime.wait(world_.gateway->policy_in_force()).value().held_back.empty());
  world_.pass(Seconds(10));
  EXPECT_TRUE(world_.runtime.wait(world_.gateway->policy_in_force()).value().held_back.empty());
  EXPECT_EQ(told("policy_applied"), 2);
}

/// Rights are filled into a table that somebody has damaged: that makes it no better.
TEST_F(HeldBack, ANewPolicyDoesNotMakeADamagedTableWhole) {
  world_.refusal.tables = true;
  world_.firewall->damage();
  world_.pass(Seconds(2));
  EXPECT_FALSE(component("firewall").ready);
  apply(R"({"rights": [{"name": "all", "who": "user:alice", "to": "any", "ports": "tcp/1-1000"}]})").value();
  EXPECT_FALSE(world_.runtime.wait(world_.firewall->intact()).value());
  world_.refusal.tables = false;
  world_.pass(Seconds(40));
  EXPECT_TRUE(world_.runtime.wait(world_.firewall->intact()).value());
  EXPECT_TRUE(component("policy").ready);
  world_.expect_sound("whole again");
}

/// Accounts are read in batches: what one of them has brought may be forgotten before the last one has come.
TEST_F(HeldBack, WhoIsChangedWhileThePolicyComesIsAdmittedAllTheSame) {
  apply("{}").value();
  world_.crash();
  world_.config.lanes.vpn.pool = "10.8.0.0/22";
  world_.config.lanes.tor.pool = "10.9.0.0/22";
  world_.boot().value();
  world_.add_user("crowd", 1000);
  for (int i = 0; i < 505; ++i) world_.initiate(world_.login("crowd").value()).value();
  std::optional<Result<PolicyInForce>> applied;
  world_.steps.hold(true);
  Background applying =
      world_.runtime.spawn(spawned(world_.gateway->apply_policy(Caller::operator_named("olga"), web), applied));
  world_.settle();
  // Names, the policy itself, the first batch of accounts.
  ASSERT_EQ(let_through(3), 3);
  ASSERT_EQ(world_.steps.held(), 1U);
  ASSERT_FALSE(applied) << "there is another batch";
  world_.steps.hold(false);
  auto alice = world_.runtime.wait(world_.gateway->users().find("alice")).value();
  UserChanges changes;
  changes.email = "alice@example.net";
  world_.runtime.wait(world_.gateway->update_user(Caller::system(), alice.id, std::move(changes))).value();
  world_.steps.release(0);
  world_.settle();
  ASSERT_TRUE(applied);
  ASSERT_TRUE(*applied) << applied->error().detail();
  ASSERT_TRUE(rights()) << "she is connected and has no rights at all";
  EXPECT_EQ(rights()->access_class, first_class);
}

/// The account may have its new name although nobody could be told so.
TEST_F(HeldBack, ANewNameWhoseAnswerIsLostBringsItsRights) {
  world_.add_user("carol");
  auto carol = world_.login("carol").value();
  world_.initiate(carol).value();
  EXPECT_EQ(rights_of(carol)->access_class, open_class);
  auto alice = world_.runtime.wait(world_.gateway->users().find("alice")).value();
  UserChanges changes;
  changes.username = "alicia";
  world_.steps.arm(0, Steps::Fault::fail_after);
  EXPECT_FALSE(world_.runtime.wait(world_.gateway->update_user(Caller::system(), alice.id, std::move(changes))));
  world_.steps.disarm();
  EXPECT_EQ(rights()->access_class, first_class);
  world_.pass(Seconds(5));
  EXPECT_EQ(rights()->access_class, rights_of(carol)->access_class) << "the rights of a name nobody has named";
}

/// Her name is in doubt, and while that is settled her account is changed: it is asked for again.
TEST_F(HeldBack, ANewNameInDoubtIsNotForgottenForAnotherChange) {
  std::string rights = R"({"rights": [)";
  for (int round = 0; round < 12; ++round)
    rights.append(round == 0 ? "" : ",")
        .append(R"({"name": "r)" + std::to_string(round) + R"(", "who": "user:ann)" + std::to_string(round) +
                R"(", "to": "any", "ports": "tcp/443"})");
  for (int round = 0; round < 12; ++round) world_.add_user("ann" + std::to_string(round));
  apply(rights + "]}").value();
  bool reached = false;
  for (int round = 0; round < 12; ++round) {
    SCOPED_TRACE(round);
    const std::string number = std::to_string(round);
    auto ann = world_.runtime.wait(world_.gateway->users().find("ann" + number)).value();
    auto bob = world_.add_user("bob" + number);
    auto hers = world_.login(ann.username).value(), his = world_.login(bob.username).value();
    world_.initiate(hers).value();
    world_.initiate(his).value();
    ASSERT_NE(rights_of(hers)->access_class, rights_of(his)->access_class);
    const auto unnamed = rights_of(his)->access_class;
    UserChanges changes;
    changes.username = "no" + number;
    world_.steps.arm(0, Steps::Fault::fail_after);
    ASSERT_FALSE(world_.runtime.wait(world_.gateway->update_user(Caller::system(), ann.id, std::move(changes))));
    // His sign-ins are counted, then he is suspended: ending his session takes a while, after the accounts were read.
    world_.steps.arm(1, Steps::Fault::fail_after);
    ASSERT_FALSE(world_.runtime.wait(world_.gateway->suspend(Caller::system(), bob.id)));
    world_.steps.disarm();
    world_.steps.hold(true);
    world_.leap(Seconds(2));
    const bool more = let_through(round) == round && world_.steps.held() > 0;
    const auto held = world_.steps.held();
    UserChanges other;
    other.email = "other" + number + "@example.org";
    Background changing =
        world_.runtime.spawn(spawned(world_.gateway->update_user(Caller::system(), ann.id, std::move(other))));
    world_.settle();
    while (world_.steps.held() > held) {
      world_.steps.release(held);
      world_.settle();
    }
    reached = reached || (more && world_.gateway->sessions().find(his.device.id));
    world_.steps.hold(false);
    while (let_through(100) > 0) continue;
    world_.pass(Seconds(5));
    EXPECT_EQ(rights_of(hers)->access_class, unnamed) << "the rights of the name she had";
    EXPECT_FALSE(world_.gateway->sessions().find(his.device.id));
    world_.expect_sound("settled");
  }
  EXPECT_TRUE(reached);
}

/// Whoever is renamed while she connects has the rights of the new name: on all her devices, and also if the tunnel of
/// before goes on.
TEST_F(HeldBack, ANewNameHoldsForWhoIsConnecting) {
  for (bool refused : {false, true}) {
    SCOPED_TRACE(refused);
    auto user = world_.add_user(refused ? "bert" : "anna", 3);
    apply(R"({"rights": [{"name": "web", "who": "user:)" + user.username + R"(", "to": "any", "ports": "tcp/443"}]})")
        .value();
    auto first = world_.login(user.username).value(), second = world_.login(user.username).value();
    world_.initiate(first).value();
    ASSERT_EQ(rights_of(first)->access_class, first_class);
    const auto unnamed = rights()->access_class;
    world_.steps.hold(true);
    world_.refusal.interfaces = refused ? 1 : 0;
    auto who = world_.caller(refused ? first : second).value();
    Background connecting = world_.runtime.spawn(spawned(world_.gateway->initiate(who, World::fresh_key())));
    world_.settle();
    for (int guard = 0; world_.refusal.interfaces > 0 && guard < 20; ++guard) {
      world_.steps.release(0);
      world_.settle();
    }
    ASSERT_EQ(world_.steps.held(), 1U);
    UserChanges changes;
    changes.username = user.username + "2";
    Background renaming =
        world_.runtime.spawn(spawned(world_.gateway->update_user(Caller::system(), user.id, std::move(changes))));
    world_.settle();
    for (int guard = 0; world_.steps.held() > 1 && guard < 20; ++guard) {
      world_.steps.release(1);
      world_.settle();
    }
    world_.steps.hold(false);
    world_.steps.release(0);
    world_.settle();
    world_.pass(Seconds(3));
    EXPECT_EQ(world_.runtime.wait(world_.gateway->users().get(user.id)).value().username, user.username + "2");
    EXPECT_EQ(rights_of(first)->access_class, unnamed);
    if (!refused) {
      EXPECT_EQ(rights_of(second)->access_class, unnamed);
    }
    world_.expect_sound("renamed");
  }
}

}  // namespace
}  // namespace tornado::test
