#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "tornado/firewall.hpp"

namespace tornado::inline v1 {

/// The vocabulary of a rule. Each type is one match or one statement of nft(8); a rule is a list of them, read from
/// left to right, and ends at the first match that fails.
namespace rule {

enum class Side : std::uint8_t { source, destination };
enum class Path : std::uint8_t { in, out };
enum class Protocol : std::uint8_t { icmp = 1, tcp = 6, udp = 17, icmpv6 = 58 };
enum class VerdictKind : std::uint8_t { accept, drop, jump, go };

/// iifname "vpn0", oifname != "vpn0". By name: the link need not exist (I-21).
struct Interface {
  Path path = Path::in;
  std::string name;
  bool negated = false;
  bool operator==(const Interface&) const = default;
};

/// oifname @lanes
struct InterfaceSet {
  Path path = Path::in;
  std::string set;
  bool negated = false;
  bool operator==(const InterfaceSet&) const = default;
};

/// ip saddr 10.8.0.0/24
struct Network {
  Side side = Side::source;
  Prefix prefix;
  bool operator==(const Network&) const = default;
};

/// meta nfproto ipv6
struct Family {
  bool v6 = false;
  bool operator==(const Family&) const = default;
};

/// meta l4proto icmp
struct Transport {
  Protocol protocol = Protocol::tcp;
  bool operator==(const Transport&) const = default;
};

/// udp dport 53
struct Port {
  Protocol protocol = Protocol::tcp;
  std::uint16_t port = 0;
  Side side = Side::destination;
  bool operator==(const Port&) const = default;
};

/// ip daddr . tcp dport @api4
struct Destination {
  bool v6 = false;
  std::string set;
  bool operator==(const Destination&) const = default;
};

/// icmp type echo-request
struct Echo {
  bool v6 = false;
  bool reply = false;
  bool operator==(const Echo&) const = default;
};

/// ct state new,established,related
struct Tracked {
  bool fresh = false;
  bool established = false;
  bool related = false;
  bool operator==(const Tracked&) const = default;
};

/// ct direction reply
struct Reply {
  bool operator==(const Reply&) const = default;
};

/// tcp flags syn / syn,rst
struct Syn {
  bool operator==(const Syn&) const = default;
};

/// tcp option maxseg size set rt mtu
struct ClampMss {
  bool operator==(const ClampMss&) const = default;
};

/// ct mark set: the last four bytes of the source address, see `connection_mark`. Needs a Network or Family before it.
struct MarkSource {
  bool v6 = false;
  std::uint8_t lane = 0;  // of an IPv6 address in place of the first of them
  bool operator==(const MarkSource&) const = default;
};

/// ct status ! confirmed: the first packet of a connection, and it alone. `ct state new` also matches the following
/// packets of a connection nobody has answered yet.
struct Opening {
  bool operator==(const Opening&) const = default;
};

/// ct status dnat: its destination was changed.
struct Translated {
  bool operator==(const Translated&) const = default;
};

/// add @lane_vpn_through4 { ip saddr ct count over 4096 }: the source address has more connections than that. Needs
/// `Opening` before it: packets of connections that stand would be dropped, too.
struct ConnectionsOver {
  bool v6 = false;
  std::string set;
  std::uint32_t limit = 0;
  bool operator==(const ConnectionsOver&) const = default;
};

/// ip saddr @up4
struct AddressSet {
  Side side = Side::source;
  bool v6 = false;
  std::string set;
  bool operator==(const AddressSet&) const = default;
};

/// meta priority set ip saddr map @devices4. The class of the device that a packet comes from or goes to. A packet's
/// priority is a place for it that nobody else reads before the packet is routed; `SetClass{0}` clears it.
struct FindClass {
  Side side = Side::source;
  bool v6 = false;
  std::string map;
  bool operator==(const FindClass&) const = default;
};

/// meta priority set none
struct SetClass {
  std::uint32_t access_class = 0;
  bool operator==(const SetClass&) const = default;
};

/// meta priority 0:1
struct OfClass {
  std::uint32_t access_class = 0;
  bool operator==(const OfClass&) const = default;
};

/// meta priority . meta l4proto . th dport @ports4. The side is the far end of the packet's connection.
struct GrantedPort {
  Side side = Side::destination;
  bool v6 = false;
  std::string set;
  bool operator==(const GrantedPort&) const = default;
};

/// meta priority . ip daddr . meta l4proto . th dport @grants4
struct GrantedPlace {
  Side side = Side::destination;
  bool v6 = false;
  std::string set;
  bool operator==(const GrantedPlace&) const = default;
};

/// meta priority . ip daddr @pings4. Needs an Echo before it.
struct GrantedEcho {
  Side side = Side::destination;
  bool v6 = false;
  std::string set;
  bool operator==(const GrantedEcho&) const = default;
};

/// dnat ip to 10.8.0.1:4605. Needs a Port or Destination before it.
struct Translate {
  Endpoint to;
  bool operator==(const Translate&) const = default;
};

/// reject with tcp reset. Needs a Port, or a Transport of TCP, before it, and the hook prerouting, input or forward.
struct Reset {
  bool operator==(const Reset&) const = default;
};

struct Masquerade {
  bool operator==(const Masquerade&) const = default;
};

struct Counter {
  bool operator==(const Counter&) const = default;
};

struct Verdict {
  VerdictKind kind = VerdictKind::drop;
  std::string chain;
  bool operator==(const Verdict&) const = default;
};

}  // namespace rule

using Expression =
    std::variant<rule::Interface, rule::InterfaceSet, rule::Network, rule::Family, rule::Transport, rule::Port,
                 rule::Destination, rule::Echo, rule::Tracked, rule::Reply, rule::Syn, rule::ClampMss, rule::MarkSource,
                 rule::Opening, rule::Translated, rule::ConnectionsOver, rule::AddressSet, rule::FindClass,
                 rule::SetClass, rule::OfClass, rule::GrantedPort, rule::GrantedPlace, rule::GrantedEcho,
                 rule::Translate, rule::Reset, rule::Masquerade, rule::Counter, rule::Verdict>;
using Rule = std::vector<Expression>;

enum class ChainType : std::uint8_t { filter, nat };
enum class Hook : std::uint8_t { prerouting, input, forward, output, postrouting };  // values of NF_INET_*

/// Where a base chain sits. The policy is always accept: nothing but lanes is touched.
struct ChainHook {
  ChainType type = ChainType::filter;
  Hook hook = Hook::forward;
  int priority = 0;
  bool operator==(const ChainHook&) const = default;
};

struct Chain {
  std::string name;
  std::optional<ChainHook> hook;  ///< base chains only
  Lane lane;                      ///< set in chains that `Firewall::mode` refills
  std::vector<Rule> rules;
  bool operator==(const Chain&) const = default;
};

enum class SetType : std::uint8_t {
  interface,
  endpoint4,
  endpoint6,
  source4,
  source6,
  class4,  ///< a map: address to class
  class6,
  rate4,  ///< address, each with its own limit
  rate6,
  port,    ///< class . protocol . port
  place4,  ///< class . addresses . protocol . ports
  place6,
  echo4,  ///< class . addresses
  echo6,
};

/// Whether elements are ranges in some part.
constexpr bool has_intervals(SetType type) {
  return type >= SetType::place4;
}

/// A limit lets this much through at once, in bytes: half a second of it, and never so little that TCP starves.
constexpr std::uint64_t burst_of(std::uint64_t rate) {
  return std::clamp<std::uint64_t>(rate / 2, 64 * 1024, 1U << 31);
}
/// A set of limits is declared with one, which no element uses.
inline constexpr std::uint64_t declared_rate = 1024 * 1024;

struct ElementSet {
  std::string name;
  SetType type = SetType::interface;
  std::vector<std::string> interfaces;
  std::vector<Endpoint> endpoints;
  std::uint32_t capacity = 0;           ///< not 0: filled by rules, with at most so many elements
  std::vector<DeviceAccess> devices{};  ///< of class4, class6; of rate4, rate6 with the rate in `up`
  std::vector<AccessGrant> grants{};    ///< of the types behind them; no two of a place or echo set overlap
  bool operator==(const ElementSet&) const = default;
};

/// The complete content of the table.
struct Ruleset {
  std::vector<ElementSet> sets;
  std::vector<Chain> chains;
  bool operator==(const Ruleset&) const = default;
};

inline constexpr std::string_view lanes_set = "lanes";
inline constexpr std::string_view api4_set = "api4";
inline constexpr std::string_view api6_set = "api6";

// Who may reach what and how fast; in both families "4" or "6" behind the name, except for chains.
inline constexpr std::string_view rights_chain = "rights", answers_chain = "answers", pace_chain = "pace";
inline constexpr std::string_view devices_map = "devices", up_set = "up", down_set = "down", ports_set = "ports",
                                  places_set = "places", echoes_set = "echoes";
std::string of_family(std::string_view name, bool v6);

/// The sets and chains of `GatewayPolicy::access`; they are there without it, too, empty.
std::vector<ElementSet> access_sets(const AccessRules* rules);
/// Of these, the maps and sets that hold single devices.
std::vector<ElementSet> device_sets(const std::vector<DeviceAccess>& devices);
std::vector<Chain> access_chains(const GatewayPolicy& policy);
/// Whether a set or chain is one of these.
bool is_access(std::string_view name);

/// Takes them from another ruleset.
void replace_access(Ruleset& ruleset, const Ruleset& from);
/// The rights of all addresses the ruleset names.
std::unordered_map<Address, DeviceAccess> devices_of(const Ruleset& ruleset);

/// What changes in a table that names these devices: what goes and what comes. Each address counts once, its last
/// change wins, and what stays as it is is left out.
class DeviceChanges {
 public:
  DeviceChanges(const std::unordered_map<Address, DeviceAccess>& now, std::vector<DeviceAccess> changed,
                std::vector<Address> gone);
  bool empty() const noexcept { return before.empty() && after.empty(); }
  void apply(std::unordered_map<Address, DeviceAccess>& now) const;
  std::vector<DeviceAccess> before, after;
};

/// The elements of @api4 and @api6 for a list of endpoints: sorted, each once, unusable ones (port 0, unspecified
/// address) left out.
std::vector<ElementSet> api_sets(std::vector<Endpoint> endpoints);

/// Replaces the elements of the `api` sets.
void replace_api(Ruleset& ruleset, const std::vector<Endpoint>& endpoints);

/// Takes the chains of one lane from another ruleset. False: one of the two does not know the lane.
bool replace_lane(Ruleset& ruleset, const Ruleset& from, const Lane& lane);

}  // namespace tornado::inline v1
