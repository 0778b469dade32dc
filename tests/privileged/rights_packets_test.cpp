// Who may reach what and how fast, with packets: rights in both families, connections that stand, paces.
#include "privileged/lane_lab.hpp"

namespace tornado {
namespace {

using lab::Inside;
using lab::LanePackets;
using lab::Listener;
using lab::Ping;
using lab::Stream;
using lab::Udp;

class RightsPackets : public LanePackets {
 protected:
  static DeviceAccess device(const std::string& address, std::uint32_t access_class) {
    return DeviceAccess(*Address::parse(address), access_class);
  }
  /// Every address of the two devices is of that class.
  void everybody(std::uint32_t access_class) {
    rules_.devices.clear();
    for (const char* address : {"10.8.0.2", "fd00:8::2", "10.9.0.2", "fd00:9::2"})
      rules_.devices.push_back(device(address, access_class));
  }
  void grant(const std::string& to, AccessProtocol protocol, std::uint16_t first, std::uint16_t last) {
    rules_.grants.emplace_back(first_class, Prefix(to), protocol, first, last);
  }
  void use() {
    policy_.access = std::make_shared<AccessRules>(rules_);
    runtime_.wait(firewall_->access(compile(policy_))).value();
  }
  /// A datagram to the server; whether it arrived.
  bool reaches(const std::string& from, const std::string& to) {
    Udp server(net_->internet, to), client(net_->vpn, from);
    client.send(to, "hello");
    settle(net_->vpn, "8");
    return server.receive(300).has_value();
  }
  bool connects(const std::string& from, const std::string& to) {
    Listener server(net_->internet, to);
    Stream client(net_->vpn, from, to);
    return client.connected();
  }

  AccessRules rules_;
};

TEST_F(RightsPackets, ADeviceReachesWhatItWasGrantedAndNothingElse) {
  apply(LaneMode::open, LaneMode::closed);
  grant("0.0.0.0/0", AccessProtocol::tcp, 443, 443);
  grant("198.51.100.0/24", AccessProtocol::udp, 7000, 7010);
  grant("198.51.100.1/32", AccessProtocol::tcp, 8000, 8100);
  grant("198.51.100.1/32", AccessProtocol::icmp, 0, 0);
  everybody(first_class);
  use();
  EXPECT_TRUE(connects("10.8.0.2:0", "198.51.100.1:443"));
  EXPECT_TRUE(connects("10.8.0.2:0", "203.0.113.9:443"));
  EXPECT_TRUE(connects("10.8.0.2:0", "198.51.100.1:8100"));
  EXPECT_FALSE(connects("10.8.0.2:0", "203.0.113.9:8100"));
  EXPECT_FALSE(connects("10.8.0.2:0", "198.51.100.1:8101"));
  EXPECT_TRUE(reaches("10.8.0.2:0", "198.51.100.1:7010"));
  EXPECT_FALSE(reaches("10.8.0.2:0", "198.51.100.1:7011"));
  EXPECT_FALSE(reaches("10.8.0.2:0", "203.0.113.9:7000"));
  EXPECT_FALSE(reaches("10.8.0.2:0", "198.51.100.1:443")) << "granted for TCP only";
  // What was granted in IPv4 opens nothing in IPv6.
  EXPECT_FALSE(connects("[fd00:8::2]:0", "[2001:db8:1::1]:443"));
  Ping ping(net_->vpn, "10.8.0.2"), ping6(net_->vpn, "fd00:8::2");
  ping.send("198.51.100.1", 1);
  EXPECT_TRUE(ping.answered(1));
  ping.send("203.0.113.9", 2);
  EXPECT_FALSE(ping.answered(2, 300));
  ping6.send("2001:db8:1::1", 3);
  EXPECT_FALSE(ping6.answered(3, 300));
  // The device learns at once that TCP is refused.
  Stream refused(net_->vpn, "10.8.0.2:0", "203.0.113.9:25");
  EXPECT_TRUE(refused.refused());
}

TEST_F(RightsPackets, Ipv6HasRightsOfItsOwn) {
  apply(LaneMode::open, LaneMode::closed);
  grant("2001:db8:1::/48", AccessProtocol::tcp, 8000, 8100);
  grant("::/0", AccessProtocol::udp, 7000, 7000);
  grant("2001:db8:1::1/128", AccessProtocol::icmp, 0, 0);
  everybody(first_class);
  use();
  EXPECT_TRUE(connects("[fd00:8::2]:0", "[2001:db8:1::1]:8050"));
  EXPECT_FALSE(connects("[fd00:8::2]:0", "[2001:db8:1::1]:7999"));
  EXPECT_TRUE(reaches("[fd00:8::2]:0", "[2001:db8:1::1]:7000"));
  EXPECT_FALSE(reaches("10.8.0.2:0", "198.51.100.1:7000"));
  Ping ping(net_->vpn, "fd00:8::2");
  ping.send("2001:db8:1::1", 1);
  EXPECT_TRUE(ping.answered(1));
  ping.send("2001:db8:1::9", 2);
  EXPECT_FALSE(ping.answered(2, 300));
}

TEST_F(RightsPackets, TheApiAndDnsAreInReachOfThoseWhoReachNothing) {
  apply(LaneMode::open, LaneMode::open);
  Udp resolver(net_->internet, "198.51.100.53:53");
  // One is blocked, the other one is not even named.
  rules_.devices = {device("10.8.0.2", blocked_class)};
  use();
  for (auto [where, octet] : {std::pair(&net_->vpn, "8"), std::pair(&net_->tor, "9")}) {
    const std::string from = std::string("10.") + octet + ".0.2:0", gateway = std::string("10.") + octet + ".0.1";
    for (const std::string& to : {gateway + ":4605", std::string("203.0.113.9:4605")}) {
      Stream stream(*where, from, to);
      EXPECT_TRUE(stream.connected()) << to;
      EXPECT_TRUE(api_->accept()) << to;
    }
    Udp device(*where, from);
    device.send("8.8.8.8:53", "query");
    auto query = resolver.receive();
    ASSERT_TRUE(query);
    resolver.send(query->from, "reply");
    EXPECT_TRUE(device.receive());
    Ping ping(*where, from.substr(0, from.find(':')));
    ping.send(gateway, 7);
    EXPECT_TRUE(ping.answered(7));
    ping.send("198.51.100.1", 8);
    EXPECT_FALSE(ping.answered(8, 300));
    // Who is not named is dropped in silence: it may be a moment too early to know.
    Stream web(*where, from, "198.51.100.1:443");
    if (octet[0] == '8')
      EXPECT_TRUE(web.refused());
    else
      EXPECT_FALSE(web.refused(300) || web.connected(0));
  }
}

TEST_F(RightsPackets, ARightThatEndsEndsItsConnectionsAndNoOthers) {
  apply(LaneMode::open, LaneMode::closed);
  everybody(open_class);
  use();
  Listener server(net_->internet, "198.51.100.1:443"), other(net_->internet, "198.51.100.1:8000");
  Stream web(net_->vpn, "10.8.0.2:0", "198.51.100.1:443"), lab(net_->vpn, "10.8.0.2:0", "198.51.100.1:8000");
  ASSERT_TRUE(web.connected());
  ASSERT_TRUE(lab.connected());
  auto web_end = server.accept(), lab_end = other.accept();
  ASSERT_TRUE(web_end);
  ASSERT_TRUE(lab_end);
  Udp peer(net_->internet, "198.51.100.1:7000"), stranger(net_->internet, "198.51.100.1:7001");
  Udp talker(net_->vpn, "10.8.0.2:0");
  talker.send("198.51.100.1:7000", "hello");
  auto seen = peer.receive();
  ASSERT_TRUE(seen);
  grant("0.0.0.0/0", AccessProtocol::tcp, 443, 443);
  everybody(first_class);
  use();
  web.send("still here");
  EXPECT_EQ(web_end->receive(), "still here");
  web_end->send("answer");
  EXPECT_EQ(web.receive(), "answer");
  lab.send("no more");
  EXPECT_EQ(lab_end->receive(300), "") << "a connection that stood goes on without its right";
  // What the far end of a flow sends does not arrive either, although connection tracking knows it.
  peer.send(seen->from, "late");
  EXPECT_FALSE(talker.receive(300));
  // Given back, the flow goes on: nothing of it was flushed.
  runtime_.wait(firewall_->devices({device("10.8.0.2", open_class)}, {})).value();
  peer.send(seen->from, "again");
  auto again = talker.receive();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->text, "again");
}

TEST_F(RightsPackets, APaceHoldsInEachDirectionForItsDeviceAlone) {
  apply(LaneMode::open, LaneMode::open);
  everybody(open_class);
  // So slow that nothing is added to the 64 KiB at once while the test runs.
  rules_.devices[0].up = rules_.devices[0].down = 1000;
  use();
  const std::string payload(1000, 'x');
  constexpr int sent = 200, fit = 64 * 1024 / 1028;
  struct Case {
    const lab::Namespace& from;
    std::string source;
    bool limited;
  };
  for (const Case& c : {Case{net_->vpn, "10.8.0.2:0", true}, Case{net_->tor, "10.9.0.2:0", false}}) {
    Udp server(net_->internet, "198.51.100.1:7000"), device(c.from, c.source);
    int up = 0, down = 0;
    std::optional<Endpoint> back;
    for (int i = 0; i < sent; ++i) {
      device.send("198.51.100.1:7000", payload);
      if (auto got = server.receive(i == 0 || !c.limited ? 1000 : 0)) {
        ++up;
        back = got->from;
      }
    }
    while (server.receive(100)) ++up;
    ASSERT_TRUE(back);
    for (int i = 0; i < sent; ++i) {
      server.send(*back, payload);
      if (device.receive(i == 0 || !c.limited ? 1000 : 0)) ++down;
    }
    while (device.receive(100)) ++down;
    if (c.limited) {
      EXPECT_NEAR(up, fit, 6);
      EXPECT_NEAR(down, fit, 6);
    } else {
      EXPECT_EQ(up, sent);
      EXPECT_EQ(down, sent);
    }
  }
}

TEST_F(RightsPackets, RightsHoldOnALaneThatIsRedirected) {
  apply(LaneMode::closed, LaneMode::tor);
  grant("0.0.0.0/0", AccessProtocol::tcp, 443, 443);
  everybody(first_class);
  use();
  Listener trans(net_->gateway, "10.9.0.1:9040");
  Stream web(net_->tor, "10.9.0.2:0", "198.51.100.1:443");
  EXPECT_TRUE(web.connected());
  EXPECT_TRUE(trans.accept());
  Stream mail(net_->tor, "10.9.0.2:0", "198.51.100.1:25");
  EXPECT_TRUE(mail.refused());
  EXPECT_FALSE(trans.arrived());
}

}  // namespace
}  // namespace tornado
