#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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
                 rule::Opening, rule::Translated, rule::ConnectionsOver, rule::Translate, rule::Reset, rule::Masquerade,
                 rule::Counter, rule::Verdict>;
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

enum class SetType : std::uint8_t { interface, endpoint4, endpoint6, source4, source6 };

struct ElementSet {
  std::string name;
  SetType type = SetType::interface;
  std::vector<std::string> interfaces;
  std::vector<Endpoint> endpoints;
  std::uint32_t capacity = 0;  ///< not 0: filled by rules, with at most so many elements
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

/// The elements of @api4 and @api6 for a list of endpoints: sorted, each once, unusable ones (port 0, unspecified
/// address) left out.
std::vector<ElementSet> api_sets(std::vector<Endpoint> endpoints);

/// Replaces the elements of the `api` sets.
void replace_api(Ruleset& ruleset, const std::vector<Endpoint>& endpoints);

/// Takes the chains of one lane from another ruleset. False: one of the two does not know the lane.
bool replace_lane(Ruleset& ruleset, const Ruleset& from, const Lane& lane);

}  // namespace tornado::inline v1
