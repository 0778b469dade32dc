#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tornado/firewall.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1::verify {

/// What a verification knows of the gateway it runs against. Addresses of the second family are empty where the
/// gateway has none.
class Surroundings {
 public:
  Surroundings() {}

  class OtherLane {
   public:
    OtherLane() {}
    std::string name;
    Address gateway, device;
    std::optional<Address> gateway6, device6;
  };

  Lane lane;
  LaneMode mode = LaneMode::closed;
  std::string interface;  ///< of the lane, on the gateway
  Address address, gateway, neighbour;
  std::optional<Address> address6, gateway6, neighbour6;
  std::vector<OtherLane> others;
  /// Ports of Tor and of what stands in for it, at the gateway's address of the lane.
  std::uint16_t trans_port = 9040, dns_port = 9053, page_port = 9041, responder_port = 9054;
  /// A local TCP and a local UDP port that nobody but the verification listens on: whatever arrives there got in.
  std::uint16_t canary_tcp = 0, canary_udp = 0;
  Address foreign;  ///< somewhere in the internet, by the gateway's default route
  Address foreign6;
  std::optional<Address> upstream, upstream6;  ///< the router of the gateway's default route; not one of a link only
  std::optional<Address> uplink, uplink6;      ///< the gateway's own address by its default route
  std::optional<Address> link_local6;          ///< the lane's own on the gateway, where it has one
};

enum class Shape : std::uint8_t { whole, fragments, source_route };

/// An answer from within that a mode is meant to give. Others are doors.
enum class Answer : std::uint8_t {
  none,
  reset,       ///< TCP is refused at once
  connection,  ///< TCP is redirected to Tor, or to the page
  reply,       ///< DNS is redirected to Tor, or to the responder
};

/// One way out: a single packet (or its fragments) and what may come of it.
class Probe {
 public:
  Probe(std::string name_, std::string what_, Address from_, Address to_, std::uint8_t protocol_,
        std::uint16_t port_ = 0)
      : name(std::move(name_)), what(std::move(what_)), from(from_), to(to_), protocol(protocol_), port(port_) {}

  bool v6() const noexcept { return !to.is_v4(); }

  std::string name;  ///< stable, for tables and scripts: "udp_quic6"
  std::string what;  ///< for people
  Address from, to;
  std::uint8_t protocol;    ///< IP protocol number
  std::uint16_t port;       ///< destination, of TCP and UDP
  std::size_t length = 64;  ///< bytes behind the transport's header
  Shape shape = Shape::whole;
  std::optional<Address> hop;  ///< of a source route: where it leads
  Answer allowed = Answer::none;
  /// WireGuard itself refuses the source: that the probe does not come through the tunnel is a result.
  bool forged = false;
};

/// Every probe for a lane in its mode, in the order they are sent. Of an open lane (`vpn`) only what holds there, too:
/// no forged source, no loopback, no other lane, no other device, no port of the host but the API. Pure.
std::vector<Probe> probes(const Surroundings& around);

}  // namespace tornado::inline v1::verify
