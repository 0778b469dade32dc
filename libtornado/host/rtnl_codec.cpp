#include "host/rtnl_codec.hpp"

#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>

#include "base/try.hpp"

namespace tornado::inline v1::rtnl {
namespace {

std::uint8_t family_of(const Address& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

NetlinkWriter link_request(std::uint16_t type, std::uint16_t flags, int index) {
  NetlinkWriter out(type, flags);
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  out.fixed(header);
  return out;
}

std::string address_request(std::uint16_t type, std::uint16_t flags, int index, const LinkAddress& address) {
  NetlinkWriter out(type, flags);
  ifaddrmsg header{};
  header.ifa_family = family_of(address.address);
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.length);
  header.ifa_index = static_cast<unsigned>(index);
  // A tunnel has no neighbours to ask for duplicates, and a tentative address cannot be listened on.
  if (!address.address.is_v4()) header.ifa_flags = IFA_F_NODAD;
  out.fixed(header);
  out.put(IFA_LOCAL, address.address.bytes());
  out.put(IFA_ADDRESS, address.address.bytes());
  return out.take();
}

std::uint8_t type_of(RouteKind kind) {
  switch (kind) {
    case RouteKind::blackhole:
      return RTN_BLACKHOLE;
    case RouteKind::throw_:
      return RTN_THROW;
    default:
      return RTN_UNICAST;
  }
}

std::string route_request(std::uint16_t type, std::uint16_t flags, int index, const Route& route) {
  bool adding = type == RTM_NEWROUTE, unicast = route.kind == RouteKind::unicast;
  NetlinkWriter out(type, flags);
  rtmsg header{};
  header.rtm_family = family_of(route.destination.base());
  header.rtm_dst_len = static_cast<std::uint8_t>(route.destination.length());
  header.rtm_table = static_cast<std::uint8_t>(route.table < 256 ? route.table : RT_TABLE_UNSPEC);
  header.rtm_type = type_of(route.kind);
  header.rtm_protocol = adding ? RTPROT_STATIC : RTPROT_UNSPEC;
  header.rtm_scope = !adding ? RT_SCOPE_NOWHERE : (unicast ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
  out.fixed(header);
  out.put_u32(RTA_TABLE, route.table);
  if (route.destination.length() > 0) out.put(RTA_DST, route.destination.base().bytes());
  if (route.metric != 0) out.put_u32(RTA_PRIORITY, route.metric);
  if (unicast) out.put_u32(RTA_OIF, static_cast<std::uint32_t>(index));
  return out.take();
}

std::string rule_request(std::uint16_t type, std::uint16_t flags, const RoutingRule& rule) {
  NetlinkWriter out(type, flags);
  fib_rule_hdr header{};
  header.family = rule.v6 ? AF_INET6 : AF_INET;
  header.src_len = static_cast<std::uint8_t>(rule.source ? rule.source->length() : 0);
  header.dst_len = static_cast<std::uint8_t>(rule.destination ? rule.destination->length() : 0);
  header.table = static_cast<std::uint8_t>(rule.table < 256 ? rule.table : RT_TABLE_UNSPEC);
  header.action = FR_ACT_TO_TBL;
  out.fixed(header);
  out.put_u32(FRA_TABLE, rule.table);
  out.put_u32(FRA_PRIORITY, rule.priority);
  if (!rule.incoming.empty()) out.put_text(FRA_IIFNAME, rule.incoming);
  if (rule.source) out.put(FRA_SRC, rule.source->base().bytes());
  if (rule.destination) out.put(FRA_DST, rule.destination->base().bytes());
  return out.take();
}

std::optional<Address> address_from(std::uint8_t family, std::optional<std::string_view> bytes) {
  if (!bytes) return std::nullopt;
  if (family == AF_INET && bytes->size() == 4) {
    std::uint32_t host = 0;
    for (char byte : *bytes) host = host << 8 | static_cast<std::uint8_t>(byte);
    return Address::from_v4(host);
  }
  std::array<std::uint8_t, 16> raw{};
  if (family != AF_INET6 || bytes->size() != raw.size()) return std::nullopt;
  std::memcpy(raw.data(), bytes->data(), raw.size());
  return Address::from_v6(raw);
}

/// The prefix of an attribute; all of the family where it is absent. Nothing: a wrong size, or host bits are set.
std::optional<Prefix> prefix_from(std::uint8_t family, std::uint8_t length, std::optional<std::string_view> bytes) {
  const bool v4 = family == AF_INET;
  if (length > (v4 ? 32 : 128) || (length > 0 && !bytes)) return std::nullopt;
  auto base = bytes ? address_from(family, bytes) : Address::parse(v4 ? "0.0.0.0" : "::").value();
  if (!base) return std::nullopt;
  auto parsed = Prefix::parse(base->str() + "/" + std::to_string(length));
  return parsed ? std::optional(*parsed) : std::nullopt;
}

std::optional<RouteKind> kind_of(std::uint8_t type) {
  for (RouteKind kind : {RouteKind::unicast, RouteKind::blackhole, RouteKind::throw_})
    if (type_of(kind) == type) return kind;
  return std::nullopt;
}

/// What the kernel gives an IPv6 route that asks for none.
constexpr std::uint32_t default_metric6 = 1024;

/// Conditions of a rule beside those of RoutingRule.
constexpr std::uint16_t other_conditions[] = {FRA_FWMARK,    FRA_FWMASK,   FRA_TUN_ID,      FRA_L3MDEV,
                                              FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE,
                                              FRA_OIFNAME,   FRA_FLOW,     FRA_GOTO};

}  // namespace

std::string list_links() {
  return link_request(RTM_GETLINK, NLM_F_DUMP, 0).take();
}

std::string get_link(const std::string& name) {
  return link_request(RTM_GETLINK, 0, 0).put_text(IFLA_IFNAME, name).take();
}

std::string add_link(const std::string& name, const std::string& kind) {
  NetlinkWriter out = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
  out.put_text(IFLA_IFNAME, name);
  std::size_t nest = out.open(IFLA_LINKINFO);
  out.put_text(IFLA_INFO_KIND, kind);
  out.close(nest);
  return out.take();
}

std::string set_link(int index, bool up, std::optional<std::uint32_t> mtu) {
  NetlinkWriter out(RTM_NEWLINK, 0);
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  header.ifi_flags = up ? static_cast<unsigned>(IFF_UP) : 0;
  header.ifi_change = IFF_UP;
  out.fixed(header);
  if (mtu) out.put_u32(IFLA_MTU, *mtu);
  return out.take();
}

std::string rename_link(int index, const std::string& becomes) {
  return link_request(RTM_NEWLINK, 0, index).put_text(IFLA_IFNAME, becomes).take();
}

std::string remove_link(int index) {
  return link_request(RTM_DELLINK, 0, index).take();
}

std::string list_addresses() {
  NetlinkWriter out(RTM_GETADDR, NLM_F_DUMP);
  ifaddrmsg header{};
  out.fixed(header);
  return out.take();
}

std::string add_address(int index, const LinkAddress& address) {
  return address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, address);
}

std::string remove_address(int index, const LinkAddress& address) {
  return address_request(RTM_DELADDR, 0, index, address);
}

std::string put_route(int index, const Route& route) {
  return route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, index, route);
}

std::string remove_route(int index, const Route& route) {
  return route_request(RTM_DELROUTE, 0, index, route);
}

std::string list_routes(bool v6, std::uint32_t table, RouteKind kind) {
  NetlinkWriter out(RTM_GETROUTE, NLM_F_DUMP);
  rtmsg header{};
  header.rtm_family = v6 ? AF_INET6 : AF_INET;
  header.rtm_type = type_of(kind);
  out.fixed(header);
  out.put_u32(RTA_TABLE, table);
  return out.take();
}

std::string list_rules(bool v6) {
  NetlinkWriter out(RTM_GETRULE, NLM_F_DUMP);
  fib_rule_hdr header{};
  header.family = v6 ? AF_INET6 : AF_INET;
  out.fixed(header);
  return out.take();
}

std::string add_rule(const RoutingRule& rule) {
  return rule_request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
}

std::string remove_rule(const RoutingRule& rule) {
  return rule_request(RTM_DELRULE, 0, rule);
}

Result<std::optional<Link>> decode_link(const NetlinkMessage& message) {
  if (message.type != RTM_NEWLINK) return std::optional<Link>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(ifinfomsg)));
  ifinfomsg header;
  std::memcpy(&header, message.payload.data(), sizeof header);
  auto name = attributes.text(IFLA_IFNAME);
  if (!name || name->empty()) return std::optional<Link>();
  Link out;
  out.name = std::move(*name);
  out.index = header.ifi_index;
  out.up = (header.ifi_flags & IFF_UP) != 0;
  out.mtu = attributes.u32(IFLA_MTU).value_or(0);
  if (auto info = attributes.find(IFLA_LINKINFO)) {
    TRY_PLAIN(NetlinkAttributes parts, NetlinkAttributes::parse(*info));
    out.kind = parts.text(IFLA_INFO_KIND).value_or(std::string());
  }
  return std::optional(std::move(out));
}

Result<std::optional<ListedAddress>> decode_address(const NetlinkMessage& message) {
  if (message.type != RTM_NEWADDR) return std::optional<ListedAddress>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(ifaddrmsg)));
  ifaddrmsg header;
  std::memcpy(&header, message.payload.data(), sizeof header);
  // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
  auto bytes = attributes.find(IFA_LOCAL);
  auto address = address_from(header.ifa_family, bytes ? bytes : attributes.find(IFA_ADDRESS));
  if (!address) return std::optional<ListedAddress>();
  ListedAddress out;
  out.index = static_cast<int>(header.ifa_index);
  out.address.address = *address;
  out.address.length = header.ifa_prefixlen;
  return std::optional(std::move(out));
}

Result<std::optional<ListedRoute>> decode_route(const NetlinkMessage& message) {
  if (message.type != RTM_NEWROUTE) return std::optional<ListedRoute>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(rtmsg)));
  rtmsg header;
  std::memcpy(&header, message.payload.data(), sizeof header);
  auto kind = kind_of(header.rtm_type);
  auto destination = prefix_from(header.rtm_family, header.rtm_dst_len, attributes.find(RTA_DST));
  bool plain = header.rtm_src_len == 0 && header.rtm_tos == 0 && (header.rtm_flags & RTM_F_CLONED) == 0 &&
               !attributes.find(RTA_MULTIPATH) && !attributes.find(RTA_GATEWAY);
  if (!kind || !destination || !plain) return std::optional<ListedRoute>();
  ListedRoute out;
  out.route.destination = *destination;
  out.route.kind = *kind;
  out.route.table = attributes.u32(RTA_TABLE).value_or(header.rtm_table);
  out.route.metric = attributes.u32(RTA_PRIORITY).value_or(0);
  if (header.rtm_family == AF_INET6 && out.route.metric == default_metric6) out.route.metric = 0;
  if (*kind == RouteKind::unicast) out.index = static_cast<int>(attributes.u32(RTA_OIF).value_or(0));
  return std::optional(std::move(out));
}

Result<std::optional<RoutingRule>> decode_rule(const NetlinkMessage& message) {
  if (message.type != RTM_NEWRULE) return std::optional<RoutingRule>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(fib_rule_hdr)));
  fib_rule_hdr header;
  std::memcpy(&header, message.payload.data(), sizeof header);
  bool plain = header.action == FR_ACT_TO_TBL && header.tos == 0 && (header.flags & FIB_RULE_INVERT) == 0 &&
               (header.family == AF_INET || header.family == AF_INET6);
  for (std::uint16_t condition : other_conditions) plain = plain && !attributes.find(condition);
  // Present with all bits set where nothing is suppressed.
  for (std::uint16_t type : {FRA_SUPPRESS_PREFIXLEN, FRA_SUPPRESS_IFGROUP})
    plain = plain && attributes.u32(type).value_or(~0U) == ~0U;
  if (!plain) return std::optional<RoutingRule>();
  RoutingRule out;
  out.v6 = header.family == AF_INET6;
  out.incoming = attributes.text(FRA_IIFNAME).value_or(std::string());
  if (header.src_len > 0) out.source = prefix_from(header.family, header.src_len, attributes.find(FRA_SRC));
  if (header.dst_len > 0) out.destination = prefix_from(header.family, header.dst_len, attributes.find(FRA_DST));
  if (out.source.has_value() != (header.src_len > 0) || out.destination.has_value() != (header.dst_len > 0))
    return std::optional<RoutingRule>();
  out.priority = attributes.u32(FRA_PRIORITY).value_or(0);
  out.table = attributes.u32(FRA_TABLE).value_or(header.table);
  return std::optional(std::move(out));
}

}  // namespace tornado::inline v1::rtnl
