#include <functional>

#include "firewall/barrier.hpp"
#include "privileged/lane_lab.hpp"

/// Packets of a lane that may only go to Tor. Plain sockets stand in for Tor, the page and the responder.
namespace tornado {
namespace {

using lab::Capture;
using lab::endpoint;
using lab::Inside;
using lab::LanePackets;
using lab::Listener;
using lab::Network;
using lab::Ping;
using lab::RawIp;
using lab::sh;
using lab::Stream;
using lab::Udp;

class TorLanePackets : public LanePackets {
 protected:
  void SetUp() override {
    LanePackets::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // Longer frames would not pass the lane's link.
    sh(net_->tor, "ip link set eth0 mtu 1420");
    trans_ = std::make_unique<Listener>(net_->gateway, "10.9.0.1:9040");
    trans6_ = std::make_unique<Listener>(net_->gateway, "[fd00:9::1]:9040");
    page_ = std::make_unique<Listener>(net_->gateway, "10.9.0.1:9041");
    page6_ = std::make_unique<Listener>(net_->gateway, "[fd00:9::1]:9041");
    dns_ = std::make_unique<Udp>(net_->gateway, "10.9.0.1:9053");
    dns6_ = std::make_unique<Udp>(net_->gateway, "[fd00:9::1]:9053");
    responder_ = std::make_unique<Udp>(net_->gateway, "10.9.0.1:9054");
    responder6_ = std::make_unique<Udp>(net_->gateway, "[fd00:9::1]:9054");
  }

  /// Both barriers.
  void guard(LaneMode tor) {
    apply(LaneMode::open, tor);
    Inside inside(net_->gateway);
    runtime_.wait(raise(*host_, barrier(policy_.lanes[1], barrier_table(1)))).value();
  }

  void change(LaneMode tor) {
    policy_.lanes[1].mode = tor;
    runtime_.wait(firewall_->mode(compile(policy_), Lane("tor"))).value();
  }

  void flush() {
    for (const Prefix& pool : {policy_.lanes[1].pool, *policy_.lanes[1].pool6})
      runtime_.wait(host_->flush_network(pool)).value();
  }

  /// The other lane lives, and everything that was sent before has arrived or been dropped.
  void settle_other() { settle(net_->vpn, "8"); }

  std::unique_ptr<Listener> trans_, trans6_, page_, page6_;
  std::unique_ptr<Udp> dns_, dns6_, responder_, responder6_;
};

TEST_F(TorLanePackets, TcpToAnyAddressReachesTransPort) {
  guard(LaneMode::tor);
  for (const char* to : {"198.51.100.1:80", "8.8.8.8:443", "192.0.2.1:22", "10.9.0.1:80", "172.16.0.1:9051",
                         "10.8.0.2:9000", "203.0.113.9:4606"}) {
    Stream stream(net_->tor, "10.9.0.2:0", to);
    ASSERT_TRUE(stream.connected()) << to;
    auto accepted = trans_->accept();
    ASSERT_TRUE(accepted) << to;
    EXPECT_EQ(accepted->peer.address.str(), "10.9.0.2");
    accepted->send("through tor");
    EXPECT_EQ(stream.receive(), "through tor");
  }
  for (const char* to : {"[2001:db8:1::1]:80", "[2001:db8::1]:22", "[fd00:9::1]:80", "[fd00:8::2]:9000"}) {
    Stream stream(net_->tor, "[fd00:9::2]:0", to);
    ASSERT_TRUE(stream.connected()) << to;
    ASSERT_TRUE(trans6_->accept()) << to;
  }
}

TEST_F(TorLanePackets, DnsToAnyAddressIsAnsweredByTheModesPort) {
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    guard(mode);
    flush();
    bool up = mode == LaneMode::tor;
    for (const char* to : {"8.8.8.8:53", "10.9.0.1:53", "198.51.100.53:53", "[2001:db8:1::53]:53", "[fd00:9::1]:53"}) {
      bool v4 = endpoint(to).address.is_v4();
      Udp& server = v4 ? (up ? *dns_ : *responder_) : (up ? *dns6_ : *responder6_);
      Udp device(net_->tor, v4 ? "10.9.0.2:0" : "[fd00:9::2]:0");
      device.send(to, "query");
      auto query = server.receive();
      ASSERT_TRUE(query) << to;
      server.send(query->from, "reply");
      auto reply = device.receive();
      ASSERT_TRUE(reply) << to;
      EXPECT_EQ(reply->from, endpoint(to));
    }
  }
}

TEST_F(TorLanePackets, I23TcpDnsIsResetAtOnce) {
  guard(LaneMode::tor);
  for (const char* to : {"8.8.8.8:53", "10.9.0.1:53", "198.51.100.53:53"})
    EXPECT_TRUE(Stream(net_->tor, "10.9.0.2:0", to).refused()) << to;
  for (const char* to : {"[2001:db8:1::53]:53", "[fd00:9::1]:53"})
    EXPECT_TRUE(Stream(net_->tor, "[fd00:9::2]:0", to).refused()) << to;
  EXPECT_FALSE(trans_->arrived());
  EXPECT_FALSE(trans6_->arrived());
}

TEST_F(TorLanePackets, D101MaintenanceShowsThePageAndResetsTheRest) {
  guard(LaneMode::maintenance);
  for (const char* to : {"198.51.100.1:80", "8.8.8.8:80", "10.9.0.1:80"}) {
    Stream stream(net_->tor, "10.9.0.2:0", to);
    ASSERT_TRUE(stream.connected()) << to;
    auto accepted = page_->accept();
    ASSERT_TRUE(accepted) << to;
    accepted->send("503");
    EXPECT_EQ(stream.receive(), "503");
  }
  Stream stream(net_->tor, "[fd00:9::2]:0", "[2001:db8:1::1]:80");
  ASSERT_TRUE(stream.connected());
  ASSERT_TRUE(page6_->accept());
  for (const char* to : {"198.51.100.1:443", "198.51.100.1:53", "192.0.2.1:22", "10.9.0.1:9040", "10.9.0.1:9041",
                         "10.8.0.1:4605", "10.8.0.2:9000"})
    EXPECT_TRUE(Stream(net_->tor, "10.9.0.2:0", to).refused()) << to;
  for (const char* to : {"[2001:db8:1::1]:443", "[2001:db8::1]:22", "[fd00:9::1]:9040"})
    EXPECT_TRUE(Stream(net_->tor, "[fd00:9::2]:0", to).refused()) << to;
  EXPECT_FALSE(trans_->arrived());
  EXPECT_FALSE(page_->arrived());
}

TEST_F(TorLanePackets, D035TheApiAnswersInEveryMode) {
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance, LaneMode::closed}) {
    guard(mode);
    for (const char* to : {"10.9.0.1:4605", "192.0.2.1:4605", "203.0.113.9:4605"}) {
      Stream stream(net_->tor, "10.9.0.2:0", to);
      ASSERT_TRUE(stream.connected()) << to;
      auto accepted = api_->accept();
      ASSERT_TRUE(accepted) << to;
      EXPECT_EQ(accepted->peer.address.str(), "10.9.0.2");
    }
    for (const char* to : {"[fd00:9::1]:4605", "[2001:db8:1::9]:4605"}) {
      Stream stream(net_->tor, "[fd00:9::2]:0", to);
      ASSERT_TRUE(stream.connected()) << to;
      ASSERT_TRUE(api6_->accept()) << to;
    }
    Ping ping(net_->tor, "10.9.0.2");
    ping.send("10.9.0.1", 1);
    EXPECT_TRUE(ping.answered(1));
  }
  EXPECT_FALSE(trans_->arrived());
}

/// With the redirects gone nothing is left but the API, not even the ports of the mode.
TEST_F(TorLanePackets, D085WithoutRedirectsNothingButTheApiIsInReach) {
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    guard(mode);
    for (const char* flushed : {"", "nft flush chain inet tornado lane_tor_nat", "nft flush chain inet tornado nat"}) {
      sh(net_->gateway, flushed);
      bool redirects = *flushed == '\0';
      Listener ssh(net_->gateway, "0.0.0.0:22");
      Udp host(net_->gateway, "0.0.0.0:9000"), host6(net_->gateway, "[::]:9000");
      Udp device(net_->tor, "10.9.0.2:0"), device6(net_->tor, "[fd00:9::2]:0");
      std::vector<Stream> attempts;
      for (const char* to : {"10.9.0.1:9040", "10.9.0.1:9041", "198.51.100.1:81", "192.0.2.1:22", "10.9.0.1:22"})
        if (!redirects || endpoint(to).port == 9040) attempts.emplace_back(net_->tor, "10.9.0.2:0", to);
      for (const char* to : {"10.9.0.1:9000", "192.0.2.1:9000", "172.16.0.1:9000", "10.9.0.1:9053", "10.9.0.1:9054"})
        device.send(to, "probe");
      for (const char* to : {"[fd00:9::1]:9000", "[2001:db8::1]:9000", "[fd00:9::1]:9053"}) device6.send(to, "probe");
      settle(net_->tor, "9");
      for (Stream& attempt : attempts) EXPECT_FALSE(attempt.connected(0)) << attempt.peer.str();
      for (Listener* listener : {&ssh, trans_.get(), page_.get()}) EXPECT_FALSE(listener->arrived());
      for (Udp* udp : {&host, &host6, dns_.get(), dns6_.get(), responder_.get()}) EXPECT_FALSE(udp->arrived());
    }
  }
}

/// Should somebody set route_localnet, the lane still does not reach loopback, where the control ports are (I-23).
TEST_F(TorLanePackets, LoopbackIsOutOfReachEvenIfItIsRouted) {
  guard(LaneMode::tor);
  route_loopback(net_->tor, "tor0", "9");
  Udp secret(net_->gateway, "127.0.0.1:9000"), device(net_->tor, "10.9.0.2:0");
  Listener control(net_->gateway, "127.0.0.1:9051");
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance, LaneMode::closed}) {
    change(mode);
    device.send("127.0.0.1:9000", "probe");
    device.send("127.0.0.1:53", "probe");
    Stream stream(net_->tor, "10.9.0.2:0", "127.0.0.1:9051");
    settle(net_->tor, "9");
    EXPECT_FALSE(secret.arrived());
    EXPECT_FALSE(control.arrived());
    EXPECT_FALSE(trans_->arrived());
    EXPECT_FALSE(stream.connected(0));
  }
  expect_loopback_without_firewall(device, secret);
}

/// D-098. The filter hooks cut what was redirected before; after the flush it follows the new mode.
TEST_F(TorLanePackets, I25EstablishedFlowsFollowTheNewMode) {
  guard(LaneMode::tor);
  Listener server(net_->internet, "198.51.100.1:7000");
  Stream other(net_->vpn, "10.8.0.2:0", "198.51.100.1:7000");
  ASSERT_TRUE(other.connected());
  auto served = server.accept();
  Stream web(net_->tor, "10.9.0.2:0", "198.51.100.1:443"), plain(net_->tor, "10.9.0.2:0", "198.51.100.1:80");
  ASSERT_TRUE(web.connected() && plain.connected());
  auto first = trans_->accept(), second = trans_->accept();
  ASSERT_TRUE(served && first && second);
  Udp device(net_->tor, "10.9.0.2:5000");
  device.send("8.8.8.8:53", "one");
  ASSERT_TRUE(dns_->receive());

  change(LaneMode::maintenance);
  web.send("secret");
  EXPECT_TRUE(web.refused());
  plain.send("secret");
  device.send("8.8.8.8:53", "two");
  settle(net_->tor, "9");
  for (Stream* stream : {&*first, &*second}) EXPECT_EQ(stream->receive(0), "");
  EXPECT_FALSE(dns_->arrived());
  flush();
  plain.send("secret");
  EXPECT_TRUE(plain.refused());
  device.send("8.8.8.8:53", "three");
  auto query = responder_->receive();
  ASSERT_TRUE(query);
  EXPECT_EQ(query->text, "three");

  change(LaneMode::tor);
  flush();
  device.send("8.8.8.8:53", "four");
  query = dns_->receive();
  ASSERT_TRUE(query);
  EXPECT_EQ(query->text, "four");
  EXPECT_TRUE(Stream(net_->tor, "10.9.0.2:0", "198.51.100.1:443").connected());
  other.send("still here");
  EXPECT_EQ(served->receive(), "still here");
}

TEST_F(TorLanePackets, AFlowOfAnOpenLaneDoesNotLiveOnInModeTor) {
  apply(LaneMode::open, LaneMode::open);
  Listener server(net_->internet, "198.51.100.1:7000");
  Stream stream(net_->tor, "10.9.0.2:0", "198.51.100.1:7000");
  ASSERT_TRUE(stream.connected());
  auto accepted = server.accept();
  ASSERT_TRUE(accepted);
  guard(LaneMode::tor);
  stream.send("probe");
  settle(net_->tor, "9");
  EXPECT_EQ(accepted->receive(0), "");
  flush();
  stream.send("probe");
  EXPECT_TRUE(stream.refused());
  EXPECT_EQ(accepted->receive(0), "");
}

TEST_F(TorLanePackets, I25RedirectedConnectionsAreLimitedAndTheApiStaysInReach) {
  constexpr int limit = 20;
  policy_.connections_per_device = limit;
  guard(LaneMode::tor);
  std::vector<Udp> flows;
  for (int i = 0; i < limit + 1; ++i) flows.emplace_back(net_->tor, "10.9.0.2:" + std::to_string(5000 + i));
  for (int i = 0; i < limit; ++i) {
    flows[static_cast<std::size_t>(i)].send("8.8.8.8:53", "flow");
    ASSERT_TRUE(dns_->receive()) << i;
  }
  flows.back().send("8.8.8.8:53", "one too many");
  Stream excess(net_->tor, "10.9.0.2:0", "198.51.100.1:443");
  flows.front().send("8.8.8.8:53", "goes on");
  auto next = dns_->receive();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->text, "goes on");
  settle(net_->tor, "9");
  EXPECT_FALSE(excess.connected(0));
  EXPECT_FALSE(trans_->arrived());
}

/// One way out each, for the device of the lane; every one is shown to work where the lane is open.
struct Probe {
  std::string name;
  std::function<void(const Network&)> send;
};

std::vector<Probe> probes() {
  auto udp = [](std::string from, std::string to, std::size_t size) {
    return [=](const Network& net) { Udp(net.tor, from).send(to, std::string(size, 'x')); };
  };
  auto tcp = [](std::string from, std::string to) { return [=](const Network& net) { Stream(net.tor, from, to); }; };
  auto echo = [](std::string from, std::string to) {
    return [=](const Network& net) { Ping(net.tor, from).send(to, 7); };
  };
  auto raw = [](std::string from, std::string to, unsigned char protocol, std::uint16_t fragment) {
    return [=](const Network& net) { RawIp(net.tor, from).send(to, protocol, fragment); };
  };
  const std::string v4 = "10.9.0.2", from = v4 + ":0", to = "198.51.100.1";
  const std::string v6 = "fd00:9::2", from6 = "[fd00:9::2]:0", to6 = "2001:db8:1::1", at6 = "[2001:db8:1::1]";
  return {{"echo", echo(v4, to)},
          {"echo6", echo(v6, to6)},
          {"udp", udp(from, to + ":7000", 100)},
          {"udp6", udp(from6, at6 + ":7000", 100)},
          {"quic", udp(from, to + ":443", 1200)},
          {"quic6", udp(from6, at6 + ":443", 1200)},
          {"fragments", udp(from, to + ":7000", 4000)},
          {"fragments6", udp(from6, at6 + ":7000", 4000)},
          {"dns", udp(from, "198.51.100.53:53", 40)},
          {"dns6", udp(from6, "[2001:db8:1::53]:53", 40)},
          {"tcp", tcp(from, to + ":443")},
          {"tcp6", tcp(from6, at6 + ":443")},
          {"http", tcp(from, to + ":80")},
          {"dns over tcp", tcp(from, "198.51.100.53:53")},
          {"gre", raw(v4, to, 47, 0)},
          {"sctp", raw(v4, to, 132, 0)},
          {"unknown protocol", raw(v4, to, 253, 0)},
          {"sctp6", raw(v6, to6, 132, 0)},
          {"unknown protocol6", raw(v6, to6, 253, 0)},
          {"lone fragment", raw(v4, to, 17, 185)},
          {"neighbour", udp(from, "192.0.2.2:123", 48)},
          {"neighbour6", udp(from6, "[2001:db8::2]:123", 48)}};
}

/// What the uplink sent and the server got, neighbour discovery apart.
class Outside {
 public:
  explicit Outside(const Network& net) : uplink_(net.gateway, "up0"), server_(net.internet, "net0") {}
  std::vector<std::string> seen() {
    std::vector<std::string> out;
    for (const Capture::Packet& packet : uplink_.drain())
      if (packet.outgoing && !packet.housekeeping()) out.push_back("uplink: " + packet.str());
    for (const Capture::Packet& packet : server_.drain())
      if (!packet.outgoing && !packet.housekeeping()) out.push_back("server: " + packet.str());
    return out;
  }

 private:
  Capture uplink_, server_;
};

TEST_F(TorLanePackets, EveryProbeGetsOutOfAGatewayWithoutBarriers) {
  apply(LaneMode::open, LaneMode::open);
  runtime_.wait(firewall_->remove()).value();
  for (const Probe& probe : probes()) {
    Outside outside(*net_);
    probe.send(*net_);
    settle_other();
    EXPECT_GE(outside.seen().size(), 2U) << probe.name;
  }
}

struct Trouble {
  std::string name;
  std::string command;  ///< in the gateway's namespace
};

void PrintTo(const Trouble& trouble, std::ostream* out) {
  *out << trouble.name;
}

/// The link loses its name, its neighbours and its IPv6 address.
const std::string rename_link =
    "ip link set tor0 down; ip link set tor0 name other0; ip link set other0 up; "
    "for n in 10.9.0.2 fd00:9::2; do ip neigh replace $n lladdr 02:00:00:00:00:02 dev other0 nud permanent; done";
const std::string toggle_forwarding =
    "for v in 0 1; do sysctl -qw net.ipv4.ip_forward=$v net.ipv6.conf.all.forwarding=$v; done";

const Trouble troubles[] = {{"None", ""},
                            {"RedirectsFlushed", "nft flush chain inet tornado lane_tor_nat"},
                            {"RulesetFlushed", "nft flush ruleset"},
                            {"Renamed", rename_link},
                            {"RenamedAndFlushed", rename_link + "; nft flush ruleset"},
                            {"ForwardingToggled", toggle_forwarding},
                            {"ForwardingToggledAndFlushed", toggle_forwarding + "; nft flush ruleset"}};

class TorLaneLeaks : public TorLanePackets, public testing::WithParamInterface<std::tuple<LaneMode, Trouble>> {};

TEST_P(TorLaneLeaks, I20NotOnePacketOutside) {
  guard(std::get<0>(GetParam()));
  const Trouble& trouble = std::get<1>(GetParam());
  Capture link(net_->gateway, "tor0");
  sh(net_->gateway, trouble.command);
  link.drain();
  Outside outside(*net_);
  Capture neighbour(net_->vpn, "eth0");
  for (const Probe& probe : probes()) probe.send(*net_);
  for (const char* to : {"10.8.0.2:9000", "10.8.0.1:53"}) Udp(net_->tor, "10.9.0.2:0").send(to, "other lane");
  settle_other();
  EXPECT_EQ(outside.seen(), std::vector<std::string>());
  for (const Capture::Packet& packet : neighbour.drain())
    EXPECT_FALSE(Prefix("10.9.0.0/24").contains(packet.source) || Prefix("fd00:9::/64").contains(packet.source))
        << packet.str();
  // The probes did come, of both families.
  int came = 0, came6 = 0;
  for (const Capture::Packet& packet : link.drain())
    if (!packet.outgoing) ++(packet.source.is_v4() ? came : came6);
  EXPECT_GE(came, 14);
  EXPECT_GE(came6, 10);
  if (trouble.name != "None") return;
  // The captures work.
  Udp(net_->vpn, "10.8.0.2:0").send("198.51.100.1:7000", "control");
  settle_other();
  EXPECT_GE(outside.seen().size(), 2U);
}

std::string name_of(const testing::TestParamInfo<TorLaneLeaks::ParamType>& info) {
  static constexpr const char* names[] = {"Open", "Closed", "Tor", "Maintenance"};
  return names[static_cast<std::size_t>(std::get<0>(info.param))] + std::get<1>(info.param).name;
}

INSTANTIATE_TEST_SUITE_P(All, TorLaneLeaks,
                         testing::Combine(testing::Values(LaneMode::tor, LaneMode::maintenance, LaneMode::closed),
                                          testing::ValuesIn(troubles)),
                         name_of);

/// One barrier alone would let it out: what the second one is for.
TEST_F(TorLanePackets, I20WithoutTheSecondBarrierAFlushedRulesetLetsOut) {
  apply(LaneMode::open, LaneMode::tor);
  sh(net_->gateway, "nft flush ruleset");
  Outside outside(*net_);
  Udp(net_->tor, "10.9.0.2:0").send("198.51.100.1:7000", "probe");
  settle_other();
  EXPECT_FALSE(outside.seen().empty());
}

TEST_F(TorLanePackets, TwoHundredChangesOfModeLetNothingOut) {
  guard(LaneMode::tor);
  Outside outside(*net_);
  const std::vector<Probe> all = probes();
  constexpr LaneMode turn[] = {LaneMode::maintenance, LaneMode::closed, LaneMode::tor};
  for (std::size_t i = 0; i < 200; ++i) {
    all[3 * i % all.size()].send(*net_);
    change(turn[i % std::size(turn)]);
    all[(3 * i + 1) % all.size()].send(*net_);
    flush();
    all[(3 * i + 2) % all.size()].send(*net_);
  }
  settle(net_->tor, "9");
  settle_other();
  EXPECT_EQ(outside.seen(), std::vector<std::string>());
  EXPECT_TRUE(runtime_.wait(firewall_->intact()).value());
  change(LaneMode::tor);
  flush();
  while (trans_->arrived()) continue;
  EXPECT_TRUE(Stream(net_->tor, "10.9.0.2:0", "198.51.100.1:443").connected());
  EXPECT_TRUE(trans_->accept());
}

TEST_F(TorLanePackets, ALaneWithoutIPv6CarriesNone) {
  for (LanePolicy& lane : policy_.lanes) {
    lane.pool6.reset();
    lane.gateway6.reset();
  }
  guard(LaneMode::tor);
  for (const char* trouble : {"", "nft flush ruleset"}) {
    sh(net_->gateway, trouble);
    Outside outside(*net_);
    for (const Probe& probe : probes()) probe.send(*net_);
    settle_other();
    EXPECT_EQ(outside.seen(), std::vector<std::string>());
  }
  EXPECT_FALSE(trans6_->arrived());
  EXPECT_FALSE(dns6_->arrived());
}

}  // namespace
}  // namespace tornado
