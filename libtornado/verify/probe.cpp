#include "verify/probe.hpp"

#include <netinet/in.h>

namespace tornado::inline v1::verify {
namespace {

constexpr std::uint8_t tcp = IPPROTO_TCP, udp = IPPROTO_UDP, gre = IPPROTO_GRE, sctp = IPPROTO_SCTP;
constexpr std::uint8_t experimental = 253;  // RFC 3692
constexpr std::uint16_t ntp = 123, https = 443, http = 80, dns = 53, high = 33434, socks_control = 9051;
constexpr std::size_t quic_length = 1200, long_length = 2000;

class List {
 public:
  explicit List(const Surroundings& around) : around_(around), tor_(around.mode == LaneMode::tor) {}

  std::vector<Probe> run() {
    bool open = around_.mode == LaneMode::open;
    const Address foreign_source = *Address::parse("198.18.0.7"), foreign_source6 = *Address::parse("2001:2::7");
    family(around_.address, around_.gateway, around_.neighbour, around_.foreign, foreign_source, open);
    if (around_.address6 && around_.gateway6 && around_.neighbour6)
      family(*around_.address6, *around_.gateway6, *around_.neighbour6, around_.foreign6, foreign_source6, open);
    else
      no_second_family();
    loopback();
    if (!open) fourth_only();
    return std::move(out_);
  }

 private:
  Probe& add(std::string name, std::string what, const Address& from, const Address& to, std::uint8_t protocol,
             std::uint16_t port = 0) {
    return out_.emplace_back(name + (to.is_v4() ? "" : "6"), std::move(what), from, to, protocol, port);
  }

  void family(const Address& own, const Address& gateway, const Address& neighbour, const Address& foreign,
              const Address& foreign_source, bool open) {
    if (!open) {
      outward(own, foreign);
      const bool v4 = own.is_v4();
      uplink(own, v4 ? around_.upstream : around_.upstream6, v4 ? around_.uplink : around_.uplink6);
    }
    forged(gateway, neighbour, foreign, foreign_source);
    inward(own, gateway, neighbour);
    if (!open) mode_ports(own, gateway);
  }

  void outward(const Address& own, const Address& foreign) {
    bool v4 = foreign.is_v4();
    add("icmp_echo", "echo request to a foreign address", own, foreign,
        v4 ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6});
    add("udp_ntp", "UDP 123 to a foreign address", own, foreign, udp, ntp);
    add("udp_quic", "UDP 443 to a foreign address", own, foreign, udp, https).length = quic_length;
    add("udp_high", "UDP to a high port of a foreign address", own, foreign, udp, high);
    add("udp_fragments", "fragmented UDP to a foreign address", own, foreign, udp, high).shape = Shape::fragments;
    out_.back().length = long_length;
    add("dns_udp", "DNS over UDP to a foreign resolver", own, foreign, udp, dns).allowed =
        redirected() ? Answer::reply : Answer::none;
    add("dns_tcp", "DNS over TCP to a foreign resolver", own, foreign, tcp, dns).allowed =
        redirected() ? Answer::reset : Answer::none;
    add("tcp_http", "TCP 80 to a foreign address", own, foreign, tcp, http).allowed =
        redirected() ? Answer::connection : Answer::none;
    add("tcp_https", "TCP 443 to a foreign address", own, foreign, tcp, https).allowed = to_any_port();
    add("sctp", "SCTP to a foreign address", own, foreign, sctp);
    add("gre", "GRE to a foreign address", own, foreign, gre);
    add("unknown_protocol", "IP protocol 253 to a foreign address", own, foreign, experimental);
  }

  void forged(const Address& gateway, const Address& neighbour, const Address& foreign, const Address& foreign_source) {
    auto from = [&](std::string name, std::string what, const Address& source) {
      add(std::move(name), std::move(what), source, foreign, udp, high).forged = true;
    };
    from("spoof_device", "with the address of another device", neighbour);
    from("spoof_gateway", "with the address of the gateway", gateway);
    from("spoof_foreign", "with a foreign address", foreign_source);
  }

  void inward(const Address& own, const Address& gateway, const Address& neighbour) {
    bool v4 = own.is_v4();
    add("host_tcp", "a TCP port of the gateway", own, gateway, tcp, around_.canary_tcp).allowed = to_any_port();
    add("host_udp", "a UDP port of the gateway", own, gateway, udp, around_.canary_udp);
    for (const auto& other : around_.others) {
      if (!v4 && (!other.gateway6 || !other.device6)) continue;
      const Address to = v4 ? other.gateway : *other.gateway6, device = v4 ? other.device : *other.device6;
      add("lane_" + other.name + "_tcp", "TCP to the gateway of lane " + other.name, own, to, tcp, around_.canary_tcp)
          .allowed = to_any_port();
      add("lane_" + other.name + "_udp", "UDP to the gateway of lane " + other.name, own, to, udp, around_.canary_udp);
      add("lane_" + other.name + "_device", "UDP to a device of lane " + other.name, own, device, udp, high);
    }
    add("device", "UDP to another device of the lane", own, neighbour, udp, high);
    if (v4) return;
    add("link_local", "UDP to all nodes of the link", own, *Address::parse("ff02::1"), udp, around_.canary_udp);
    if (around_.link_local6)
      add("link_local_host", "UDP to the gateway's address of the link", own, *around_.link_local6, udp,
          around_.canary_udp);
  }

  /// Straight to the ports that only redirected packets may reach (D-099), and to Tor's usual control port.
  void mode_ports(const Address& own, const Address& gateway) {
    bool page = around_.mode == LaneMode::maintenance;
    auto number = [](std::uint16_t port) { return std::to_string(port); };
    add("tor_control", "TCP " + number(socks_control) + ", where Tor is controlled", own, gateway, tcp, socks_control)
        .allowed = to_any_port();
    add("tor_trans", "TCP " + number(around_.trans_port) + ", Tor's, directly", own, gateway, tcp, around_.trans_port)
        .allowed = page ? Answer::reset : Answer::none;
    add("page", "TCP " + number(around_.page_port) + ", the page's, directly", own, gateway, tcp, around_.page_port)
        .allowed = to_any_port();
    add("tor_dns", "UDP " + number(around_.dns_port) + ", Tor's, directly", own, gateway, udp, around_.dns_port);
    add("responder", "UDP " + number(around_.responder_port) + ", the responder's, directly", own, gateway, udp,
        around_.responder_port);
  }

  /// Of IPv6 there is nothing to try: Linux takes ::1 from no link, whatever is configured.
  void loopback() {
    const Address to = *Address::parse("127.0.0.1");
    add("loopback_tcp", "TCP to the gateway's loopback", around_.address, to, tcp, around_.canary_tcp);
    add("loopback_udp", "UDP to the gateway's loopback", around_.address, to, udp, around_.canary_udp);
  }

  void fourth_only() {
    const Address &own = around_.address, &gateway = around_.gateway;
    add("source_route", "by a source route over the gateway (LSRR)", own, gateway, udp, high).shape =
        Shape::source_route;
    out_.back().hop = around_.foreign;
  }

  void uplink(const Address& own, const std::optional<Address>& router, const std::optional<Address>& local) {
    if (router) add("upstream", "UDP to the router of the gateway's network", own, *router, udp, high);
    if (local)
      add("uplink_tcp", "TCP to the gateway's address on its uplink", own, *local, tcp, around_.canary_tcp).allowed =
          to_any_port();
  }

  /// A lane without IPv6 carries none.
  void no_second_family() {
    const Address own = *Address::parse("fd00:ffff::7");
    add("icmp_echo", "echo request on a lane without IPv6", own, around_.foreign6, IPPROTO_ICMPV6).forged = true;
    add("udp_high", "UDP on a lane without IPv6", own, around_.foreign6, udp, high).forged = true;
  }

  bool redirected() const { return tor_ || around_.mode == LaneMode::maintenance; }
  Answer to_any_port() const {
    return tor_ ? Answer::connection : around_.mode == LaneMode::maintenance ? Answer::reset : Answer::none;
  }

  const Surroundings& around_;
  bool tor_;
  std::vector<Probe> out_;
};

}  // namespace

std::vector<Probe> probes(const Surroundings& around) {
  return List(around).run();
}

}  // namespace tornado::inline v1::verify
