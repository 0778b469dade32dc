#include "firewall/barrier.hpp"

#include <gtest/gtest.h>

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
  ASSERT_EQ(wanted.rules.size(), 4U);
  for (bool v6 : {false, true}) {
    EXPECT_EQ(blackholes(wanted, v6), 1);
    int by_link = 0, by_pool = 0;
    for (const RoutingRule& rule : wanted.rules) {
      EXPECT_EQ(rule.table, 51901U);
      EXPECT_LT(rule.priority, 32766U);
      by_link += rule.v6 == v6 && rule.incoming == "tor0" && !rule.source && rule.priority == barrier_link_priority;
      by_pool += rule.v6 == v6 && rule.incoming.empty() && rule.source == (v6 ? lane(true).pool6 : lane(true).pool) &&
                 rule.priority == barrier_source_priority;
    }
    EXPECT_EQ(by_link, 1);
    EXPECT_EQ(by_pool, 1);
  }
  for (const Route& route : wanted.routes) {
    EXPECT_EQ(route.table, 51901U);
    EXPECT_TRUE(route.link.empty());
  }
}

TEST(Barrier, I20WithoutAnIPv6PoolAllIPv6OfTheLinkEnds) {
  Barrier wanted = barrier(lane(false), 51901);
  EXPECT_EQ(blackholes(wanted, true), 1);
  ASSERT_EQ(wanted.rules.size(), 3U);
  EXPECT_TRUE(wanted.rules.back().v6);
  EXPECT_EQ(wanted.rules.back().incoming, "tor0");
}

/// A rule never looks into a table that does not end yet, and an exception never stands without its blackhole.
TEST(Barrier, I20NoStepOpensAnything) {
  Barrier wanted = barrier(lane(true), 51901);
  Runtime runtime;
  for (int steps = 0; steps < 8; ++steps) {
    MemoryHost host(runtime);
    Barrier part = wanted;
    for (int left = 8 - steps; left > 0; --left) {
      if (!part.rules.empty())
        part.rules.pop_back();
      else
        part.routes.pop_back();
    }
    runtime.wait(raise(host, part)).value();
    for (bool v6 : {false, true}) {
      Barrier now;
      now.routes = host.routes();
      bool looked_up = false, exception = false;
      for (const RoutingRule& rule : host.rules()) looked_up = looked_up || rule.v6 == v6;
      for (const Route& route : host.routes())
        exception = exception || (route.kind == RouteKind::throw_ && route.destination.base().is_v4() != v6);
      if (looked_up || exception) {
        EXPECT_EQ(blackholes(now, v6), 1) << steps;
      }
    }
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
