#include <gtest/gtest.h>

#include <random>

#include "firewall/ruleset.hpp"
#include "limits/quantity.hpp"
#include "limits/quota_book.hpp"
#include "tornado/limits.hpp"

namespace tornado {
namespace {

AccessPolicy parsed(const std::string& text) {
  return AccessPolicy::parse(text).value();
}
AccessTarget target(const std::string& text) {
  return AccessTarget::parse(text).value();
}

constexpr auto office = R"({
  "groups": {"Staff": ["alice", "bob"], "ops": ["bob"]},
  "rights": [
    {"name": "web", "who": "group:staff", "to": "any", "ports": ["tcp/80", "tcp/443", "udp/443", "icmp"]},
    {"name": "lab", "who": ["group:ops"], "to": ["192.0.2.0/24", "198.51.100.7"], "ports": ["tcp/8000-8100"]},
    {"name": "v4", "who": "user:dora", "to": "0.0.0.0/0", "ports": ["tcp", "udp", "icmp"]}  // IPv4 alone
  ],
  "limits": [
    {"name": "bobs", "who": "user:bob", "up": "8 Mbit/s"},
    {"name": "guests", "who": "user:carol", "monthly": "50 GB", "then": "throttle", "throttle": "1 Mbit/s"},
    {"name": "all", "who": "everyone", "down": "1 Gbit/s", "monthly": "1 TB", "warn_at": [50]},
  ],
  "tests": [
    {"user": "alice", "allow": ["1.1.1.1:443", "[2001:db8::1]:443/udp", "1.1.1.1/icmp"], "deny": ["1.1.1.1:25"]},
    {"user": "bob", "allow": "192.0.2.9:8050/tcp", "deny": ["192.0.2.9:8101", "192.0.3.9:8050"]},
    {"user": "dora", "allow": "203.0.113.5:9999/udp", "deny": ["[2001:db8::1]:9999/udp", "2001:db8::1/icmp"]}
  ]
})";

TEST(AccessPolicy, ItsOwnExpectationsHold) {
  auto outcomes = parsed(office).test();
  EXPECT_EQ(outcomes.size(), 10U);
  for (const auto& outcome : outcomes)
    EXPECT_TRUE(outcome.holds()) << outcome.user << " " << outcome.target.str() << ": " << outcome.verdict.detail;
}

TEST(AccessPolicy, NamesTheRuleThatDecides) {
  AccessPolicy policy = parsed(office);
  EXPECT_EQ(policy.explain("ALICE", target("1.1.1.1:443")).rule, "rights web");
  EXPECT_EQ(policy.explain("bob", target("198.51.100.7:8000")).rule, "rights lab");
  auto denied = policy.explain("bob", target("198.51.100.8:8000"));
  EXPECT_FALSE(denied.allowed);
  EXPECT_NE(denied.detail.find("web, lab"), std::string::npos) << denied.detail;
  EXPECT_EQ(policy.explain("zoe", target("198.51.100.8:8000")).rule, "default");
  EXPECT_TRUE(policy.explain("zoe", target("198.51.100.8:8000")).allowed);
}

TEST(AccessPolicy, UsersWithTheSameRightsAreOfOneClass) {
  AccessPolicy policy = parsed(office);
  EXPECT_EQ(policy.class_of("zoe"), open_class);
  EXPECT_NE(policy.class_of("alice"), policy.class_of("bob"));
  EXPECT_GE(policy.class_of("alice"), first_class);
  AccessPolicy same = parsed(R"({"groups": {"g": ["a", "b", "c"]},
    "rights": [{"name": "x", "who": ["group:g", "user:d"], "to": "any", "ports": "tcp/22"}]})");
  for (const char* user : {"b", "c", "d", "D"}) EXPECT_EQ(same.class_of(user), same.class_of("a"));
  EXPECT_EQ(same.grants().size(), 2U);
}

TEST(AccessPolicy, WithADefaultOfNothingWhoIsNotNamedReachesNothing) {
  AccessPolicy policy = parsed(R"({"default": "nothing",
    "rights": [{"name": "x", "who": "user:a", "to": "any", "ports": "tcp"}]})");
  EXPECT_EQ(policy.class_of("b"), blocked_class);
  EXPECT_FALSE(policy.explain("b", target("1.1.1.1:443")).allowed);
  EXPECT_TRUE(policy.explain("a", target("1.1.1.1:443")).allowed);
  EXPECT_FALSE(policy.empty());
  EXPECT_TRUE(parsed("{}").empty());
}

TEST(AccessPolicy, RightsOfEverybodyAddToThoseOfSomebody) {
  AccessPolicy policy = parsed(R"({"rights": [
    {"name": "dns", "who": "everyone", "to": "any", "ports": "udp/123"},
    {"name": "web", "who": "user:a", "to": "any", "ports": "tcp/443"}]})");
  EXPECT_TRUE(policy.explain("a", target("1.1.1.1:123/udp")).allowed);
  EXPECT_TRUE(policy.explain("a", target("1.1.1.1:443")).allowed);
  EXPECT_TRUE(policy.explain("b", target("1.1.1.1:123/udp")).allowed);
  EXPECT_FALSE(policy.explain("b", target("1.1.1.1:443")).allowed);
}

TEST(AccessPolicy, TheFirstLimitThatNamesTheUserCounts) {
  AccessPolicy policy = parsed(office);
  EXPECT_EQ(policy.limit_of("Bob")->up, 1'000'000U);
  EXPECT_EQ(policy.limit_of("bob")->monthly, 0U);
  EXPECT_EQ(policy.limit_of("carol")->throttle, 125'000U);
  EXPECT_EQ(policy.limit_of("zoe")->name, "all");
  EXPECT_EQ(policy.limit_of("zoe")->monthly, 1'000'000'000'000U);
  EXPECT_FALSE(parsed("{}").limit_of("zoe"));
}

TEST(AccessPolicy, WhatIsWrongIsNamed) {
  struct Case {
    const char* text;
    const char* place;
  };
  for (const Case& c : {
           Case{R"({"right": []})", "right: no such key"},
           Case{R"({"rights": {}})", "rights: "},
           Case{R"({"rights": [{"who": "everyone", "to": "any", "ports": "tcp"}]})", "rights[0].name"},
           Case{R"({"rights": [{"name": "a", "to": "any", "ports": "tcp"}]})", "rights[0].who"},
           Case{R"({"rights": [{"name": "a", "who": "alice", "to": "any", "ports": "tcp"}]})", "rights[0].who"},
           Case{R"({"rights": [{"name": "a", "who": "group:g", "to": "any", "ports": "tcp"}]})", "no group 'g'"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "10.0.0.1/8", "ports": "tcp"}]})",
                "rights[0].to"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "tcp/0"}]})", "rights[0].ports"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "tcp/9-8"}]})",
                "rights[0].ports"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "tcp/70000"}]})",
                "rights[0].ports"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "icmp/1"}]})", "rights[0].ports"},
           Case{R"({"rights": [{"name": "a", "who": "everyone", "to": "any", "ports": "tcp", "port": "x"}]})",
                "rights[0].port: no such key"},
           Case{R"({"limits": [{"name": "a", "who": "everyone"}]})", "limits[0]: limits nothing"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "up": "20"}]})", "limits[0].up"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "monthly": "-5 GB"}]})", "limits[0].monthly"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "up": "1 Mbit/s", "then": "block"}]})",
                "limits[0].then"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "monthly": "5 GB", "then": "throttle"}]})",
                "limits[0].throttle"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "monthly": "5 GB", "warn_at": [90, 80]}]})",
                "limits[0].warn_at"},
           Case{R"({"limits": [{"name": "a", "who": "everyone", "up": "1 Mbit/s"},
                               {"name": "a", "who": "everyone", "up": "1 Mbit/s"}]})",
                "limits[1].name"},
           Case{R"({"tests": [{"user": "a"}]})", "tests[0]"},
           Case{R"({"tests": [{"user": "a", "allow": "1.1.1.1"}]})", "tests[0].allow"},
           Case{"[]", "object"},
           Case{"{", "JSON"},
       }) {
    auto result = AccessPolicy::parse(c.text);
    ASSERT_FALSE(result) << c.text;
    EXPECT_NE(result.error().detail().find(c.place), std::string::npos) << c.text << ": " << result.error().detail();
  }
}

TEST(AccessPolicy, TooMuchIsRefused) {
  EXPECT_EQ(AccessPolicy::parse(std::string(1100 * 1024, ' ')).error().code(), errc::too_large);
  std::string groups, rights;
  for (int i = 0; i < 40; ++i) {
    std::string number = std::to_string(i);
    rights += (i == 0 ? "" : ",") + ("{\"name\":\"r" + number + "\",\"to\":\"any\",\"ports\":[");
    for (int port = 1; port <= 60; ++port) rights += (port == 1 ? "\"tcp/" : ",\"tcp/") + std::to_string(port) + "\"";
    rights += "],\"who\":[";
    for (int user = i; user < 40; ++user)
      rights += (user == i ? "\"user:u" : ",\"user:u") + std::to_string(user) + "\"";
    rights += "]}";
  }
  // 40 classes of up to 40 entries of 60 ports in two families: 98,400 grants; a few more are too many.
  EXPECT_TRUE(AccessPolicy::parse("{\"rights\":[" + rights + "]}"));
  EXPECT_EQ(
      AccessPolicy::parse("{\"rights\":[" + rights +
                          ",{\"name\":\"x\",\"who\":\"everyone\",\"to\":\"any\",\"ports\":[\"tcp/61\",\"tcp/62\","
                          "\"tcp/63\",\"tcp/64\",\"tcp/65\",\"tcp/66\",\"tcp/67\",\"tcp/68\",\"tcp/69\",\"tcp/70\","
                          "\"tcp/71\",\"tcp/72\",\"tcp/73\",\"tcp/74\",\"tcp/75\",\"tcp/76\",\"tcp/77\",\"tcp/78\","
                          "\"tcp/79\",\"tcp/80\",\"tcp/81\"]}]}")
          .error()
          .code(),
      errc::too_large);
}

TEST(AccessPolicy, TargetsAreReadBackAsTheyAreWritten) {
  for (const char* text : {"1.1.1.1:443/tcp", "[2001:db8::1]:53/udp", "1.1.1.1/icmp", "2001:db8::1/icmp"})
    EXPECT_EQ(target(text).str(), text);
  EXPECT_EQ(target("1.1.1.1:443"), target("1.1.1.1:443/tcp"));
  for (const char* text : {"", "1.1.1.1", "1.1.1.1:0", "1.1.1.1:443/sctp", "example.org:443", "1.1.1.1:53/icmp", "/"})
    EXPECT_FALSE(AccessTarget::parse(text)) << text;
}

TEST(AccessPolicy, AmountsHaveUnits) {
  EXPECT_EQ(*parse_rate("20 Mbit/s"), 2'500'000U);
  EXPECT_EQ(*parse_rate("64kbit/s"), 8'000U);
  EXPECT_EQ(*parse_volume("3 GiB"), 3ULL << 30);
  for (const char* text : {"", "20", "0 Mbit/s", "1.5 Mbit/s", "20 MB/s", "20  Mbit/s", "1000001 Gbit/s", "-1 Gbit/s"})
    EXPECT_FALSE(parse_rate(text)) << text;
  EXPECT_EQ(volume_text(0), "0 bytes");
  EXPECT_EQ(volume_text(1'500'000), "1.5 MB");
  EXPECT_EQ(rate_text(125'000), "1 Mbit/s");
}

/// The compiled sets against the policy they were made from: what a packet would meet is what `explain` says, and no
/// two ranges of a set overlap, which the kernel refuses.
bool set_opens(const Ruleset& ruleset, std::uint32_t access_class, const AccessTarget& t) {
  if (access_class == open_class) return true;
  bool v6 = !t.address.is_v4();
  auto within = [&](const AccessGrant& grant, bool any_port) {
    return grant.access_class == access_class && grant.protocol == t.protocol && grant.to.contains(t.address) &&
           (any_port || (grant.first_port <= t.port && t.port <= grant.last_port));
  };
  int hits = 0;
  for (const ElementSet& set : ruleset.sets) {
    bool echo = set.name == of_family(echoes_set, v6);
    if (!echo && set.name != of_family(ports_set, v6) && set.name != of_family(places_set, v6)) continue;
    int here = 0;
    for (const AccessGrant& grant : set.grants) here += within(grant, echo);
    EXPECT_LE(here, 1) << set.name << " has " << t.str() << " more than once";
    hits += here;
  }
  return hits > 0;
}

TEST(AccessPolicy, CompiledSetsOpenExactlyWhatThePolicySays) {
  std::mt19937 random(7);
  auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  const std::vector<std::string> places{"any",           "0.0.0.0/0",   "192.0.2.0/24",  "192.0.2.128/25",
                                        "192.0.2.200",   "10.0.0.0/8",  "2001:db8::/32", "2001:db8:1::/48",
                                        "2001:db8:1::9", "192.0.2.0/25"};
  const std::vector<std::string> ports{"tcp",         "udp",         "icmp",    "tcp/443",     "tcp/80-500",
                                       "tcp/400-600", "udp/53-5353", "udp/443", "tcp/1-65535", "tcp/443-443"};
  const std::vector<std::string> addresses{"192.0.2.1", "192.0.2.130", "192.0.2.200",   "10.1.1.1",
                                           "8.8.8.8",   "2001:db8::1", "2001:db8:1::9", "2001:4860::8"};
  int allowed = 0, asked = 0;
  for (int round = 0; round < 60; ++round) {
    std::string rights;
    for (int i = 0, n = 1 + pick(6); i < n; ++i) {
      rights +=
          (i == 0 ? "" : ",") + ("{\"name\":\"r" + std::to_string(i) + "\",\"who\":[\"user:u" +
                                 std::to_string(pick(3)) + "\",\"user:u" + std::to_string(pick(3)) + "\"],\"to\":[");
      for (int j = 0, m = 1 + pick(3); j < m; ++j)
        rights += (j == 0 ? "\"" : ",\"") + places[static_cast<std::size_t>(pick(10))] + "\"";
      rights += "],\"ports\":[";
      for (int j = 0, m = 1 + pick(4); j < m; ++j)
        rights += (j == 0 ? "\"" : ",\"") + ports[static_cast<std::size_t>(pick(10))] + "\"";
      rights += "]}";
    }
    AccessPolicy policy = parsed("{\"rights\":[" + rights + "]}");
    AccessRules rules;
    rules.grants = policy.grants();
    Ruleset ruleset;
    ruleset.sets = access_sets(&rules);
    for (const std::string& address : addresses)
      for (const char* rest : {":22", ":80", ":443", ":450", ":550", ":53/udp", ":443/udp", ":9999/udp", "/icmp"})
        for (const char* user : {"u0", "u1", "u2", "u3"}) {
          bool v6 = address.find(':') != address.npos;
          bool icmp = std::string(rest) == "/icmp";
          AccessTarget t = target((v6 && !icmp ? "[" + address + "]" : address) + rest);
          bool wanted = policy.explain(user, t).allowed;
          ASSERT_EQ(set_opens(ruleset, policy.class_of(user), t), wanted) << rights << " " << user << " " << t.str();
          allowed += wanted;
          ++asked;
        }
  }
  EXPECT_GT(allowed, asked / 10);
  EXPECT_LT(allowed, asked * 9 / 10);
}

TEST(AccessPolicy, NothingWrittenInOneFamilyOpensTheOther) {
  AccessPolicy policy = parsed(R"({"rights": [{"name": "four", "who": "everyone",
    "to": ["0.0.0.0/0", "192.0.2.1"], "ports": ["tcp", "udp", "icmp"]}]})");
  for (const AccessGrant& grant : policy.grants()) EXPECT_TRUE(grant.to.base().is_v4());
  AccessRules rules;
  rules.grants = policy.grants();
  for (const ElementSet& set : access_sets(&rules))
    EXPECT_TRUE(set.grants.empty() || set.name.ends_with('4')) << set.name;
}

TEST(Quota, ThresholdsAreReachedInTheirOrder) {
  UserLimit limit;
  limit.monthly = 1'000'000'000;
  limit.action = QuotaAction::block;
  const std::pair<std::uint64_t, int> cases[] = {{0, 0},
                                                 {799'999'999, 0},
                                                 {800'000'000, 80},
                                                 {949'999'999, 80},
                                                 {950'000'000, 95},
                                                 {999'999'999, 95},
                                                 {1'000'000'000, 100},
                                                 {UINT64_MAX, 100}};
  for (auto [used, reached] : cases) {
    EXPECT_EQ(standing_of(limit, used).reached, reached) << used;
    EXPECT_EQ(standing_of(limit, used).exhausted(), reached == 100);
  }
  limit.monthly = 0;
  EXPECT_EQ(standing_of(limit, 5).reached, 0);
}

TEST(Quota, MonthsAreOfTheCalendarInUtc) {
  EXPECT_EQ(Month::of(*parse_iso8601("2026-11-30T23:59:59.999Z")).str(), "2026-11");
  EXPECT_EQ(Month::of(*parse_iso8601("2026-12-01T00:00:00.000Z")).str(), "2026-12");
  EXPECT_LT(Month::of(*parse_iso8601("2026-12-31T00:00:00.000Z")),
            Month::of(*parse_iso8601("2027-01-01T00:00:00.000Z")));
}

TEST(Quota, ASessionCountsForTheMonthItMovedIn) {
  QuotaBook book;
  const UserId user("u");
  const Instance first("a"), second("b");
  const Month november = Month::of(*parse_iso8601("2026-11-01T00:00:00.000Z"));
  book.load(november, {{user, 100}}, {{first, 40}});
  EXPECT_EQ(book.share(first, 90), 50U);
  EXPECT_EQ(book.share(first, 30), 0U);
  EXPECT_EQ(book.share(second, 90), 90U);
  book.settle(user, first, 90, november);
  EXPECT_EQ(book.settled(user), 150U);
  // What ended in another month is that month's.
  book.settle(user, second, 90, november.before(1));
  EXPECT_EQ(book.settled(user), 150U);
}

TEST(Quota, MonthsBefore) {
  const Month march = Month::of(*parse_iso8601("2026-03-31T00:00:00.000Z"));
  EXPECT_EQ(march.before(0).str(), "2026-03");
  EXPECT_EQ(march.before(2).str(), "2026-01");
  EXPECT_EQ(march.before(3).str(), "2025-12");
  EXPECT_EQ(march.before(12).str(), "2025-03");
  EXPECT_EQ(march.before(120).str(), "2016-03");
}

}  // namespace
}  // namespace tornado
