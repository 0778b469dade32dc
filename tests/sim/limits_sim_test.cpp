// Rights, paces and quotas of a whole gateway on a manual clock.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class Limits : public ::testing::Test {
 protected:
  void SetUp() override {
    world_.clock.set(*parse_iso8601("2026-11-29T23:00:00.000Z"));
    world_.config.session.idle_ttl = 1'000'000;
    world_.boot().value();
    alice_ = world_.add_user("alice", 3);
    login_ = world_.login("alice").value();
  }

  Result<PolicyInForce> apply(const std::string& document) {
    auto applied = world_.runtime.wait(world_.gateway->apply_policy(Caller::operator_named("olga"), document));
    world_.settle();
    return applied;
  }
  static std::string quota(const std::string& rest) {
    return R"({"limits": [{"name": "all", "who": "everyone", "monthly": "100 MB", )" + rest + "}]}";
  }

  Session session() { return world_.gateway->sessions().find(login_.device.id).value(); }
  std::optional<DeviceAccess> rights() { return world_.firewall->access_of(session().on("vpn")->v4); }
  QuotaStanding standing() { return world_.gateway->standing(alice_.id).value_or(QuotaStanding()); }

  void move(std::uint64_t megabytes) {
    auto now = session();
    ASSERT_TRUE(world_.wireguard.traffic("wg0", now.key, megabytes * 1'000'000, 0, world_.clock.now()));
    (void)world_.beat(login_);
    world_.pass(Seconds(12));
  }

  std::vector<std::string> told() {
    std::vector<std::string> out;
    while (world_.gateway->last_event() > seen_) {
      auto batch = world_.runtime.wait(world_.gateway->events(seen_)).value();
      for (const auto& event : batch.events) {
        if (event.name.starts_with("quota_") && event.name != "quota_month") out.push_back(event.name);
        seen_ = event.sequence;
      }
    }
    return out;
  }

  using Names = std::vector<std::string>;
  World world_;
  User alice_;
  Login login_;
  std::uint64_t seen_ = 0;
};

TEST_F(Limits, APolicyReachesThoseWhoAreConnectedAndThoseWhoCome) {
  world_.initiate(login_).value();
  EXPECT_FALSE(rights()) << "without a policy the firewall knows no device";
  auto applied = apply(R"({"rights": [{"name": "web", "who": "user:ALICE", "to": "any", "ports": "tcp/443"}],
                           "limits": [{"name": "slow", "who": "user:alice", "up": "8 Mbit/s"}]})");
  ASSERT_TRUE(applied) << applied.error().detail();
  EXPECT_EQ(applied->version, 1);
  EXPECT_EQ(applied->applied_by, "olga");
  ASSERT_TRUE(rights());
  EXPECT_EQ(rights()->access_class, first_class);
  EXPECT_EQ(rights()->up, 1'000'000U);
  world_.add_user("bob");
  auto bob = world_.login("bob").value();
  world_.initiate(bob).value();
  auto other = world_.gateway->sessions().find(bob.device.id).value();
  EXPECT_EQ(world_.firewall->access_of(other.on("tor")->v4)->access_class, open_class);
  world_.expect_sound("under a policy");
  // A later name means other rights.
  UserChanges changes;
  changes.username = "carol";
  world_.runtime.wait(world_.gateway->update_user(Caller::system(), alice_.id, changes)).value();
  EXPECT_EQ(rights()->access_class, open_class);
  EXPECT_EQ(rights()->up, 0U);
}

TEST_F(Limits, ARestartKnowsTheRightsBeforeTheRulesetIsMade) {
  world_.initiate(login_).value();
  apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})").value();
  world_.crash();
  world_.boot().value();
  // What the first `apply` of the new run had, before anything else was set.
  ASSERT_TRUE(rights());
  EXPECT_EQ(rights()->access_class, first_class);
  world_.expect_sound("after the restart");
  EXPECT_EQ(world_.runtime.wait(world_.gateway->policy_in_force()).value().version, 1);
}

TEST_F(Limits, WhatIsWrongChangesNothing) {
  world_.initiate(login_).value();
  apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})").value();
  const auto before = rights();
  EXPECT_EQ(apply("{").error().code(), errc::invalid_argument);
  auto unknown = apply(R"({"groups": {"g": ["alice", "nobody"]}})");
  EXPECT_EQ(unknown.error().code(), errc::not_found);
  EXPECT_NE(unknown.error().detail().find("nobody"), std::string::npos) << unknown.error().detail();
  auto failing = apply(R"({"tests": [{"user": "alice", "deny": "1.1.1.1:443"}]})");
  EXPECT_EQ(failing.error().code(), errc::failed_precondition);
  EXPECT_NE(failing.error().detail().find("1.1.1.1:443/tcp"), std::string::npos) << failing.error().detail();
  EXPECT_EQ(rights(), before);
  EXPECT_EQ(world_.runtime.wait(world_.gateway->policy_in_force()).value().version, 1);
  apply("{}").value();
  EXPECT_FALSE(rights()) << "an empty policy limits nobody";
}

TEST_F(Limits, AFirewallThatFailsIsPutRightByItself) {
  world_.initiate(login_).value();
  world_.firewall->fail_next(1, errc::backend_failed);
  auto applied = apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})");
  EXPECT_EQ(applied.error().code(), errc::backend_failed);
  world_.pass(Seconds(12));
  ASSERT_TRUE(rights());
  EXPECT_EQ(rights()->access_class, first_class);
}

TEST_F(Limits, AnAddressRestsOnlyWhenTheFirewallHasForgottenIt) {
  apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})").value();
  auto address = world_.initiate(login_).value().session.on("vpn")->v4;
  auto lease = [&]() { return world_.gateway->ipam().find(address); };
  auto disconnect = [&]() {
    world_.firewall->fail_next(1000, errc::backend_failed);
    auto who = world_.caller(login_).value();
    world_.runtime.wait(world_.gateway->disconnect(who)).value();
    world_.pass(Seconds(2));
  };
  disconnect();
  ASSERT_TRUE(world_.firewall->access_of(address)) << "the firewall did not take the change";
  ASSERT_TRUE(lease());
  EXPECT_TRUE(lease()->dirty);
  EXPECT_EQ(world_.history().size(), 1U) << "the end itself does not wait for it";
  world_.firewall->fail_next(0, errc::backend_failed);
  world_.pass(Seconds(40));
  EXPECT_FALSE(world_.firewall->access_of(address));
  EXPECT_FALSE(lease());
  world_.expect_sound("rests");
  // Whoever comes back meanwhile keeps the address, and the repair takes nothing away.
  EXPECT_EQ(world_.initiate(login_).value().session.on("vpn")->v4, address);
  disconnect();
  ASSERT_TRUE(lease()->dirty);
  EXPECT_EQ(world_.initiate(login_).value().session.on("vpn")->v4, address);
  world_.firewall->fail_next(0, errc::backend_failed);
  world_.pass(Seconds(40));
  ASSERT_TRUE(lease());
  EXPECT_TRUE(world_.firewall->access_of(address));
  world_.expect_sound("came back");
}

TEST_F(Limits, EachThresholdIsToldOnceAndTheLastOneBlocks) {
  world_.initiate(login_).value();
  apply(quota(R"("then": "block", "warn_at": [50, 80])")).value();
  told();
  move(49);
  EXPECT_EQ(told(), Names());
  EXPECT_EQ(standing().used, 49'000'000U);
  move(2);
  EXPECT_EQ(told(), Names{"quota_warning"});
  EXPECT_EQ(rights()->access_class, open_class);
  move(60);
  EXPECT_EQ(told(), (Names{"quota_warning", "quota_reached"}));
  EXPECT_EQ(rights()->access_class, blocked_class);
  AccessTarget target = AccessTarget::parse("1.1.1.1:443").value();
  auto verdict =
      world_.runtime.wait(world_.gateway->explain_access(Caller::system(), "alice", target, Lane("vpn"))).value();
  EXPECT_FALSE(verdict.allowed);
  EXPECT_EQ(verdict.rule, "limit all");
  // Neither a crash nor another device of the user is a way round it, and nothing is told again.
  world_.crash();
  world_.boot().value();
  seen_ = 0;
  EXPECT_EQ(rights()->access_class, blocked_class);
  auto second = world_.login("alice").value();
  world_.initiate(second).value();
  auto other = world_.gateway->sessions().find(second.device.id).value();
  EXPECT_EQ(world_.firewall->access_of(other.on("vpn")->v4)->access_class, blocked_class);
  world_.pass(Seconds(30));
  EXPECT_EQ(told(), Names());
  world_.expect_sound("blocked");
}

TEST_F(Limits, ComingBackIsNoWayRoundAQuota) {
  world_.initiate(login_).value();
  apply(quota(R"("then": "block")")).value();
  move(110);
  ASSERT_EQ(rights()->access_class, blocked_class);
  auto who = world_.caller(login_).value();
  world_.runtime.wait(world_.gateway->disconnect(who)).value();
  world_.pass(Seconds(3));
  world_.initiate(login_).value();
  // At once, without a look at the quotas in between.
  EXPECT_EQ(rights()->access_class, blocked_class);
}

TEST_F(Limits, WhoIsOverWhenAQuotaComesIsToldSoOnce) {
  world_.initiate(login_).value();
  move(120);
  told();
  apply(quota(R"("then": "warn", "warn_at": [50])")).value();
  world_.pass(Seconds(12));
  EXPECT_EQ(told(), (Names{"quota_warning", "quota_reached"}));
  // A larger quota renews, another policy tells nothing again.
  apply(R"({"limits": [{"name": "all", "who": "everyone", "monthly": "1 GB"}]})").value();
  world_.pass(Seconds(12));
  EXPECT_EQ(told(), Names{"quota_renewed"});
  apply(quota(R"("then": "warn", "warn_at": [50])")).value();
  world_.pass(Seconds(12));
  EXPECT_EQ(told(), Names());
}

TEST_F(Limits, APolicyWhoseRulesetCannotBeMadeComesIntoForceLater) {
  world_.initiate(login_).value();
  apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})").value();
  world_.firewall->fail_next(3, errc::backend_failed);
  auto applied = apply(R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "tcp/1"},
                                      {"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})");
  EXPECT_EQ(applied.error().code(), errc::backend_failed);
  // Who comes now gets no class of the new policy in the table of the old one.
  world_.add_user("bob");
  auto bob = world_.login("bob").value();
  world_.initiate(bob).value();
  auto other = world_.gateway->sessions().find(bob.device.id).value();
  EXPECT_FALSE(world_.firewall->access_of(other.on("vpn")->v4));
  world_.pass(Seconds(20));
  EXPECT_TRUE(world_.firewall->access_of(other.on("vpn")->v4));
  world_.expect_sound("after the repair");
}

TEST_F(Limits, AReachedQuotaSlowsDownBothWays) {
  world_.initiate(login_).value();
  apply(R"({"limits": [{"name": "all", "who": "everyone", "down": "1 Gbit/s", "monthly": "100 MB", "then": "throttle",
            "throttle": "1 Mbit/s"}]})")
      .value();
  EXPECT_EQ(rights()->down, 125'000'000U);
  move(101);
  EXPECT_EQ(rights()->down, 125'000U);
  EXPECT_EQ(rights()->up, 125'000U);
  EXPECT_EQ(rights()->access_class, open_class);
}

TEST_F(Limits, AMonthEndsForSessionsThatGoOn) {
  world_.initiate(login_).value();
  apply(quota(R"("then": "block")")).value();
  move(110);
  EXPECT_EQ(rights()->access_class, blocked_class);
  told();
  // 25 hours later it is December.
  for (int i = 0; i < 900; ++i) {
    world_.leap(Seconds(100));
    (void)world_.beat(login_);
  }
  auto renewed =
      world_.runtime.wait(world_.gateway->reauth(Caller::system(), std::string(login_.tokens.refresh.reveal())));
  login_.tokens = std::move(renewed.value().tokens);
  world_.pass(Seconds(12));
  EXPECT_EQ(told(), Names{"quota_renewed"});
  EXPECT_EQ(rights()->access_class, open_class);
  EXPECT_EQ(standing().used, 0U);
  move(30);
  EXPECT_EQ(standing().used, 30'000'000U);
  // What was moved in each month is known, through a crash and the end of the session.
  auto months = [&]() { return world_.runtime.wait(world_.gateway->usage(alice_.id)).value().months; };
  const std::vector<std::pair<std::string, std::uint64_t>> expected{{"2026-12", 30'000'000}, {"2026-11", 110'000'000}};
  EXPECT_EQ(months(), expected);
  world_.crash();
  world_.boot().value();
  world_.pass(Seconds(12));
  EXPECT_EQ(standing().used, 30'000'000U);
  auto who = world_.caller(login_).value();
  world_.runtime.wait(world_.gateway->disconnect(who)).value();
  world_.pass(Seconds(3));
  EXPECT_EQ(months(), expected);
  world_.crash();
  world_.boot().value();
  EXPECT_EQ(months(), expected);
  world_.initiate(login_).value();
  world_.pass(Seconds(12));
  EXPECT_EQ(standing().used, 30'000'000U) << "what ended sessions moved counts, too";
}

TEST_F(Limits, ExplainGoesThroughTheWholeRuleset) {
  apply(R"({"rights": [{"name": "web", "who": "user:alice", "to": "any", "ports": "tcp/443"}]})").value();
  struct Case {
    const char* target;
    const char* lane;
    bool allowed;
    const char* rule;
  };
  for (const Case& c :
       {Case{"1.1.1.1:443", "vpn", true, "rights web"}, Case{"1.1.1.1:25", "vpn", false, "rights"},
        Case{"8.8.8.8:53/udp", "vpn", true, "gateway dns"}, Case{"8.8.8.8:53/tcp", "vpn", true, "gateway dns"},
        Case{"8.8.8.8:53/udp", "tor", false, "gateway dns"}, Case{"10.8.0.1:4605", "vpn", true, "gateway api"},
        Case{"10.8.0.1/icmp", "vpn", true, "gateway echo"}, Case{"10.8.0.9:443", "vpn", false, "gateway lanes"},
        Case{"10.9.0.9:443", "vpn", false, "gateway lanes"}, Case{"127.0.0.1:443", "vpn", false, "gateway loopback"},
        Case{"[2001:db8::1]:443", "vpn", false, "gateway family"}, Case{"1.1.1.1:443", "tor", false, "gateway mode"}}) {
    auto verdict = world_.runtime.wait(
        world_.gateway->explain_access(Caller::system(), "alice", AccessTarget::parse(c.target).value(), Lane(c.lane)));
    ASSERT_TRUE(verdict) << c.target;
    EXPECT_EQ(verdict->allowed, c.allowed) << c.target << ": " << verdict->detail;
    EXPECT_EQ(verdict->rule, c.rule) << c.target << ": " << verdict->detail;
  }
  AccessTarget web = AccessTarget::parse("1.1.1.1:443").value();
  EXPECT_EQ(
      world_.runtime.wait(world_.gateway->explain_access(Caller::system(), "nobody", web, Lane("vpn"))).error().code(),
      errc::not_found);
  EXPECT_EQ(
      world_.runtime.wait(world_.gateway->explain_access(Caller::system(), "alice", web, Lane("x"))).error().code(),
      errc::not_found);
}

}  // namespace
}  // namespace tornado::test
