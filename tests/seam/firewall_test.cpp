#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>

#include "firewall/ruleset.hpp"
#include "support/network_lab.hpp"
#include "support/privileged.hpp"
#include "tornado/firewall.hpp"

namespace tornado {
namespace {

GatewayPolicy two_lanes(LaneMode first, LaneMode second) {
  GatewayPolicy out;
  for (int i = 0; i < 2; ++i) {
    std::string octet = std::to_string(8 + i);
    LanePolicy lane;
    lane.lane = Lane(i == 0 ? "vpn" : "tor");
    lane.interface = "wg" + std::to_string(i);
    lane.pool = Prefix("10." + octet + ".0.0/24");
    lane.gateway = *Address::parse("10." + octet + ".0.1");
    lane.pool6 = Prefix("fd00:" + octet + "::/64");
    lane.gateway6 = *Address::parse("fd00:" + octet + "::1");
    lane.mode = i == 0 ? first : second;
    out.lanes.push_back(lane);
  }
  out.api = {*Endpoint::parse("203.0.113.7:4605"), *Endpoint::parse("[2001:db8::7]:4605")};
  out.dns = *Endpoint::parse("198.51.100.53:53");
  out.connections_per_device = 4096;
  return out;
}

/// Web for everybody of class 3, a network of its own with overlapping ranges of ports for class 4.
std::shared_ptr<AccessRules> some_rights() {
  auto out = std::make_shared<AccessRules>();
  const Prefix any4("0.0.0.0/0"), any6("::/0");
  for (const Prefix& any : {any4, any6}) {
    out->grants.emplace_back(3, any, AccessProtocol::tcp, 443, 443);
    out->grants.emplace_back(3, any, AccessProtocol::udp, 443, 443);
    out->grants.emplace_back(3, any, AccessProtocol::icmp, 0, 0);
  }
  out->grants.emplace_back(4, Prefix("192.0.2.0/24"), AccessProtocol::tcp, 8000, 8100);
  out->grants.emplace_back(4, Prefix("192.0.2.128/25"), AccessProtocol::tcp, 8050, 8200);
  out->grants.emplace_back(4, Prefix("2001:db8:1::/48"), AccessProtocol::udp, 53000, 53000);
  out->grants.emplace_back(4, any4, AccessProtocol::tcp, 9000, 9100);
  out->grants.emplace_back(4, Prefix("192.0.2.7/32"), AccessProtocol::icmp, 0, 0);
  for (std::uint32_t i = 0; i < 4; ++i) {
    DeviceAccess& device = out->devices.emplace_back(Address::from_v4(0x0a080002U + i), i + 1);
    if (i == 2) device.up = 1'250'000;
    if (i == 3) device.down = 3 * 1024 * 1024;
  }
  DeviceAccess six(*Address::parse("fd00:8::2"), 3);
  six.up = six.down = 100'000;
  out->devices.push_back(six);
  return out;
}

constexpr LaneMode modes[] = {LaneMode::open, LaneMode::closed, LaneMode::tor, LaneMode::maintenance};

/// One suite for every Firewall: a fixture brings one up, and can play somebody else who flushes the rules.
class FirewallFixture {
 public:
  virtual ~FirewallFixture() = default;
  virtual Firewall& firewall() = 0;
  virtual void flush_by_somebody_else() = 0;
  /// Somebody else has a firewall of the kind of ufw, and one of the kind of firewalld.
  virtual void others_drop() = 0;
};

class MemoryFixture final : public FirewallFixture {
 public:
  explicit MemoryFixture(Runtime& runtime) : firewall_(runtime) {}
  Firewall& firewall() override { return firewall_; }
  void flush_by_somebody_else() override { firewall_.tamper(); }
  void others_drop() override {
    ForeignChain forward("ip", "filter", "FORWARD", "forward"), zones("inet", "fw", "filter_IN", "input");
    zones.by_rule = true;
    firewall_.set_foreign_drops({forward, zones});
  }

 private:
  MemoryFirewall firewall_;
};

class NftFixture final : public FirewallFixture {
 public:
  explicit NftFixture(Runtime& runtime) {
    lab::Inside inside(namespace_);
    firewall_ = nft_firewall(runtime);
  }
  Firewall& firewall() override { return *firewall_; }
  void flush_by_somebody_else() override { lab::sh(namespace_, "nft flush ruleset"); }
  /// Chains of all kinds, of which two drop what they do not know.
  void others_drop() override {
    lab::sh(namespace_,
            "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; accept; }; "
            "chain INPUT { type filter hook input priority 0; policy accept; tcp dport 22 drop; }; "
            "chain ufw { drop; }; }';"
            "nft 'table inet fw { chain filter_IN { type filter hook input priority 10; policy accept; "
            "ct state established accept; counter log reject with icmpx admin-prohibited; }; "
            "chain mangle { type filter hook prerouting priority -150; counter; }; }'");
  }
  const lab::Namespace& where() const { return namespace_; }

 private:
  lab::Namespace namespace_;
  std::unique_ptr<Firewall> firewall_;
};

class FirewallSeam : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "memory") {
      fixture_ = std::make_unique<MemoryFixture>(runtime_);
      return;
    }
    TORNADO_REQUIRE(lab::Namespace::available(), "network namespaces");
    fixture_ = std::make_unique<NftFixture>(runtime_);
  }

  Firewall& firewall() { return fixture_->firewall(); }
  bool intact() { return runtime_.wait(firewall().intact()).value(); }

  Runtime runtime_;
  std::unique_ptr<FirewallFixture> fixture_;
  std::shared_ptr<const Ruleset> open_ = compile(two_lanes(LaneMode::open, LaneMode::open));
  std::shared_ptr<const Ruleset> closed_ = compile(two_lanes(LaneMode::closed, LaneMode::open));
};

TEST_P(FirewallSeam, IsIntactAfterApplyAndItsOwnChanges) {
  EXPECT_FALSE(intact());
  runtime_.wait(firewall().apply(open_)).value();
  EXPECT_TRUE(intact());
  runtime_.wait(firewall().mode(closed_, Lane("vpn"))).value();
  EXPECT_TRUE(intact());
  runtime_.wait(firewall().api({*Endpoint::parse("192.0.2.1:4605")})).value();
  EXPECT_TRUE(intact());
  runtime_.wait(firewall().apply(closed_)).value();
  EXPECT_TRUE(intact());
}

TEST_P(FirewallSeam, RemoveTakesTheTableAwayAndSucceedsWithoutOne) {
  EXPECT_TRUE(runtime_.wait(firewall().remove()));
  runtime_.wait(firewall().apply(open_)).value();
  EXPECT_TRUE(runtime_.wait(firewall().remove()));
  EXPECT_FALSE(intact());
  EXPECT_TRUE(runtime_.wait(firewall().remove()));
}

TEST_P(FirewallSeam, ChangesWithoutATableFail) {
  auto mode = runtime_.wait(firewall().mode(closed_, Lane("vpn")));
  ASSERT_FALSE(mode);
  EXPECT_EQ(mode.error().code(), errc::backend_failed);
  auto api = runtime_.wait(firewall().api({}));
  ASSERT_FALSE(api);
  EXPECT_EQ(api.error().code(), errc::backend_failed);
}

TEST_P(FirewallSeam, AnUnknownLaneIsRefused) {
  runtime_.wait(firewall().apply(open_)).value();
  auto result = runtime_.wait(firewall().mode(closed_, Lane("nowhere")));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), errc::invalid_argument);
  EXPECT_TRUE(intact());
}

TEST_P(FirewallSeam, NoticesThatSomebodyElseFlushedIt) {
  runtime_.wait(firewall().apply(open_)).value();
  ASSERT_TRUE(intact());
  std::uint64_t seen = runtime_.wait(firewall().changed(0)).value();
  fixture_->flush_by_somebody_else();
  EXPECT_GT(runtime_.wait(firewall().changed(seen)).value(), seen);
  EXPECT_FALSE(intact());
  runtime_.wait(firewall().apply(open_)).value();
  EXPECT_TRUE(intact());
}

TEST_P(FirewallSeam, I24ChainsOfOthersThatDropAreNamedAndOursAreNot) {
  runtime_.wait(firewall().apply(open_)).value();
  EXPECT_TRUE(runtime_.wait(firewall().foreign_drops()).value().empty());
  fixture_->others_drop();
  for (int again = 0; again < 2; ++again) {
    auto chains = runtime_.wait(firewall().foreign_drops()).value();
    ASSERT_EQ(chains.size(), 2U);
    EXPECT_EQ(chains[0].str(), "inet fw filter_IN");
    EXPECT_EQ(chains[0].hook, "input");
    EXPECT_TRUE(chains[0].by_rule);
    EXPECT_EQ(chains[1].str(), "ip filter FORWARD");
    EXPECT_EQ(chains[1].hook, "forward");
    EXPECT_FALSE(chains[1].by_rule);
  }
  EXPECT_TRUE(intact());
}

TEST_P(FirewallSeam, WaitingForAChangeEndsWhenItIsCancelled) {
  runtime_.wait(firewall().apply(open_)).value();
  std::uint64_t seen = runtime_.wait(firewall().changed(0)).value();
  std::optional<errc> outcome;
  auto waiter = [](Firewall& firewall, std::uint64_t since, std::optional<errc>& out) -> Task<void> {
    auto result = co_await firewall.changed(since);
    out = result ? errc::internal : result.error().code();
    co_return Result<void>();
  };
  { Background background = runtime_.spawn(waiter(firewall(), seen, outcome)); }
  EXPECT_EQ(outcome, errc::cancelled);
}

INSTANTIATE_TEST_SUITE_P(Implementations, FirewallSeam, testing::Values("memory", "nft"),
                         [](const auto& info) { return info.param; });

TEST(MemoryFirewall, InjectedFailuresChangeNothing) {
  Runtime runtime;
  MemoryFirewall firewall(runtime);
  auto ruleset = compile(two_lanes(LaneMode::open, LaneMode::open));
  firewall.fail_next(2, errc::permission_denied);
  EXPECT_EQ(runtime.wait(firewall.apply(ruleset)).error().code(), errc::permission_denied);
  EXPECT_EQ(runtime.wait(firewall.remove()).error().code(), errc::permission_denied);
  EXPECT_EQ(firewall.applied(), nullptr);
  EXPECT_TRUE(runtime.wait(firewall.apply(ruleset)));
  EXPECT_EQ(firewall.applied(), ruleset);
}

class NftTable : public testing::Test {
 protected:
  void SetUp() override {
    TORNADO_REQUIRE(lab::Namespace::available(), "network namespaces");
    fixture_.emplace(runtime_);
  }
  std::string listed(const lab::Namespace& where) { return lab::sh(where, "nft list table inet tornado"); }
  /// What nft(8) itself makes of the text.
  std::string listed_from_text(const Ruleset& ruleset) {
    lab::Namespace other;
    lab::Inside inside(other);
    std::FILE* nft = ::popen("nft -f -", "w");
    std::string text = to_text(ruleset);
    std::fwrite(text.data(), 1, text.size(), nft);
    EXPECT_EQ(::pclose(nft), 0);
    return listed(other);
  }

  Runtime runtime_;
  std::shared_ptr<const Ruleset> open_ = compile(two_lanes(LaneMode::open, LaneMode::open));
  std::optional<NftFixture> fixture_;
};

TEST_F(NftTable, IsWhatNftMakesOfTheText) {
  for (LaneMode first : modes) {
    auto ruleset = compile(two_lanes(first, LaneMode::open));
    runtime_.wait(fixture_->firewall().apply(ruleset)).value();
    std::string now = listed(fixture_->where());
    EXPECT_EQ(now, listed_from_text(*ruleset));
    EXPECT_NE(now.find("chain lane_tor_forward"), now.npos);
  }
}

TEST_F(NftTable, RightsAreWhatNftMakesOfTheText) {
  GatewayPolicy policy = two_lanes(LaneMode::open, LaneMode::tor);
  policy.access = some_rights();
  auto ruleset = compile(policy);
  runtime_.wait(fixture_->firewall().apply(ruleset)).value();
  std::string now = listed(fixture_->where());
  EXPECT_EQ(now, listed_from_text(*ruleset));
  EXPECT_NE(now.find("10.8.0.4 limit rate over 1250000 bytes/second"), now.npos) << now;
}

TEST_F(NftTable, RightsAndDevicesMakeWhatApplyWouldHaveMade) {
  Firewall& firewall = fixture_->firewall();
  GatewayPolicy policy = two_lanes(LaneMode::open, LaneMode::tor);
  runtime_.wait(firewall.apply(compile(policy))).value();
  auto rights = some_rights();
  policy.access = rights;
  runtime_.wait(firewall.access(compile(policy))).value();
  // One more, one changed in each way, one gone; and one that was never there.
  DeviceAccess fresh(*Address::parse("10.8.0.9"), 3), slower = rights->devices[2], open = rights->devices[3];
  fresh.up = 50'000;
  slower.up = 10'000;
  open = DeviceAccess(open.address);
  const Address gone = rights->devices[1].address, stranger = *Address::parse("10.8.0.77");
  std::vector<DeviceAccess> changed{fresh, slower, open};
  for (int i = 0; i < 2; ++i) runtime_.wait(firewall.devices(changed, {gone, stranger})).value();
  rights->devices[2] = slower;
  rights->devices[3] = open;
  rights->devices.erase(rights->devices.begin() + 1);
  rights->devices.push_back(fresh);
  std::string now = listed(fixture_->where());
  runtime_.wait(firewall.apply(compile(policy))).value();
  EXPECT_EQ(now, listed(fixture_->where()));
  // Without a policy nothing is left of it.
  policy.access = nullptr;
  runtime_.wait(firewall.access(compile(policy))).value();
  now = listed(fixture_->where());
  runtime_.wait(firewall.apply(compile(policy))).value();
  EXPECT_EQ(now, listed(fixture_->where()));
  EXPECT_EQ(now.find("10.8.0.9"), now.npos);
}

TEST_F(NftTable, ModeAndApiMakeWhatApplyWouldHaveMade) {
  Firewall& firewall = fixture_->firewall();
  GatewayPolicy policy = two_lanes(LaneMode::open, LaneMode::open);
  runtime_.wait(firewall.apply(compile(policy))).value();
  policy.lanes[0].mode = LaneMode::closed;
  policy.api.clear();
  for (int i = 0; i < 1000; ++i)
    policy.api.push_back(Endpoint(Address::from_v4(0xcb007100U + static_cast<std::uint32_t>(i)), 4605));
  auto wanted = compile(policy);
  runtime_.wait(firewall.mode(wanted, Lane("vpn"))).value();
  runtime_.wait(firewall.api(policy.api)).value();
  std::string now = listed(fixture_->where());
  runtime_.wait(firewall.apply(wanted)).value();
  EXPECT_EQ(now, listed(fixture_->where()));
  EXPECT_NE(now.find("203.0.116.231 . 4605"), now.npos);
}

TEST_F(NftTable, I26AModeIsTheChainsOfItsLaneInOneTransaction) {
  Firewall& firewall = fixture_->firewall();
  for (LaneMode from : modes)
    for (LaneMode to : modes) {
      auto wanted = compile(two_lanes(LaneMode::open, to));
      runtime_.wait(firewall.apply(compile(two_lanes(LaneMode::open, from)))).value();
      runtime_.wait(firewall.mode(wanted, Lane("tor"))).value();
      std::string now = listed(fixture_->where());
      runtime_.wait(firewall.apply(wanted)).value();
      EXPECT_EQ(now, listed(fixture_->where()));
    }
}

TEST_F(NftTable, I24AChainThatDropsIsNamedAsLongAsItIsThere) {
  Firewall& firewall = fixture_->firewall();
  auto names = [&] {
    std::vector<std::string> out;
    for (const ForeignChain& chain : runtime_.wait(firewall.foreign_drops()).value()) out.push_back(chain.str());
    return out;
  };
  lab::sh(fixture_->where(),
          "nft 'table ip6 filter { chain INPUT { type filter hook input priority 0; policy drop; }; }';"
          "nft 'table inet guard { chain every { type filter hook ingress device lo priority 0; policy drop; }; }';"
          // Neither routes nor is routed.
          "nft 'table bridge filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }';"
          "nft 'table inet tornado2 { chain forward { type filter hook forward priority 0; drop; }; }'");
  EXPECT_EQ(names(), (std::vector<std::string>{"inet guard every", "inet tornado2 forward", "ip6 filter INPUT"}));
  lab::sh(fixture_->where(), "nft chain ip6 filter INPUT '{ policy accept; }'; nft flush chain inet tornado2 forward");
  EXPECT_EQ(names(), std::vector<std::string>{"inet guard every"});
  lab::sh(fixture_->where(), "nft delete table inet guard");
  EXPECT_TRUE(names().empty());
}

TEST_F(NftTable, I26OnlyTheLastRuleOfALongChainCounts) {
  // More than one datagram of a dump holds.
  std::string add =
      "for i in $(seq 2000); do echo \"add rule ip long input tcp dport $i counter drop\"; done | nft -f -";
  lab::sh(fixture_->where(),
          "nft 'table ip long { chain input { type filter hook input priority 0; policy accept; drop; }; }'; " + add);
  Firewall& firewall = fixture_->firewall();
  EXPECT_TRUE(runtime_.wait(firewall.foreign_drops()).value().empty());
  lab::sh(fixture_->where(), "nft add rule ip long input counter drop");
  auto chains = runtime_.wait(firewall.foreign_drops()).value();
  ASSERT_EQ(chains.size(), 1U);
  EXPECT_TRUE(chains[0].by_rule);
}

TEST_F(NftTable, I26OperationsKeepTheirOrderAroundALargeOne) {
  Firewall& firewall = fixture_->firewall();
  GatewayPolicy policy = two_lanes(LaneMode::open, LaneMode::open);
  runtime_.wait(firewall.apply(compile(policy))).value();
  GatewayPolicy crowded = policy;
  for (std::uint32_t i = 0; i < 20'000; ++i) crowded.api.push_back(Endpoint(Address::from_v4(0x0b000001U + i), 4605));
  auto large = compile(crowded), closed = compile(two_lanes(LaneMode::closed, LaneMode::open));
  std::vector<std::string> ended;
  auto note = [&](std::string name, Task<void> task) -> Task<void> {
    auto result = co_await std::move(task);
    ended.push_back(result ? name : name + ": " + result.error().detail());
    co_return result;
  };
  {
    std::vector<Background> under_way;
    under_way.push_back(runtime_.spawn(note("large", firewall.apply(large))));
    under_way.push_back(runtime_.spawn(note("mode", firewall.mode(closed, Lane("vpn")))));
    under_way.push_back(runtime_.spawn(note("api", firewall.api({*Endpoint::parse("192.0.2.1:4605")}))));
    EXPECT_TRUE(runtime_.wait(firewall.intact()).value());
    EXPECT_EQ(ended, (std::vector<std::string>{"large", "mode", "api"}));
  }
  GatewayPolicy wanted = two_lanes(LaneMode::closed, LaneMode::open);
  wanted.api = {*Endpoint::parse("192.0.2.1:4605")};
  std::string now = listed(fixture_->where());
  runtime_.wait(firewall.apply(compile(wanted))).value();
  EXPECT_EQ(now, listed(fixture_->where()));
}

TEST_F(NftTable, I26ALargeApplyThatIsCancelledLeavesTheNextOneItsTurn) {
  Firewall& firewall = fixture_->firewall();
  GatewayPolicy crowded = two_lanes(LaneMode::open, LaneMode::open);
  for (std::uint32_t i = 0; i < 20'000; ++i) crowded.api.push_back(Endpoint(Address::from_v4(0x0b000001U + i), 4605));
  auto large = compile(crowded);
  {
    Background first = runtime_.spawn(firewall.apply(large)), second = runtime_.spawn(firewall.apply(large));
    runtime_.settle();
    second.stop();
  }
  runtime_.wait(firewall.apply(open_)).value();
  EXPECT_TRUE(runtime_.wait(firewall.intact()).value());
  EXPECT_EQ(listed(fixture_->where()), listed_from_text(*open_));
}

TEST_F(NftTable, AFailedTransactionChangesNothing) {
  Firewall& firewall = fixture_->firewall();
  auto good = compile(two_lanes(LaneMode::open, LaneMode::open));
  runtime_.wait(firewall.apply(good)).value();
  std::string before = listed(fixture_->where());
  Ruleset bad = *good;
  bad.chains[1].rules.push_back({rule::Verdict{rule::VerdictKind::go, "nowhere"}});
  auto result = runtime_.wait(firewall.apply(std::make_shared<const Ruleset>(bad)));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), errc::backend_failed);
  EXPECT_EQ(listed(fixture_->where()), before);
  EXPECT_TRUE(runtime_.wait(firewall.intact()).value());
  // Nor does it make good what somebody else did.
  lab::sh(fixture_->where(), "nft insert rule inet tornado lane_vpn_forward accept");
  EXPECT_FALSE(runtime_.wait(firewall.intact()).value());
  EXPECT_FALSE(runtime_.wait(firewall.apply(std::make_shared<const Ruleset>(bad))));
  EXPECT_FALSE(runtime_.wait(firewall.intact()).value());
}

TEST_F(NftTable, WithoutTheCapabilityEverythingIsDenied) {
  Firewall& firewall = fixture_->firewall();
  lab::Unprivileged unprivileged;
  for (auto& result : {runtime_.wait(firewall.apply(compile(two_lanes(LaneMode::open, LaneMode::open)))),
                       runtime_.wait(firewall.api({})), runtime_.wait(firewall.remove())}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), errc::permission_denied) << result.error().detail();
  }
}

TEST_F(NftTable, TablesOfOthersAreNotOurBusiness) {
  Firewall& firewall = fixture_->firewall();
  runtime_.wait(firewall.apply(compile(two_lanes(LaneMode::open, LaneMode::open)))).value();
  lab::sh(fixture_->where(), "nft add table inet other; nft add table ip tornado; nft delete table ip tornado");
  EXPECT_TRUE(runtime_.wait(firewall.intact()).value());
  // One rule in a chain of ours is.
  lab::sh(fixture_->where(), "nft insert rule inet tornado lane_vpn_forward accept");
  EXPECT_FALSE(runtime_.wait(firewall.intact()).value());
}

/// Descriptors that are told of what happens to rulesets.
std::vector<int> listeners() {
  std::vector<int> out;
  for (int fd = 0; fd < 1024; ++fd) {
    int domain = 0, protocol = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_NETLINK) continue;
    size = sizeof protocol;
    if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0 || protocol != NETLINK_NETFILTER) continue;
    sockaddr_nl at{};
    size = sizeof at;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0 && at.nl_groups != 0) out.push_back(fd);
  }
  return out;
}

TEST_F(NftTable, ASocketThatTellsNothingAnyMoreIsOpenedAnew) {
  lab::Inside inside(fixture_->where());
  Firewall& firewall = fixture_->firewall();
  auto ruleset = compile(two_lanes(LaneMode::open, LaneMode::open));
  runtime_.wait(firewall.apply(ruleset)).value();
  ASSERT_TRUE(runtime_.wait(firewall.intact()).value());
  std::uint64_t seen = runtime_.wait(firewall.changed(0)).value();
  auto told_of = listeners();
  ASSERT_EQ(told_of.size(), 1U);
  int silent = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::dup2(silent, told_of[0]), told_of[0]);
  ::close(silent);
  lab::sh(fixture_->where(), "nft insert rule inet tornado lane_vpn_forward accept");
  auto deaf = runtime_.wait(firewall.intact());
  ASSERT_FALSE(deaf) << "what was changed is not known";
  EXPECT_EQ(deaf.error().code(), errc::deadline_exceeded);
  // What came while nobody listened counts as a change by others.
  for (bool good = false; !good;) {
    seen = runtime_.wait(firewall.changed(seen)).value();
    runtime_.wait(firewall.apply(ruleset)).value();
    auto intact = runtime_.wait(firewall.intact());
    good = intact && *intact;
  }
  lab::sh(fixture_->where(), "nft insert rule inet tornado lane_vpn_forward accept");
  EXPECT_FALSE(runtime_.wait(firewall.intact()).value());
}

}  // namespace
}  // namespace tornado
