#include "privileged/lane_lab.hpp"

namespace tornado {
namespace {

using lab::Capture;
using lab::endpoint;
using lab::Inside;
using lab::LanePackets;
using lab::Listener;
using lab::Namespace;
using lab::Ping;
using lab::sh;
using lab::Stream;
using lab::Udp;

TEST_F(LanePackets, AnOpenLaneGoesOutUnderTheGatewaysAddress) {
  apply(LaneMode::open, LaneMode::closed);
  Capture uplink(net_->internet, "net0");
  struct Case {
    std::string device, server, seen;
  };
  for (const Case& c : {Case{"10.8.0.2:0", "198.51.100.1:7000", "192.0.2.1"},
                        Case{"[fd00:8::2]:0", "[2001:db8:1::1]:7000", "2001:db8::1"}}) {
    Udp server(net_->internet, c.server), device(net_->vpn, c.device);
    device.send(c.server, "hello");
    auto got = server.receive();
    ASSERT_TRUE(got) << c.server;
    EXPECT_EQ(got->from.address.str(), c.seen);
    server.send(got->from, "answer");
    auto answer = device.receive();
    ASSERT_TRUE(answer) << c.server;
    EXPECT_EQ(answer->from, endpoint(c.server));

    Listener listener(net_->internet, c.server);
    Stream stream(net_->vpn, c.device, c.server);
    ASSERT_TRUE(stream.connected()) << c.server;
    auto accepted = listener.accept();
    ASSERT_TRUE(accepted);
    EXPECT_EQ(accepted->peer.address.str(), c.seen);
  }
  Ping ping(net_->vpn, "10.8.0.2"), ping6(net_->vpn, "fd00:8::2");
  ping.send("198.51.100.1", 1);
  EXPECT_TRUE(ping.answered(1));
  ping6.send("2001:db8:1::1", 2);
  EXPECT_TRUE(ping6.answered(2));
  expect_no_lane_address(uplink);
}

TEST_F(LanePackets, SegmentsFitTheLane) {
  apply(LaneMode::open, LaneMode::closed);
  for (auto [from, to, header] :
       {std::tuple("10.8.0.2:0", "198.51.100.1:7000", 40), std::tuple("[fd00:8::2]:0", "[2001:db8:1::1]:7000", 60)}) {
    Listener listener(net_->internet, to);
    Stream stream(net_->vpn, from, to);
    ASSERT_TRUE(stream.connected());
    auto accepted = listener.accept();
    ASSERT_TRUE(accepted);
    // The device's own link has 1500; both ends must learn of the lane's 1420. Time stamps take 12.
    EXPECT_LE(accepted->segment_size(), 1420 - header);
    EXPECT_LE(stream.segment_size(), 1420 - header);
  }
}

TEST_F(LanePackets, DnsToAnyAddressIsAnsweredByTheUpstream) {
  apply(LaneMode::open, LaneMode::open);
  Udp resolver(net_->internet, "198.51.100.53:53"), resolver6(net_->internet, "[2001:db8:1::53]:53");
  Udp other(net_->internet, "198.51.100.1:53");
  Listener resolver_tcp(net_->internet, "198.51.100.53:53");
  struct Case {
    const Namespace& device;
    std::string from, to;
    Udp& upstream;
  };
  for (const Case& c :
       {Case{net_->vpn, "10.8.0.2:0", "10.8.0.1:53", resolver},
        Case{net_->vpn, "10.8.0.2:0", "198.51.100.1:53", resolver},
        Case{net_->tor, "10.9.0.2:0", "8.8.8.8:53", resolver}, Case{net_->tor, "10.9.0.2:0", "10.9.0.1:53", resolver},
        Case{net_->vpn, "10.8.0.2:0", "10.8.7.1:53", resolver},
        Case{net_->vpn, "[fd00:8::2]:0", "[fd00:8::1]:53", resolver6},
        Case{net_->vpn, "[fd00:8::2]:0", "[2001:db8:1::1]:53", resolver6}}) {
    Udp device(c.device, c.from);
    device.send(c.to, "query");
    auto query = c.upstream.receive();
    ASSERT_TRUE(query) << c.to;
    c.upstream.send(query->from, "reply");
    auto reply = device.receive();
    ASSERT_TRUE(reply) << c.to;
    EXPECT_EQ(reply->from, endpoint(c.to));
  }
  EXPECT_FALSE(other.arrived());
  Stream stream(net_->vpn, "10.8.0.2:0", "10.8.0.1:53");
  EXPECT_TRUE(stream.connected());
  EXPECT_TRUE(resolver_tcp.accept());
}

TEST_F(LanePackets, WithoutAResolverForAFamilyItsDnsGoesNowhere) {
  policy_.dns6.reset();
  apply(LaneMode::open, LaneMode::closed);
  Udp resolver6(net_->internet, "[2001:db8:1::53]:53"), web6(net_->internet, "[2001:db8:1::53]:54");
  Udp device(net_->vpn, "[fd00:8::2]:0");
  device.send("[2001:db8:1::53]:53", "query");
  device.send("[2001:db8:1::53]:54", "control");
  EXPECT_TRUE(web6.receive());
  EXPECT_FALSE(resolver6.arrived());
}

TEST_F(LanePackets, DevicesDoNotReachEachOther) {
  apply(LaneMode::open, LaneMode::open);
  // 10.8.0.3 is on the same lane: its packets would come back by the same link.
  Capture vpn_link(net_->vpn, "eth0"), tor_link(net_->tor, "eth0");
  Udp device(net_->vpn, "10.8.0.2:0"), device6(net_->vpn, "[fd00:8::2]:0");
  Ping ping(net_->vpn, "10.8.0.2");
  sh(net_->vpn, "ip route add 10.8.0.3/32 via 10.8.0.1; ip -6 route add fd00:8::3/128 via fd00:8::1");
  for (const char* to : {"10.8.0.3:9000", "10.9.0.2:9000"}) device.send(to, "probe");
  for (const char* to : {"[fd00:8::3]:9000", "[fd00:9::2]:9000"}) device6.send(to, "probe");
  for (const char* to : {"10.8.0.3", "10.9.0.2"}) ping.send(to, 3);
  Stream lane_to_lane(net_->vpn, "10.8.0.2:0", "10.9.0.2:9000");
  settle(net_->vpn, "8");
  settle(net_->tor, "9");
  const Address same = *Address::parse("10.8.0.3"), same6 = *Address::parse("fd00:8::3");
  for (const Capture::Packet& packet : vpn_link.drain())
    EXPECT_TRUE(packet.outgoing || (packet.destination != same && packet.destination != same6))
        << packet.source.str() << " -> " << packet.destination.str();
  const Prefix vpn4("10.8.0.0/24"), vpn6("fd00:8::/64");
  for (const Capture::Packet& packet : tor_link.drain()) {
    EXPECT_FALSE(vpn4.contains(packet.source) || vpn6.contains(packet.source)) << packet.destination.str();
    EXPECT_TRUE(packet.outgoing || packet.housekeeping() || packet.source == *Address::parse("10.9.0.1"))
        << packet.str();
  }
}

TEST_F(LanePackets, TheProbesOfTheFormerTestWouldArriveWithoutTheFirewall) {
  api_ = std::make_unique<Listener>(net_->gateway, "0.0.0.0:4605");
  Udp there(net_->tor, "10.9.0.2:9000"), host(net_->gateway, "172.16.0.1:9001"), device(net_->vpn, "10.8.0.2:0");
  device.send("10.9.0.2:9000", "probe");
  EXPECT_TRUE(there.receive());
  device.send("172.16.0.1:9001", "probe");
  EXPECT_TRUE(host.receive());
  Udp neighbour(net_->internet, "192.0.2.2:0"), lane(net_->gateway, "10.8.0.1:9002");
  neighbour.send("10.8.0.1:9002", "probe");
  EXPECT_TRUE(lane.receive());
}

TEST_F(LanePackets, TheHostIsOutOfReachFromEveryLane) {
  for (LaneMode mode : {LaneMode::open, LaneMode::closed}) {
    apply(mode, mode);
    for (const std::string octet : {"8", "9"}) {
      const Namespace& device = octet == "8" ? net_->vpn : net_->tor;
      std::string other = octet == "8" ? "9" : "8";
      Listener ssh(net_->gateway, "0.0.0.0:22");
      Listener ssh6(net_->gateway, "[::]:22");
      Udp udp(net_->gateway, "0.0.0.0:9000"), udp6(net_->gateway, "[::]:9000");
      std::string own = "10." + octet + ".0.1", v4 = "10." + octet + ".0.2:0", v6 = "[fd00:" + octet + "::2]:0";
      std::vector<Stream> attempts;
      Udp sender(device, v4), sender6(device, v6);
      for (const std::string& to : {own, "10." + other + ".0.1", std::string("192.0.2.1"), std::string("172.16.0.1")}) {
        attempts.emplace_back(device, v4, to + ":22");
        sender.send(to + ":9000", "probe");
      }
      for (const std::string& to : {"fd00:" + octet + "::1", "fd00:" + other + "::1", std::string("2001:db8::1")}) {
        attempts.emplace_back(device, v6, "[" + to + "]:22");
        sender6.send("[" + to + "]:9000", "probe");
      }
      // The API of the other lane's gateway is not ours.
      attempts.emplace_back(device, v4, "10." + other + ".0.1:4605");
      attempts.emplace_back(device, v4, "172.16.0.1:4605");
      settle(device, octet);
      EXPECT_FALSE(ssh.arrived());
      EXPECT_FALSE(ssh6.arrived());
      EXPECT_FALSE(udp.arrived());
      EXPECT_FALSE(udp6.arrived());
      EXPECT_FALSE(api_->arrived());
      for (Stream& attempt : attempts) EXPECT_FALSE(attempt.connected(0)) << attempt.peer.str();
    }
  }
}

TEST_F(LanePackets, OnlyTheOwnGatewayAnswersEcho) {
  apply(LaneMode::closed, LaneMode::open);
  for (const std::string octet : {"8", "9"}) {
    const Namespace& device = octet == "8" ? net_->vpn : net_->tor;
    Ping ping(device, "10." + octet + ".0.2"), ping6(device, "fd00:" + octet + "::2");
    ping.send(octet == "8" ? "10.9.0.1" : "10.8.0.1", 1);
    ping.send("192.0.2.1", 2);
    ping.send("10." + octet + ".0.1", 3);
    EXPECT_TRUE(ping.answered(3));
    ping6.send(octet == "8" ? "fd00:9::1" : "fd00:8::1", 4);
    ping6.send("fd00:" + octet + "::1", 5);
    EXPECT_TRUE(ping6.answered(5));
    ping.send("10." + octet + ".0.1", 6);
    EXPECT_TRUE(ping.answered(6));
    for (std::uint16_t id : {1, 2}) EXPECT_FALSE(ping.answered(id, 0));
    EXPECT_FALSE(ping6.answered(4, 0));
  }
}

/// route_localnet is never set, but should somebody set it, the lane still does not reach loopback (D-076).
TEST_F(LanePackets, LoopbackIsOutOfReachEvenIfItIsRouted) {
  apply(LaneMode::open, LaneMode::open);
  route_loopback(net_->vpn, "vpn0", "8");
  Udp secret(net_->gateway, "127.0.0.1:9000"), device(net_->vpn, "10.8.0.2:0");
  device.send("127.0.0.1:9000", "probe");
  settle(net_->vpn, "8");
  EXPECT_FALSE(secret.arrived());
  expect_loopback_without_firewall(device, secret);
}

TEST_F(LanePackets, TheApiAnswersAtEveryAddressItIsKnownBy) {
  for (LaneMode mode : {LaneMode::open, LaneMode::closed}) {
    apply(mode, mode);
    Listener elsewhere(net_->internet, "203.0.113.9:4605");
    for (const char* to : {"10.8.0.1:4605", "192.0.2.1:4605", "203.0.113.9:4605"}) {
      Stream stream(net_->vpn, "10.8.0.2:0", to);
      ASSERT_TRUE(stream.connected()) << to;
      auto accepted = api_->accept();
      ASSERT_TRUE(accepted) << to;
      EXPECT_EQ(accepted->peer.address.str(), "10.8.0.2");
      accepted->send("pong");
      EXPECT_EQ(stream.receive(), "pong");
    }
    Stream tor(net_->tor, "10.9.0.2:0", "203.0.113.9:4605");
    EXPECT_TRUE(tor.connected());
    EXPECT_TRUE(api_->accept());
    for (const char* to : {"[fd00:8::1]:4605", "[2001:db8::1]:4605", "[2001:db8:1::9]:4605"}) {
      Stream stream(net_->vpn, "[fd00:8::2]:0", to);
      ASSERT_TRUE(stream.connected()) << to;
      ASSERT_TRUE(api6_->accept()) << to;
    }
    EXPECT_FALSE(elsewhere.arrived());
  }
}

TEST_F(LanePackets, TheSetOfApiAddressesCanChangeAlone) {
  apply(LaneMode::open, LaneMode::open);
  runtime_.wait(firewall_->api({endpoint("198.51.100.1:4605")})).value();
  Stream stream(net_->vpn, "10.8.0.2:0", "198.51.100.1:4605");
  EXPECT_TRUE(stream.connected());
  EXPECT_TRUE(api_->accept());
  Listener elsewhere(net_->internet, "203.0.113.9:4605");
  Stream old(net_->vpn, "10.8.0.2:0", "203.0.113.9:4605");
  EXPECT_TRUE(elsewhere.accept());
}

TEST_F(LanePackets, AClosedLaneLeaksNothing) {
  apply(LaneMode::closed, LaneMode::open);
  Capture uplink(net_->internet, "net0");
  Udp server(net_->internet, "198.51.100.1:7000"), server6(net_->internet, "[2001:db8:1::1]:7000");
  Udp resolver(net_->internet, "198.51.100.53:53");
  Udp device(net_->vpn, "10.8.0.2:5000"), device6(net_->vpn, "[fd00:8::2]:5000");
  for (const char* to : {"198.51.100.1:7000", "198.51.100.53:53", "10.8.0.1:53", "192.0.2.2:123"})
    device.send(to, "probe");
  for (const char* to : {"[2001:db8:1::1]:7000", "[2001:db8:1::53]:53", "[2001:db8::2]:123"}) device6.send(to, "probe");
  Stream tcp(net_->vpn, "10.8.0.2:0", "198.51.100.1:80"), tcp6(net_->vpn, "[fd00:8::2]:0", "[2001:db8:1::1]:80");
  Ping ping(net_->vpn, "10.8.0.2"), ping6(net_->vpn, "fd00:8::2");
  ping.send("198.51.100.1", 1);
  ping6.send("2001:db8:1::1", 2);
  settle(net_->vpn, "8");
  EXPECT_FALSE(server.arrived());
  EXPECT_FALSE(server6.arrived());
  EXPECT_FALSE(resolver.arrived());
  EXPECT_FALSE(device.arrived());
  // Masqueraded or not: nothing at all came from the gateway but neighbour discovery.
  for (const Capture::Packet& packet : uplink.drain())
    EXPECT_TRUE(packet.outgoing || packet.housekeeping()) << packet.str();
  // The capture works.
  Udp tor(net_->tor, "10.9.0.2:0");
  tor.send("198.51.100.1:7000", "control");
  EXPECT_TRUE(server.receive());
  EXPECT_FALSE(uplink.drain().empty());
}

TEST_F(LanePackets, ALaneWithoutIPv6CarriesNone) {
  for (LanePolicy& lane : policy_.lanes) {
    lane.pool6.reset();
    lane.gateway6.reset();
  }
  apply(LaneMode::open, LaneMode::open);
  Capture uplink(net_->internet, "net0");
  Udp server6(net_->internet, "[2001:db8:1::1]:7000"), host6(net_->gateway, "[::]:7001");
  Udp device6(net_->vpn, "[fd00:8::2]:0");
  device6.send("[2001:db8:1::1]:7000", "probe");
  device6.send("[fd00:8::1]:7001", "probe");
  settle(net_->vpn, "8");
  EXPECT_FALSE(server6.arrived());
  EXPECT_FALSE(host6.arrived());
  expect_no_lane_address(uplink);
}

TEST_F(LanePackets, ForgedSourcesAreDropped) {
  apply(LaneMode::open, LaneMode::open);
  Capture uplink(net_->internet, "net0");
  Udp server(net_->internet, "198.51.100.1:7000");
  sh(net_->vpn, "ip address add 10.9.0.77/32 dev lo; ip address add 192.0.2.77/32 dev lo");
  for (const char* from : {"10.9.0.77:0", "192.0.2.77:0"}) Udp(net_->vpn, from).send("198.51.100.1:7000", "probe");
  Udp device(net_->vpn, "10.8.0.2:0");
  device.send("198.51.100.1:7000", "control");
  auto got = server.receive();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->text, "control");
  expect_no_lane_address(uplink);
}

TEST_F(LanePackets, NeighboursOfTheUplinkDoNotReachTheLanes) {
  apply(LaneMode::open, LaneMode::open);
  Udp device(net_->vpn, "10.8.0.2:9000"), device6(net_->vpn, "[fd00:8::2]:9000");
  Udp gateway(net_->gateway, "0.0.0.0:9001"), gateway6(net_->gateway, "[::]:9001");
  Udp neighbour(net_->internet, "192.0.2.2:0"), neighbour6(net_->internet, "[2001:db8::2]:0");
  sh(net_->internet, "ip address add 10.8.0.99/32 dev lo");
  Udp forged(net_->internet, "10.8.0.99:0");
  neighbour.send("10.8.0.2:9000", "probe");
  neighbour.send("10.8.0.1:9001", "probe");
  neighbour6.send("[fd00:8::2]:9000", "probe");
  neighbour6.send("[fd00:8::1]:9001", "probe");
  forged.send("192.0.2.1:9001", "forged");
  // Other addresses of the host are none of our business.
  neighbour6.send("[2001:db8::1]:9001", "control");
  auto control6 = gateway6.receive();
  ASSERT_TRUE(control6);
  EXPECT_EQ(control6->text, "control");
  neighbour.send("192.0.2.1:9001", "control");
  auto control = gateway.receive();
  ASSERT_TRUE(control);
  EXPECT_EQ(control->text, "control");
  EXPECT_FALSE(device.arrived());
  EXPECT_FALSE(device6.arrived());
}

TEST_F(LanePackets, AnEstablishedFlowStopsWhenTheLaneCloses) {
  apply(LaneMode::open, LaneMode::open);
  Listener listener(net_->internet, "198.51.100.1:7000");
  Stream stream(net_->vpn, "10.8.0.2:0", "198.51.100.1:7000"), other(net_->tor, "10.9.0.2:0", "198.51.100.1:7000");
  ASSERT_TRUE(stream.connected());
  auto accepted = listener.accept();
  ASSERT_TRUE(other.connected());
  auto accepted_other = listener.accept();
  ASSERT_TRUE(accepted && accepted_other);
  stream.send("before");
  EXPECT_EQ(accepted->receive(), "before");

  policy_.lanes[0].mode = LaneMode::closed;
  runtime_.wait(firewall_->mode(compile(policy_), Lane("vpn"))).value();
  accepted->send("down");  // refused even before the flush
  settle(net_->vpn, "8");
  EXPECT_EQ(stream.receive(0), "");
  runtime_.wait(host_->flush_connections(*Address::parse("10.8.0.2"), Lane("vpn"))).value();
  stream.send("after");
  settle(net_->vpn, "8");
  EXPECT_EQ(accepted->receive(0), "");
  EXPECT_EQ(stream.receive(0), "");
  // The other lane's flow goes on.
  other.send("still here");
  EXPECT_EQ(accepted_other->receive(), "still here");
  EXPECT_TRUE(runtime_.wait(firewall_->intact()).value());
}

TEST_F(LanePackets, FlushingRemovesTheFlowsOfOneDeviceOnly) {
  apply(LaneMode::open, LaneMode::open);
  Udp server(net_->internet, "198.51.100.1:7000"), server6(net_->internet, "[2001:db8:1::1]:7000");
  Udp vpn(net_->vpn, "10.8.0.2:5000"), tor(net_->tor, "10.9.0.2:5000"), vpn6(net_->vpn, "[fd00:8::2]:5000"),
      tor6(net_->tor, "[fd00:9::2]:5000");
  vpn.send("198.51.100.1:7000", "x");
  tor.send("198.51.100.1:7000", "x");
  vpn6.send("[2001:db8:1::1]:7000", "x");
  tor6.send("[2001:db8:1::1]:7000", "x");
  ASSERT_TRUE(server.receive() && server.receive() && server6.receive() && server6.receive());
  auto tracked = [this](const std::string& address) {
    return sh(net_->gateway, "(conntrack -L; conntrack -L -f ipv6) 2>/dev/null").find("src=" + address + " ") !=
           std::string::npos;
  };
  ASSERT_TRUE(tracked("10.8.0.2") && tracked("10.9.0.2") && tracked("fd00:8::2") && tracked("fd00:9::2"));
  runtime_.wait(host_->flush_connections(*Address::parse("10.8.0.2"), Lane("vpn"))).value();
  EXPECT_FALSE(tracked("10.8.0.2"));
  EXPECT_TRUE(tracked("10.9.0.2"));
  EXPECT_TRUE(tracked("fd00:8::2"));
  runtime_.wait(host_->flush_connections(*Address::parse("fd00:8::2"), Lane("vpn"))).value();
  EXPECT_FALSE(tracked("fd00:8::2"));
  EXPECT_TRUE(tracked("10.9.0.2"));
  EXPECT_TRUE(tracked("fd00:9::2")) << "it ends in the same bytes";
}

/// I-25. The second device of the lane is a further address behind the same link.
TEST_F(LanePackets, ADeviceCannotHaveMoreConnectionsThanItsLimit) {
  constexpr int limit = 20;
  policy_.connections_per_device = limit;
  apply(LaneMode::open, LaneMode::open);
  sh(net_->vpn, "ip address add 10.8.0.3/24 dev eth0; ip -6 address add fd00:8::3/64 dev eth0 nodad");
  struct Case {
    std::string device, other, server;
  };
  for (const Case& c : {Case{"10.8.0.2:", "10.8.0.3:0", "198.51.100.1:7000"},
                        Case{"[fd00:8::2]:", "[fd00:8::3]:0", "[2001:db8:1::1]:7000"}}) {
    SCOPED_TRACE(c.server);
    Udp server(net_->internet, c.server), other(net_->vpn, c.other);
    std::vector<Udp> flows;
    // Ports of their own: sockets that share an address may be given the same one.
    for (int i = 0; i < limit + 1; ++i) flows.emplace_back(net_->vpn, c.device + std::to_string(5000 + i));
    for (int i = 0; i < limit; ++i) {
      flows[static_cast<std::size_t>(i)].send(c.server, "flow");
      ASSERT_TRUE(server.receive()) << i;
    }
    flows.back().send(c.server, "one too many");
    flows.front().send(c.server, "goes on");
    auto next = server.receive();
    ASSERT_TRUE(next);
    EXPECT_EQ(next->text, "goes on");
    other.send(c.server, "another device");
    next = server.receive();
    ASSERT_TRUE(next);
    EXPECT_EQ(next->text, "another device");
    // The API is in reach, also for this device.
    Stream stream(net_->vpn, c.device + "0", c.server.front() == '[' ? "[fd00:8::1]:4605" : "10.8.0.1:4605");
    EXPECT_TRUE(stream.connected());
    // When its flows have ended there is room again, though the kernel may notice it a little later.
    Address device = endpoint(c.device + "0").address;
    runtime_.wait(host_->flush_connections(device, Lane("vpn"))).value();
    next.reset();
    for (int attempt = 0; attempt < 100 && !next; ++attempt) {
      flows.back().send(c.server, "room again");
      next = server.receive(50);
    }
    ASSERT_TRUE(next);
    EXPECT_EQ(next->text, "room again");
    // What the firewall counts is not a change of its table.
    EXPECT_TRUE(runtime_.wait(firewall_->intact()).value());
  }
}

TEST_F(LanePackets, TheGatewayItselfCountsADevicesConnectionsToo) {
  constexpr int limit = 20;
  policy_.connections_per_device = limit;
  apply(LaneMode::closed, LaneMode::closed);
  std::vector<Stream> flows, accepted;
  for (int i = 0; i < limit; ++i) {
    flows.emplace_back(net_->vpn, "10.8.0.2:0", "10.8.0.1:4605");
    ASSERT_TRUE(flows.back().connected()) << i;
    auto taken = api_->accept();
    ASSERT_TRUE(taken);
    accepted.push_back(std::move(*taken));
  }
  Stream excess(net_->vpn, "10.8.0.2:0", "10.8.0.1:4605"), other(net_->tor, "10.9.0.2:0", "10.9.0.1:4605");
  EXPECT_TRUE(other.connected());
  EXPECT_FALSE(excess.connected(0));
  // A connection that is closed on both sides does not count, though connection tracking remembers it. The kernel
  // sends the first attempt's packet again after a second.
  flows.pop_back();
  accepted.pop_back();
  EXPECT_TRUE(excess.connected());
}

TEST_F(LanePackets, AFlushedTableIsNoticed) {
  apply(LaneMode::closed, LaneMode::closed);
  std::uint64_t seen = runtime_.wait(firewall_->changed(0)).value();
  sh(net_->gateway, "nft flush ruleset");
  EXPECT_GT(runtime_.wait(firewall_->changed(seen)).value(), seen);
  EXPECT_FALSE(runtime_.wait(firewall_->intact()).value());
}

/// A renamed link loses its name's rules, not its pool's.
TEST_F(LanePackets, ARenamedLaneLinkCarriesNothing) {
  apply(LaneMode::open, LaneMode::open);
  sh(net_->gateway,
     "ip link set vpn0 down; ip link set vpn0 name other0; ip link set other0 up; "
     "ip neigh replace 10.8.0.2 lladdr 02:00:00:00:00:02 dev other0 nud permanent");
  Udp server(net_->internet, "198.51.100.1:7000"), host(net_->gateway, "0.0.0.0:9000");
  Udp device(net_->vpn, "10.8.0.2:0"), tor(net_->tor, "10.9.0.2:0");
  device.send("198.51.100.1:7000", "probe");
  device.send("10.8.0.1:9000", "probe");
  tor.send("198.51.100.1:7000", "control");
  auto got = server.receive();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->text, "control");
  EXPECT_FALSE(host.arrived());
}

}  // namespace
}  // namespace tornado
