#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "firewall/ruleset.hpp"
#include "support/privileged.hpp"

namespace tornado {
namespace {

LanePolicy lane(const std::string& name, const std::string& interface, int octet, LaneMode mode, bool v6) {
  LanePolicy out;
  out.lane = Lane(name);
  out.interface = interface;
  std::string net = "10." + std::to_string(octet) + ".0.";
  out.pool = Prefix(net + "0/24");
  out.gateway = *Address::parse(net + "1");
  if (v6) {
    std::string net6 = "fd00:" + std::to_string(octet) + "::";
    out.pool6 = Prefix(net6 + "/64");
    out.gateway6 = *Address::parse(net6 + "1");
  }
  out.mode = mode;
  return out;
}

GatewayPolicy policy(LaneMode first, LaneMode second, bool v6) {
  GatewayPolicy out;
  out.lanes = {lane("vpn", "wg0", 8, first, v6), lane("tor", "wg1", 9, second, v6)};
  out.api = {*Endpoint::parse("203.0.113.7:4605"), *Endpoint::parse("192.0.2.1:4605")};
  out.dns = *Endpoint::parse("198.51.100.53:53");
  out.connections_per_device = 4096;
  if (v6) {
    out.api.push_back(*Endpoint::parse("[2001:db8::7]:4605"));
    out.dns6 = *Endpoint::parse("[2001:db8::53]:5353");
  }
  return out;
}

const Chain& chain(const Ruleset& ruleset, const std::string& name) {
  for (const Chain& chain : ruleset.chains)
    if (chain.name == name) return chain;
  throw std::out_of_range(name);
}

bool ends_in_drop(const Chain& chain) {
  const Expression expected = rule::Verdict{rule::VerdictKind::drop, {}};
  if (chain.rules.empty() || chain.rules.back().back() != expected) return false;
  for (const Expression& expression : chain.rules.back())
    if (expression != expected && !std::holds_alternative<rule::Counter>(expression)) return false;
  return true;
}

template <class T>
int count(const Chain& chain) {
  int out = 0;
  for (const Rule& rule : chain.rules)
    for (const Expression& expression : rule) out += std::holds_alternative<T>(expression);
  return out;
}

bool accepts(const Chain& chain) {
  for (const Rule& rule : chain.rules)
    for (const Expression& expression : rule)
      if (expression == Expression(rule::Verdict{rule::VerdictKind::accept, {}})) return true;
  return false;
}

class LanePolicyModes : public testing::TestWithParam<std::tuple<LaneMode, LaneMode, bool>> {
 protected:
  GatewayPolicy policy_ = policy(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()));
  std::shared_ptr<const Ruleset> ruleset_ = compile(policy_);
};

TEST_P(LanePolicyModes, EveryLaneFilterChainEndsInDrop) {
  for (const std::string name : {"vpn", "tor"})
    for (const std::string kind : {"early", "forward", "toward", "redirected", "input"})
      EXPECT_TRUE(ends_in_drop(chain(*ruleset_, "lane_" + name + "_" + kind))) << name << " " << kind;
}

TEST_P(LanePolicyModes, BaseChainsAcceptByDefaultAndSendEveryLaneAway) {
  for (const std::string name : {"early", "forward", "input"}) {
    const Chain& base = chain(*ruleset_, name);
    ASSERT_TRUE(base.hook);
    for (const LanePolicy& lane : policy_.lanes) {
      Rule by_name{rule::Interface{rule::Path::in, lane.interface, false},
                   rule::Verdict{rule::VerdictKind::go, "lane_" + lane.lane.str() + "_" + name}};
      EXPECT_NE(std::find(base.rules.begin(), base.rules.end(), by_name), base.rules.end()) << name;
      for (auto pool : {std::optional(lane.pool), lane.pool6}) {
        if (!pool) continue;
        bool by_pool = false;
        for (const Rule& rule : base.rules)
          by_pool = by_pool || rule.front() == Expression(rule::Network{rule::Side::source, *pool});
        EXPECT_TRUE(by_pool) << name << " " << pool->str();
      }
    }
  }
}

TEST_P(LanePolicyModes, AClosedLaneCarriesNothing) {
  for (const LanePolicy& lane : policy_.lanes) {
    if (lane.mode != LaneMode::closed) continue;
    std::string prefix = "lane_" + lane.lane.str();
    EXPECT_FALSE(accepts(chain(*ruleset_, prefix + "_forward")));
    EXPECT_FALSE(accepts(chain(*ruleset_, prefix + "_toward")));
    // Only the API is translated.
    const Chain& nat = chain(*ruleset_, prefix + "_nat");
    EXPECT_EQ(count<rule::Translate>(nat), count<rule::Destination>(nat));
  }
}

TEST_P(LanePolicyModes, TheApiComesFirstInEveryLane) {
  for (const LanePolicy& lane : policy_.lanes) {
    const Chain& nat = chain(*ruleset_, "lane_" + lane.lane.str() + "_nat");
    ASSERT_FALSE(nat.rules.empty());
    EXPECT_EQ(nat.rules.front(),
              (Rule{rule::Destination{false, "api4"}, rule::Translate{Endpoint(lane.gateway, 4605)}}));
  }
  EXPECT_EQ(chain(*ruleset_, "nat").hook->priority, -110);
}

TEST_P(LanePolicyModes, NftAcceptsTheText) {
  bool usable = std::system("command -v nft >/dev/null && unshare -n true 2>/dev/null") == 0;
  TORNADO_REQUIRE(usable, "nft and root");
  std::FILE* nft = ::popen("unshare -n nft -c -f -", "w");
  ASSERT_NE(nft, nullptr);
  std::string text = to_text(*ruleset_);
  std::fwrite(text.data(), 1, text.size(), nft);
  EXPECT_EQ(::pclose(nft), 0) << text;
}

TEST_P(LanePolicyModes, D084OnlyAnOpenLaneForwards) {
  for (const LanePolicy& lane : policy_.lanes)
    for (const std::string kind : {"_forward", "_toward"}) {
      const Chain& found = chain(*ruleset_, "lane_" + lane.lane.str() + kind);
      EXPECT_EQ(accepts(found), lane.mode == LaneMode::open) << found.name;
    }
}

TEST_P(LanePolicyModes, I26ModesDifferInChainsOfTheirLaneOnly) {
  for (LaneMode mode : {LaneMode::open, LaneMode::closed, LaneMode::tor, LaneMode::maintenance}) {
    GatewayPolicy other = policy_;
    other.lanes[1].mode = mode;
    auto wanted = compile(other);
    Ruleset changed = *ruleset_;
    ASSERT_TRUE(replace_lane(changed, *wanted, other.lanes[1].lane));
    EXPECT_EQ(changed, *wanted);
  }
}

constexpr LaneMode modes[] = {LaneMode::open, LaneMode::closed, LaneMode::tor, LaneMode::maintenance};
INSTANTIATE_TEST_SUITE_P(All, LanePolicyModes,
                         testing::Combine(testing::ValuesIn(modes), testing::ValuesIn(modes), testing::Bool()));

const rule::Verdict accept{rule::VerdictKind::accept, {}};

TEST(LanePolicy, D099OnlyWhatWasRedirectedReachesThePortsOfTheMode) {
  for (auto [mode, tcp, udp] : {std::tuple(LaneMode::tor, 9140, 9153), std::tuple(LaneMode::maintenance, 9141, 9154)}) {
    GatewayPolicy in = policy(LaneMode::open, mode, true);
    in.lanes[1].trans_port = 9140;
    in.lanes[1].dns_port = 9153;
    in.lanes[1].page_port = 9141;
    in.lanes[1].responder_port = 9154;
    auto ruleset = compile(in);
    std::set<int> accepted, sent;
    for (const Rule& rule : chain(*ruleset, "lane_tor_input").rules) {
      const auto* verdict = std::get_if<rule::Verdict>(&rule.back());
      int port = 0;
      bool translated = false;
      for (const Expression& expression : rule) {
        if (const auto* match = std::get_if<rule::Port>(&expression)) port = match->port;
        translated = translated || std::holds_alternative<rule::Translated>(expression);
      }
      if (port != 0 && *verdict == accept) accepted.insert(port);
      if (verdict->kind != rule::VerdictKind::go) continue;
      EXPECT_EQ(verdict->chain, "lane_tor_redirected");
      EXPECT_TRUE(translated);
      sent.insert(port);
    }
    EXPECT_EQ(accepted, std::set<int>{4605});
    EXPECT_EQ(sent, (std::set<int>{tcp, udp}));
  }
}

TEST(LanePolicy, D035TheApiIsNeitherRedirectedNorReset) {
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    GatewayPolicy in = policy(LaneMode::open, mode, true);
    auto ruleset = compile(in);
    const Rule own{rule::Network{rule::Side::destination, Prefix("10.9.0.1/32")}, rule::Port{rule::Protocol::tcp, 4605},
                   accept};
    for (const std::string name : {"lane_tor_nat", "lane_tor_refuse"}) {
      const auto& rules = chain(*ruleset, name).rules;
      auto at = std::find(rules.begin(), rules.end(), own);
      ASSERT_NE(at, rules.end()) << name;
      for (auto before = rules.begin(); before != at; ++before) {
        EXPECT_TRUE(std::holds_alternative<rule::Destination>(before->front())) << name;
      }
    }
  }
}

TEST(LanePolicy, D101OnlyTcpIsResetAndOnlyByModesThatRedirect) {
  for (auto [mode, resets] : {std::pair(LaneMode::open, 0), std::pair(LaneMode::closed, 0), std::pair(LaneMode::tor, 1),
                              std::pair(LaneMode::maintenance, 1)}) {
    auto ruleset = compile(policy(LaneMode::open, mode, true));
    EXPECT_EQ(count<rule::Reset>(chain(*ruleset, "lane_tor_refuse")), resets);
  }
  auto ruleset = compile(policy(LaneMode::open, LaneMode::tor, false));
  const Chain& base = chain(*ruleset, "refuse");
  // After the connection is known, before its destination is changed.
  EXPECT_GT(base.hook->priority, -200);
  EXPECT_LT(base.hook->priority, -110);
}

TEST(LanePolicy, ALaneWithoutAnIPv6GatewayRedirectsNone) {
  GatewayPolicy in = policy(LaneMode::open, LaneMode::tor, true);
  in.lanes[1].gateway6.reset();
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    in.lanes[1].mode = mode;
    auto ruleset = compile(in);
    for (const Rule& rule : chain(*ruleset, "lane_tor_nat").rules)
      EXPECT_NE(rule.front(), Expression(rule::Family{true}));
  }
}

TEST(LanePolicy, I25WhatIsRedirectedIsCountedAsGoingThrough) {
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    auto ruleset = compile(policy(LaneMode::open, mode, true));
    std::set<std::string> redirected, local;
    for (const Rule& rule : chain(*ruleset, "lane_tor_redirected").rules)
      for (const Expression& expression : rule)
        if (const auto* over = std::get_if<rule::ConnectionsOver>(&expression)) redirected.insert(over->set);
    for (const Rule& rule : chain(*ruleset, "lane_tor_input").rules)
      for (const Expression& expression : rule)
        if (const auto* over = std::get_if<rule::ConnectionsOver>(&expression)) local.insert(over->set);
    EXPECT_EQ(redirected, (std::set<std::string>{"lane_tor_through4", "lane_tor_through6"}));
    EXPECT_EQ(local, (std::set<std::string>{"lane_tor_local4", "lane_tor_local6"}));
  }
}

TEST(LanePolicy, WithoutIPv6EverySixthVersionPacketOfTheLaneIsDropped) {
  auto ruleset = compile(policy(LaneMode::open, LaneMode::open, false));
  for (const Chain& chain : ruleset->chains)
    for (const Rule& rule : chain.rules)
      for (const Expression& expression : rule)
        if (const auto* network = std::get_if<rule::Network>(&expression))
          if (!network->prefix.base().is_v4()) {
            EXPECT_EQ(rule.back(), Expression(rule::Verdict{rule::VerdictKind::drop, {}})) << chain.name;
          }
}

TEST(LanePolicy, WithoutAResolverOfAFamilyItsDnsIsDropped) {
  GatewayPolicy in = policy(LaneMode::open, LaneMode::closed, true);
  in.dns6.reset();
  auto ruleset = compile(in);
  const Chain& forward = chain(*ruleset, "lane_vpn_forward");
  Rule wanted{rule::Family{true}, rule::Port{rule::Protocol::udp, 53}, rule::Counter{},
              rule::Verdict{rule::VerdictKind::drop, {}}};
  EXPECT_NE(std::find(forward.rules.begin(), forward.rules.end(), wanted), forward.rules.end());
  EXPECT_EQ(count<rule::Family>(chain(*ruleset, "lane_vpn_nat")), 2);
}

TEST(LanePolicy, I25NewConnectionsAreCountedBeforeAnythingIsAccepted) {
  for (bool v6 : {false, true}) {
    auto ruleset = compile(policy(LaneMode::open, LaneMode::closed, v6));
    for (const std::string name : {"lane_vpn_forward", "lane_vpn_input", "lane_tor_input"}) {
      const Chain& limited = chain(*ruleset, name);
      EXPECT_EQ(count<rule::ConnectionsOver>(limited), v6 ? 2 : 1) << name;
      bool accepted = false;
      for (const Rule& rule : limited.rules)
        for (const Expression& expression : rule) {
          accepted = accepted || expression == Expression(rule::Verdict{rule::VerdictKind::accept, {}});
          EXPECT_FALSE(accepted && std::holds_alternative<rule::ConnectionsOver>(expression)) << name;
        }
    }
    // Nothing goes through a closed lane: nothing to count.
    EXPECT_EQ(count<rule::ConnectionsOver>(chain(*ruleset, "lane_tor_forward")), 0);
  }
}

TEST(LanePolicy, I25TheApiHasACountOfItsOwnAndEveryFamilyAndLaneToo) {
  auto ruleset = compile(policy(LaneMode::open, LaneMode::open, true));
  std::set<std::string> used, declared;
  for (const Chain& chain : ruleset->chains)
    for (const Rule& rule : chain.rules)
      for (const Expression& expression : rule)
        if (const auto* over = std::get_if<rule::ConnectionsOver>(&expression)) {
          EXPECT_TRUE(used.insert(over->set).second) << over->set;
          EXPECT_EQ(over->limit, 4096U);
        }
  for (const ElementSet& set : ruleset->sets)
    if (set.capacity != 0) {
      declared.insert(set.name);
      EXPECT_EQ(set.capacity, 256U) << set.name;
    }
  EXPECT_EQ(used, declared);
  EXPECT_EQ(used.size(), 8U);
}

TEST(LanePolicy, I25WithoutALimitNothingIsCounted) {
  GatewayPolicy in = policy(LaneMode::open, LaneMode::open, true);
  in.connections_per_device = 0;
  auto ruleset = compile(in);
  for (const ElementSet& set : ruleset->sets) EXPECT_EQ(set.capacity, 0U) << set.name;
  for (const Chain& chain : ruleset->chains) EXPECT_EQ(count<rule::ConnectionsOver>(chain), 0) << chain.name;
}

TEST(LanePolicy, LaneNamesBecomeDistinctChainNames) {
  GatewayPolicy in = policy(LaneMode::open, LaneMode::open, false);
  in.lanes[0].lane = Lane("a-b");
  in.lanes[1].lane = Lane("a_2db");
  auto ruleset = compile(in);
  EXPECT_NO_THROW(chain(*ruleset, "lane_a_2db_nat"));
  EXPECT_NO_THROW(chain(*ruleset, "lane_a_5f2db_nat"));
}

TEST(LanePolicy, AGatewayOutsideItsPoolIsGuardedToo) {
  GatewayPolicy in = policy(LaneMode::open, LaneMode::open, false);
  in.lanes[0].gateway = *Address::parse("10.7.0.1");
  auto ruleset = compile(in);
  Rule wanted{rule::Network{rule::Side::destination, Prefix("10.7.0.1/32")}, rule::Counter{},
              rule::Verdict{rule::VerdictKind::drop, {}}};
  const Chain& early = chain(*ruleset, "early");
  EXPECT_NE(std::find(early.rules.begin(), early.rules.end(), wanted), early.rules.end());
}

TEST(LanePolicy, ApiSetsAreSortedAndWithoutRepetition) {
  auto sets =
      api_sets({*Endpoint::parse("192.0.2.9:80"), *Endpoint::parse("192.0.2.1:80"), *Endpoint::parse("192.0.2.9:80"),
                Endpoint(*Address::parse("192.0.2.3"), 0), *Endpoint::parse("[2001:db8::1]:80")});
  ASSERT_EQ(sets.size(), 2U);
  EXPECT_EQ(sets[0].endpoints,
            (std::vector<Endpoint>{*Endpoint::parse("192.0.2.1:80"), *Endpoint::parse("192.0.2.9:80")}));
  EXPECT_EQ(sets[1].endpoints, (std::vector<Endpoint>{*Endpoint::parse("[2001:db8::1]:80")}));
}

TEST(LanePolicy, ALaneIsReplacedAlone) {
  Ruleset now = *compile(policy(LaneMode::open, LaneMode::open, false));
  auto wanted = compile(policy(LaneMode::closed, LaneMode::closed, false));
  ASSERT_TRUE(replace_lane(now, *wanted, Lane("vpn")));
  EXPECT_EQ(now, *compile(policy(LaneMode::closed, LaneMode::open, false)));
  EXPECT_FALSE(replace_lane(now, *wanted, Lane("other")));
  EXPECT_FALSE(replace_lane(now, *wanted, Lane("")));
}

/// TORNADO_UPDATE_GOLDEN=1 writes the files anew.
void expect_golden(const std::string& name, const std::string& text) {
  std::string path = std::string(TORNADO_SOURCE_DIR) + "/tests/domain/golden/" + name;
  if (std::getenv("TORNADO_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::stringstream expected;
  expected << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, expected.str()) << path;
}

TEST(LanePolicy, GoldenText) {
  expect_golden("open_closed.nft", to_text(*compile(policy(LaneMode::open, LaneMode::closed, false))));
  expect_golden("open_open_v6.nft", to_text(*compile(policy(LaneMode::open, LaneMode::open, true))));
  expect_golden("open_tor.nft", to_text(*compile(policy(LaneMode::open, LaneMode::tor, false))));
  expect_golden("closed_maintenance_v6.nft", to_text(*compile(policy(LaneMode::closed, LaneMode::maintenance, true))));
}

}  // namespace
}  // namespace tornado
