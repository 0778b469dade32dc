#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "firewall/barrier.hpp"
#include "support/privileged.hpp"
#include "tornado/host.hpp"

namespace tornado::seam {

/// Brings up a Host whose links the suite may create. Nothing but a loopback link may be there before.
class HostFixture {
 public:
  virtual ~HostFixture() = default;
  virtual Host& host() = 0;
  virtual void create_link(const std::string& name) = 0;
  /// A kind of link that can be made here.
  virtual std::string kind() const { return "bridge"; }
};

using MakeHost = std::function<std::unique_ptr<HostFixture>(Runtime&)>;

/// What every Host does. A fixture that cannot be made here returns nothing, and the test is skipped.
class HostSuite : public testing::TestWithParam<std::pair<std::string, MakeHost>> {
 protected:
  void SetUp() override {
    fixture_ = GetParam().second(runtime_);
    TORNADO_REQUIRE(fixture_, "network namespaces");
  }

  template <class T>
  T run(Task<T> task) {
    if constexpr (std::is_void_v<T>)
      runtime_.wait(std::move(task)).value();
    else
      return runtime_.wait(std::move(task)).value();
  }
  template <class T>
  errc fail(Task<T> task) {
    auto result = runtime_.wait(std::move(task));
    EXPECT_FALSE(result);
    return result ? errc::internal : result.error().code();
  }

  Host& host() { return fixture_->host(); }

  std::optional<Link> link(const std::string& name) {
    for (const Link& link : run(host().links()))
      if (link.name == name) return link;
    return std::nullopt;
  }
  bool has(const LinkAddress& address) {
    auto all = run(host().addresses());
    return std::find(all.begin(), all.end(), address) != all.end();
  }

  static LinkAddress address(const std::string& link, const std::string& text, int length) {
    return LinkAddress(link, *Address::parse(text), length);
  }
  static Route route(const std::string& destination, RouteKind kind, const std::string& link, std::uint32_t table) {
    Route out;
    out.destination = Prefix(destination);
    out.kind = kind;
    out.link = link;
    out.table = table;
    return out;
  }
  static RoutingRule rule(bool v6, const std::string& incoming, std::optional<Prefix> source, std::uint32_t priority) {
    RoutingRule out;
    out.v6 = v6;
    out.incoming = incoming;
    out.source = source;
    out.priority = priority;
    out.table = 4605;
    return out;
  }

  Runtime runtime_;
  std::unique_ptr<HostFixture> fixture_;
};

TEST_P(HostSuite, LinksAreListedChangedAndRemoved) {
  EXPECT_FALSE(link("lane0"));
  fixture_->create_link("lane0");
  auto made = link("lane0");
  ASSERT_TRUE(made);
  EXPECT_FALSE(made->up);
  EXPECT_GT(made->index, 0);
  run(host().set_link("lane0", true, 1380));
  made = link("lane0");
  EXPECT_TRUE(made->up);
  EXPECT_EQ(made->mtu, 1380U);
  run(host().set_link("lane0", false, std::nullopt));
  made = link("lane0");
  EXPECT_FALSE(made->up);
  EXPECT_EQ(made->mtu, 1380U);
  run(host().remove_link("lane0"));
  EXPECT_FALSE(link("lane0"));
  run(host().remove_link("lane0"));
}

TEST_P(HostSuite, ALinkOfAKindIsMadeOnce) {
  run(host().ensure_link("lane0", fixture_->kind()));
  auto made = link("lane0");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->kind, fixture_->kind());
  run(host().set_link("lane0", true, std::nullopt));
  run(host().ensure_link("lane0", fixture_->kind()));
  EXPECT_TRUE(link("lane0")->up) << "it is left as it is";
  EXPECT_EQ(link("lane0")->index, made->index);
  fixture_->create_link("lane2");
  EXPECT_EQ(fail(host().ensure_link("lane2", "veth")), errc::already_exists);
  EXPECT_EQ(fail(host().ensure_link("lane1", "missing")), errc::failed_precondition);
  EXPECT_EQ(fail(host().ensure_link("a name that is too long", fixture_->kind())), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_link("lane1", "")), errc::invalid_argument);
  EXPECT_FALSE(link("lane1"));
  run(host().remove_link("lane0"));
  EXPECT_FALSE(link("lane0"));
}

TEST_P(HostSuite, ALinkIsRenamedUpOrDown) {
  run(host().ensure_link("lane0", fixture_->kind()));
  const int index = link("lane0")->index;
  run(host().ensure_address(address("lane0", "10.8.0.1", 24)));
  run(host().rename_link("lane0", "lane1"));
  EXPECT_FALSE(link("lane0"));
  EXPECT_EQ(link("lane1")->index, index);
  EXPECT_TRUE(has(address("lane1", "10.8.0.1", 24)));
  run(host().set_link("lane1", true, std::nullopt));
  run(host().rename_link("lane1", "lane0"));
  EXPECT_EQ(link("lane0")->index, index);
  fixture_->create_link("lane2");
  EXPECT_EQ(fail(host().rename_link("lane0", "lane2")), errc::already_exists);
  EXPECT_EQ(fail(host().rename_link("lane0", "")), errc::invalid_argument);
  EXPECT_EQ(fail(host().rename_link("lane9", "lane1")), errc::interface_missing);
  EXPECT_EQ(link("lane0")->index, index);
}

TEST_P(HostSuite, AMissingLinkIsNamed) {
  EXPECT_EQ(fail(host().set_link("lane9", true, std::nullopt)), errc::interface_missing);
  EXPECT_EQ(fail(host().ensure_address(address("lane9", "10.8.0.1", 24))), errc::interface_missing);
  EXPECT_EQ(fail(host().ensure_route(route("10.9.0.0/24", RouteKind::unicast, "lane9", 254))), errc::interface_missing);
  run(host().remove_address(address("lane9", "10.8.0.1", 24)));
  run(host().remove_route(route("10.9.0.0/24", RouteKind::unicast, "lane9", 254)));
}

TEST_P(HostSuite, AddressesAreEnsuredOnce) {
  fixture_->create_link("lane0");
  for (const LinkAddress& wanted : {address("lane0", "10.8.0.1", 24), address("lane0", "fd00:8::1", 64)}) {
    EXPECT_FALSE(has(wanted));
    run(host().ensure_address(wanted));
    run(host().ensure_address(wanted));
    EXPECT_TRUE(has(wanted));
    auto all = run(host().addresses());
    EXPECT_EQ(std::count(all.begin(), all.end(), wanted), 1);
    run(host().remove_address(wanted));
    EXPECT_FALSE(has(wanted));
    run(host().remove_address(wanted));
  }
}

TEST_P(HostSuite, RoutesAndRulesAreIdempotentInBothDirections) {
  fixture_->create_link("lane0");
  run(host().set_link("lane0", true, std::nullopt));
  for (const Route& each :
       {route("10.9.0.0/24", RouteKind::throw_, "", 4605), route("0.0.0.0/0", RouteKind::blackhole, "", 4605),
        route("fd00:9::/64", RouteKind::throw_, "", 4605), route("::/0", RouteKind::blackhole, "", 4605),
        route("10.7.0.0/16", RouteKind::unicast, "lane0", 254),
        route("fd00:7::/64", RouteKind::unicast, "lane0", 200)}) {
    run(host().remove_route(each));
    run(host().ensure_route(each));
    run(host().ensure_route(each));
    run(host().remove_route(each));
    run(host().remove_route(each));
  }
  for (const RoutingRule& each :
       {rule(false, "lane0", std::nullopt, 100), rule(true, "lane0", std::nullopt, 100),
        rule(false, "", Prefix("10.9.0.0/24"), 101), rule(true, "", Prefix("fd00:9::/64"), 101)}) {
    run(host().remove_rule(each));
    run(host().ensure_rule(each));
    run(host().ensure_rule(each));
    run(host().remove_rule(each));
    run(host().remove_rule(each));
  }
}

TEST_P(HostSuite, WhatWasEnsuredIsListed) {
  fixture_->create_link("lane0");
  run(host().set_link("lane0", true, std::nullopt));
  auto listed = [&](const Route& wanted) {
    auto all = run(host().list_routes(wanted.table, wanted.kind));
    return std::count(all.begin(), all.end(), wanted);
  };
  EXPECT_TRUE(run(host().list_routes(4605, RouteKind::blackhole)).empty()) << "no such table";
  std::vector<Route> wanted{
      route("10.9.0.0/24", RouteKind::throw_, "", 4605),       route("0.0.0.0/0", RouteKind::blackhole, "", 4605),
      route("fd00:9::/64", RouteKind::throw_, "", 4605),       route("::/0", RouteKind::blackhole, "", 4605),
      route("10.7.0.0/16", RouteKind::unicast, "lane0", 4606), route("fd00:7::/64", RouteKind::unicast, "lane0", 4606),
      route("10.6.0.0/16", RouteKind::blackhole, "", 254)};
  wanted.back().metric = 0x7fffffff;
  for (const Route& each : wanted) {
    EXPECT_EQ(listed(each), 0) << each.destination.str();
    run(host().ensure_route(each));
    EXPECT_EQ(listed(each), 1) << each.destination.str();
  }
  EXPECT_EQ(run(host().list_routes(4605, RouteKind::blackhole)).size(), 2U) << "of that kind only";
  for (const Route& each : wanted) {
    run(host().remove_route(each));
    EXPECT_EQ(listed(each), 0) << each.destination.str();
  }
  auto has_rule = [&](const RoutingRule& rule) {
    auto all = run(host().list_rules());
    return std::count(all.begin(), all.end(), rule);
  };
  for (const RoutingRule& each :
       {rule(false, "lane0", std::nullopt, 100), rule(true, "lane0", std::nullopt, 100),
        rule(false, "", Prefix("10.9.0.0/24"), 101), rule(true, "lo", Prefix("fd00:9::/64"), 101)}) {
    EXPECT_EQ(has_rule(each), 0);
    run(host().ensure_rule(each));
    EXPECT_EQ(has_rule(each), 1);
    run(host().remove_rule(each));
    EXPECT_EQ(has_rule(each), 0);
  }
  for (const char* value : {"1", "0"}) {
    run(host().ensure_sysctl("net/ipv4/ip_forward", value));
    EXPECT_EQ(run(host().read_sysctl("net/ipv4/ip_forward")), value);
  }
  EXPECT_EQ(fail(host().read_sysctl("net/ipv4/no_such_thing")), errc::not_found);
  EXPECT_EQ(fail(host().read_sysctl("../etc/passwd")), errc::invalid_argument);
}

TEST_P(HostSuite, NonsenseIsRefusedBeforeAnythingIsTouched) {
  fixture_->create_link("lane0");
  EXPECT_EQ(fail(host().ensure_address(address("lane0", "10.8.0.1", 33))), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_address(address("", "10.8.0.1", 24))), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_route(route("10.9.0.0/24", RouteKind::unicast, "", 254))), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_route(route("10.9.0.0/24", RouteKind::blackhole, "lane0", 254))),
            errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_rule(rule(true, "", Prefix("10.9.0.0/24"), 100))), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_sysctl("../../etc/passwd", "1")), errc::invalid_argument);
  EXPECT_EQ(fail(host().ensure_sysctl("/net/ipv4/ip_forward", "1")), errc::invalid_argument);
  EXPECT_EQ(fail(host().flush_connections(*Address::parse("0.0.0.0"), Lane("vpn"))), errc::invalid_argument);
}

TEST_P(HostSuite, FlushingAnAddressNobodyUsesSucceeds) {
  for (const char* address : {"10.8.0.2", "fd00:8::2"})
    run(host().flush_connections(*Address::parse(address), Lane("vpn")));
}

TEST_P(HostSuite, I25FlushingAPoolNobodyUsesSucceedsAndEverybodyIsNoPool) {
  for (const char* pool : {"10.9.0.0/24", "10.0.0.0/8", "fd00:9::/64"}) run(host().flush_network(Prefix(pool)));
  for (const char* all : {"0.0.0.0/0", "::/0", "0.0.0.0/24"})
    EXPECT_EQ(fail(host().flush_network(Prefix(all))), errc::invalid_argument) << all;
}

TEST_P(HostSuite, ABarrierIsRaisedAgainAndAgainAndLowered) {
  LanePolicy lane;
  lane.interface = "tor0";  // need not exist
  lane.pool = Prefix("10.9.0.0/24");
  lane.pool6 = Prefix("fd00:9::/64");
  Barrier wanted = barrier(lane, barrier_table(1));
  run(lower(host(), wanted));
  run(raise(host(), wanted));
  run(raise(host(), wanted));
  run(lower(host(), wanted));
  run(lower(host(), wanted));
}

TEST_P(HostSuite, ChangesWakeWhoeverWaits) {
  std::uint64_t seen = run(host().changed(0));
  fixture_->create_link("lane0");
  EXPECT_GT(run(host().changed(seen)), seen);
  // Whatever else came with it.
  run(host().links());
  runtime_.settle();
  seen = run(host().changed(0));
  run(host().ensure_address(address("lane0", "10.8.0.1", 24)));
  EXPECT_GT(run(host().changed(seen)), seen);
  seen = run(host().changed(0));
  run(host().ensure_rule(rule(true, "lane0", std::nullopt, 100)));
  EXPECT_GT(run(host().changed(seen)), seen);
}

TEST_P(HostSuite, WaitingEndsWhenItIsCancelled) {
  runtime_.settle();
  std::uint64_t seen = run(host().changed(0)) + 1000;
  std::optional<errc> outcome;
  auto waiter = [](Host& host, std::uint64_t since, std::optional<errc>& out) -> Task<void> {
    auto result = co_await host.changed(since);
    out = result ? errc::internal : result.error().code();
    co_return Result<void>();
  };
  { Background background = runtime_.spawn(waiter(host(), seen, outcome)); }
  EXPECT_EQ(outcome, errc::cancelled);
}

}  // namespace tornado::seam
