#include "firewall/barrier.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace tornado {
namespace {

LanePolicy lane(bool v6) {
  LanePolicy out;
  out.lane = Lane("tor");
  out.interface = "tor0";
  out.pool = Prefix("10.9.0.0/24");
  if (v6) out.pool6 = Prefix("fd00:9::/64");
  return out;
}

int blackholes(const Barrier& barrier, bool v6) {
  int out = 0;
  for (const Route& route : barrier.routes)
    out +=
        route.kind == RouteKind::blackhole && route.destination.length() == 0 && route.destination.base().is_v4() != v6;
  return out;
}

TEST(Barrier, I20CoversLinkAndPoolsInBothFamilies) {
  Barrier wanted = barrier(lane(true), 51901);
  ASSERT_EQ(wanted.routes.size(), 4U);
  ASSERT_EQ(wanted.rules.size(), 6U);
  for (bool v6 : {false, true}) {
    EXPECT_EQ(blackholes(wanted, v6), 1);
    std::optional<Prefix> pool = lane(true).pool;
    if (v6) pool = lane(true).pool6;
    int by_link = 0, own = 0, by_pool = 0;
    for (const RoutingRule& rule : wanted.rules) {
      EXPECT_LT(rule.priority, 32766U);
      if (rule.v6 != v6) continue;
      by_link += rule.incoming == "tor0" && !rule.source && rule.priority == 100 && rule.table == 51901;
      own += rule.incoming == "lo" && rule.source == pool && rule.destination == pool && rule.priority == 101 &&
             rule.table == 254;
      by_pool += rule.incoming.empty() && rule.source == pool && rule.priority == 102 && rule.table == 51901;
    }
    EXPECT_EQ(by_link, 1);
    EXPECT_EQ(own, 1);
    EXPECT_EQ(by_pool, 1);
  }
  for (const Route& route : wanted.routes) {
    EXPECT_TRUE(route.link.empty());
    EXPECT_EQ(route.kind, RouteKind::blackhole);
  }
}

TEST(Barrier, PoolsEndWhereTheirLinkHasNoRoute) {
  Barrier end = pool_end(lane(true));
  ASSERT_EQ(end.routes.size(), 2U);
  EXPECT_TRUE(end.rules.empty());
  for (const Route& route : end.routes) {
    EXPECT_EQ(route.kind, RouteKind::blackhole);
    EXPECT_EQ(route.table, 254U);
    EXPECT_EQ(route.metric, pool_end_metric);
  }
  EXPECT_EQ(pool_end(lane(false)).routes.size(), 1U);
}

TEST(Barrier, I20WithoutAnIPv6PoolAllIPv6OfTheLinkEnds) {
  Barrier wanted = barrier(lane(false), 51901);
  EXPECT_EQ(blackholes(wanted, true), 1);
  ASSERT_EQ(wanted.rules.size(), 4U);
  EXPECT_TRUE(wanted.rules.back().v6);
  EXPECT_EQ(wanted.rules.back().incoming, "tor0");
}

/// A rule never looks into a table that does not end yet.
TEST(Barrier, I20NoStepOpensAnything) {
  Barrier wanted = barrier(lane(true), 51901);
  std::size_t steps = wanted.routes.size() + wanted.rules.size();
  Runtime runtime;
  auto ends = [](const MemoryHost& host, const RoutingRule& rule) {
    return std::any_of(host.routes().begin(), host.routes().end(), [&](const Route& route) {
      bool all = route.destination.length() == 0 || route.destination == rule.destination;
      return all && route.kind == RouteKind::blackhole && route.table == rule.table &&
             route.destination.base().is_v4() != rule.v6;
    });
  };
  for (std::size_t done = 0; done <= steps; ++done) {
    MemoryHost host(runtime);
    Barrier part = wanted;
    part.routes.resize(std::min(done, wanted.routes.size()));
    part.rules.resize(done - part.routes.size());
    runtime.wait(raise(host, part)).value();
    for (const RoutingRule& rule : host.rules()) EXPECT_TRUE(ends(host, rule)) << done;
  }
}

TEST(Barrier, EndsAtTheFirstFailureAndIsCompletedByTheNextAttempt) {
  Barrier wanted = barrier(lane(true), barrier_table(1));
  Runtime runtime;
  MemoryHost host(runtime);
  host.fail_next(1, errc::permission_denied);
  EXPECT_EQ(runtime.wait(raise(host, wanted)).error().code(), errc::permission_denied);
  EXPECT_TRUE(host.rules().empty());
  runtime.wait(raise(host, wanted)).value();
  runtime.wait(raise(host, wanted)).value();
  EXPECT_EQ(host.routes(), wanted.routes);
  EXPECT_EQ(host.rules(), wanted.rules);
  runtime.wait(lower(host, wanted)).value();
  EXPECT_TRUE(host.routes().empty());
  EXPECT_TRUE(host.rules().empty());
}

}  // namespace
}  // namespace tornado
