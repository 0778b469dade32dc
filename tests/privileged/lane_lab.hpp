#pragma once

#include <gtest/gtest.h>

#include "support/network_lab.hpp"
#include "support/privileged.hpp"
#include "tornado/firewall.hpp"
#include "tornado/host.hpp"

/// Packets through a gateway: a device behind each lane, a server and a resolver behind the uplink.
///
///   vpn device 10.8.0.2, fd00:8::2 --- vpn0 (10.8.0.1) \            / up0 192.0.2.1 --- 192.0.2.2 internet
///                                                        gateway ---
///   tor device 10.9.0.2, fd00:9::2 --- tor0 (10.9.0.1) /            \ lo 172.16.0.1
///
/// The lanes are veth pairs; neighbours are permanent because WireGuard has none and the lane drops their discovery.
namespace tornado::lab {

inline constexpr auto gateway_mac = "02:00:00:00:00:01";
inline constexpr auto device_mac = "02:00:00:00:00:02";

class Network {
 public:
  Network() {
    stay_on_one_processor();
    lane(vpn, "vpn0", "8");
    lane(tor, "tor0", "9");
    sh(gateway,
       "ip link set lo up; ip address add 172.16.0.1/32 dev lo; ip link add up0 address 02:00:00:00:00:04 type veth "
       "peer name net0 address 02:00:00:00:00:03 netns " +
           pid_path(internet));
    sh(gateway,
       "ip address add 192.0.2.1/24 dev up0; ip -6 address add 2001:db8::1/64 dev up0 nodad; "
       "ip link set up0 up; ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2; "
       // What leaks must not wait for a neighbour to be found, which takes a second as long as up0 has no address of
       // the link to ask from.
       "for n in 192.0.2.2 2001:db8::2; do ip neigh replace $n lladdr 02:00:00:00:00:03 dev up0 nud permanent; done");
    sh(internet,
       "ip link set lo up; ip address add 192.0.2.2/24 dev net0; ip -6 address add 2001:db8::2/64 dev net0 nodad; "
       "ip link set net0 up; for a in 198.51.100.1 198.51.100.53 203.0.113.9; do ip address add $a/32 dev lo; done; "
       "for a in 2001:db8:1::1 2001:db8:1::53 2001:db8:1::9; do ip -6 address add $a/128 dev lo nodad; done; "
       "for n in 192.0.2.1 2001:db8::1; do ip neigh replace $n lladdr 02:00:00:00:00:04 dev net0 nud permanent; done");
    // What a neighbour would do who wants to reach the lanes.
    sh(internet, "ip route add 10.8.0.0/15 via 192.0.2.1; ip -6 route add fd00::/16 via 2001:db8::1");
  }

  Namespace vpn, tor, gateway, internet;

 private:
  /// `ip` takes a namespace as a process id or a file; ours has neither, but a descriptor of this process.
  static std::string pid_path(const Namespace& where) {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(where.fd());
  }

  void lane(const Namespace& device, const std::string& name, const std::string& octet) {
    sh(gateway, "ip link add " + name + " address " + gateway_mac + " type veth peer name eth0 address " + device_mac +
                    " netns " + pid_path(device));
    std::string v4 = "10." + octet + ".0.", v6 = "fd00:" + octet + "::";
    sh(gateway, "ip address add " + v4 + "1/24 dev " + name + "; ip -6 address add " + v6 + "1/64 dev " + name +
                    " nodad; ip link set " + name + " mtu 1420 up");
    sh(device, "ip link set lo up; ip address add " + v4 + "2/24 dev eth0; ip -6 address add " + v6 +
                   "2/64 dev eth0 nodad; ip link set eth0 up; ip route add default via " + v4 +
                   "1; ip -6 route add default via " + v6 + "1");
    for (const std::string& net : {v4, v6}) {
      sh(device, "ip neigh replace " + net + "1 lladdr " + gateway_mac + " dev eth0 nud permanent");
      for (const char* host : {"2", "3"})
        sh(gateway, "ip neigh replace " + net + host + " lladdr " + device_mac + " dev " + name + " nud permanent");
    }
  }
};

/// Two lanes, a firewall and a host in the gateway's namespace, and the API on every address of it.
class LanePackets : public testing::Test {
 protected:
  void SetUp() override {
    TORNADO_REQUIRE(Namespace::available(), "network namespaces");
    net_ = std::make_unique<Network>();
    for (int i = 0; i < 2; ++i) policy_.lanes.push_back(lane(i));
    policy_.api = {endpoint("192.0.2.1:4605"), endpoint("203.0.113.9:4605"), endpoint("[2001:db8::1]:4605"),
                   endpoint("[2001:db8:1::9]:4605")};
    policy_.dns = endpoint("198.51.100.53:53");
    policy_.dns6 = endpoint("[2001:db8:1::53]:53");
    Inside inside(net_->gateway);
    firewall_ = nft_firewall(runtime_);
    host_ = netlink_host(runtime_);
    for (const char* name : {"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"})
      runtime_.wait(host_->ensure_sysctl(name, "1")).value();
  }

  static LanePolicy lane(int index) {
    std::string octet = std::to_string(8 + index);
    LanePolicy out;
    out.lane = Lane(index == 0 ? "vpn" : "tor");
    out.interface = index == 0 ? "vpn0" : "tor0";
    out.pool = Prefix("10." + octet + ".0.0/24");
    out.gateway = *Address::parse("10." + octet + ".0.1");
    out.pool6 = Prefix("fd00:" + octet + "::/64");
    out.gateway6 = *Address::parse("fd00:" + octet + "::1");
    return out;
  }

  void apply(LaneMode vpn, LaneMode tor) {
    policy_.lanes[0].mode = vpn;
    policy_.lanes[1].mode = tor;
    runtime_.wait(firewall_->apply(compile(policy_))).value();
    if (api_) return;
    api_ = std::make_unique<Listener>(net_->gateway, "0.0.0.0:4605");
    api6_ = std::make_unique<Listener>(net_->gateway, "[::]:4605");
  }

  /// A device to whom 127.0.0.0/8 lies behind its lane, and a gateway that would route it there.
  void route_loopback(const Namespace& device, const std::string& link, const std::string& octet) {
    for (const std::string& name : {std::string("all"), link})
      sh(net_->gateway, "sysctl -qw net.ipv4.conf." + name + ".route_localnet=1");
    sh(device,
       "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route flush table local 127.0.0.0/8 || true; "
       "ip address flush dev lo; ip link set lo down; ip route add 127.0.0.0/8 via 10." +
           octet + ".0.1");
  }
  /// Without the firewall the same datagram arrives, or what was seen before means nothing.
  void expect_loopback_without_firewall(Udp& device, Udp& secret) {
    runtime_.wait(firewall_->remove()).value();
    device.send("127.0.0.1:9000", "control");
    auto arrived = secret.receive();
    ASSERT_TRUE(arrived) << "the probe would not have arrived anyway";
    EXPECT_EQ(arrived->text, "control");
  }

  /// A connection to the API of the own lane: when it stands, everything sent before has arrived or been dropped.
  void settle(const Namespace& device, const std::string& octet) {
    Stream stream(device, "10." + octet + ".0.2:0", "10." + octet + ".0.1:4605");
    ASSERT_TRUE(stream.connected());
    ASSERT_TRUE(api_->accept());
  }

  /// No packet that shows a lane, in either direction.
  static void expect_no_lane_address(Capture& capture) {
    const Prefix lanes4("10.8.0.0/15"), lanes6("fd00::/16");
    for (const Capture::Packet& packet : capture.drain()) {
      if (packet.outgoing) continue;
      EXPECT_FALSE(lanes4.contains(packet.source) || lanes6.contains(packet.source))
          << packet.source.str() << " -> " << packet.destination.str();
    }
  }

  std::unique_ptr<Network> net_;
  Runtime runtime_;
  GatewayPolicy policy_;
  std::unique_ptr<Firewall> firewall_;
  std::unique_ptr<Host> host_;
  std::unique_ptr<Listener> api_, api6_;
};

}  // namespace tornado::lab
