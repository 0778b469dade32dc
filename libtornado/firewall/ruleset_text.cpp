#include "firewall/ruleset.hpp"

#include <array>
#include <cstdio>

namespace tornado::inline v1 {
namespace {

using namespace rule;

std::string quoted(const std::string& name) {
  return "\"" + name + "\"";
}
std::string number(std::uint64_t value) {
  return std::to_string(value);
}

std::string_view name(Protocol protocol) {
  switch (protocol) {
    case Protocol::icmp:
      return "icmp";
    case Protocol::tcp:
      return "tcp";
    case Protocol::udp:
      return "udp";
    case Protocol::icmpv6:
      return "ipv6-icmp";
  }
  return "?";
}

std::string_view name(Hook hook) {
  static constexpr std::string_view names[] = {"prerouting", "input", "forward", "output", "postrouting"};
  return names[static_cast<std::size_t>(hook)];
}

std::string block(const Prefix& prefix) {
  bool whole = prefix.length() == (prefix.base().is_v4() ? 32 : 128);
  return whole ? prefix.base().str() : prefix.str();
}

/// "10.8.0.1 . 4605" in a set; "10.8.0.1:4605" in a translation.
std::string element(const Endpoint& endpoint) {
  return endpoint.address.str() + " . " + number(endpoint.port);
}

/// A class as nft(8) writes a priority: in hexadecimal, "none" for 0.
std::string class_name(std::uint32_t access_class) {
  if (access_class == 0) return "none";
  char text[16];
  std::snprintf(text, sizeof text, "%x:%x", access_class >> 16, access_class & 0xffff);
  return text;
}

std::string address_of(Side side, bool v6) {
  return std::string(v6 ? "ip6" : "ip") + (side == Side::source ? " saddr" : " daddr");
}
std::string port_of(Side side) {
  return side == Side::source ? "sport" : "dport";
}

std::string size_text(std::uint64_t bytes) {
  static constexpr std::string_view units[] = {"bytes", "kbytes", "mbytes"};
  std::size_t unit = 0;
  for (; unit < 2 && bytes % 1024 == 0; ++unit) bytes /= 1024;
  return number(bytes) + " " + std::string(units[unit]);
}

std::string rate_text(std::uint64_t rate) {
  std::string out = "limit rate over ";
  out += size_text(rate);
  out += "/second burst ";
  out += size_text(burst_of(rate));
  return out;
}

std::string element(const DeviceAccess& device, SetType type) {
  bool map = type == SetType::class4 || type == SetType::class6;
  std::string out = device.address.str();
  out += map ? " : " : " ";
  out += map ? class_name(device.access_class) : rate_text(device.up);
  return out;
}

std::string element(const AccessGrant& grant, SetType type) {
  std::string out = class_name(grant.access_class);
  if (type != SetType::port) out.append(" . ").append(block(grant.to));
  if (type == SetType::echo4 || type == SetType::echo6) return out;
  out.append(" . ").append(name(grant.protocol)).append(" . ").append(number(grant.first_port));
  if (grant.last_port != grant.first_port) out.append("-").append(number(grant.last_port));
  return out;
}

struct Text {
  std::string operator()(const Interface& e) const {
    return std::string(e.path == Path::in ? "iifname " : "oifname ") + (e.negated ? "!= " : "") + quoted(e.name);
  }
  std::string operator()(const InterfaceSet& e) const {
    return std::string(e.path == Path::in ? "iifname " : "oifname ") + (e.negated ? "!= @" : "@") + e.set;
  }
  std::string operator()(const Network& e) const {
    return std::string(e.prefix.base().is_v4() ? "ip " : "ip6 ") + (e.side == Side::source ? "saddr " : "daddr ") +
           block(e.prefix);
  }
  std::string operator()(const Family& e) const { return e.v6 ? "meta nfproto ipv6" : "meta nfproto ipv4"; }
  std::string operator()(const Transport& e) const { return "meta l4proto " + std::string(name(e.protocol)); }
  std::string operator()(const Port& e) const {
    return std::string(name(e.protocol)) + " " + port_of(e.side) + " " + number(e.port);
  }
  std::string operator()(const Destination& e) const {
    return std::string(e.v6 ? "ip6" : "ip") + " daddr . tcp dport @" + e.set;
  }
  std::string operator()(const Echo& e) const {
    return std::string(e.v6 ? "icmpv6 type echo-" : "icmp type echo-") + (e.reply ? "reply" : "request");
  }
  std::string operator()(const Tracked& e) const {
    std::string states;
    if (e.fresh) states += ",new";
    if (e.established) states += ",established";
    if (e.related) states += ",related";
    return "ct state " + states.substr(1);
  }
  std::string operator()(const Reply&) const { return "ct direction reply"; }
  std::string operator()(const Syn&) const { return "tcp flags syn / syn,rst"; }
  std::string operator()(const ClampMss&) const { return "tcp option maxseg size set rt mtu"; }
  std::string operator()(const MarkSource& e) const {
    if (!e.v6) return "ct mark set @nh,96,32";
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "ct mark set @nh,160,32 & 0x00ffffff ^ 0x%02x000000", e.lane);
    return text.data();
  }
  std::string operator()(const Opening&) const { return "ct status ! confirmed"; }
  std::string operator()(const Translated&) const { return "ct status dnat"; }
  std::string operator()(const ConnectionsOver& e) const {
    return "add @" + e.set + (e.v6 ? " { ip6" : " { ip") + " saddr ct count over " + number(e.limit) + " }";
  }
  std::string operator()(const AddressSet& e) const { return address_of(e.side, e.v6) + " @" + e.set; }
  std::string operator()(const FindClass& e) const {
    return "meta priority set " + address_of(e.side, e.v6) + " map @" + e.map;
  }
  std::string operator()(const SetClass& e) const { return "meta priority set " + class_name(e.access_class); }
  std::string operator()(const OfClass& e) const { return "meta priority " + class_name(e.access_class); }
  std::string operator()(const GrantedPort& e) const {
    std::string out = e.v6 ? "meta nfproto ipv6" : "meta nfproto ipv4";
    return out.append(" meta priority . meta l4proto . th ").append(port_of(e.side)).append(" @").append(e.set);
  }
  std::string operator()(const GrantedPlace& e) const {
    return "meta priority . " + address_of(e.side, e.v6) + " . meta l4proto . th " + port_of(e.side) + " @" + e.set;
  }
  std::string operator()(const GrantedEcho& e) const {
    return "meta priority . " + address_of(e.side, e.v6) + " @" + e.set;
  }
  std::string operator()(const Translate& e) const {
    return std::string(e.to.address.is_v4() ? "dnat ip to " : "dnat ip6 to ") + e.to.str();
  }
  std::string operator()(const Reset&) const { return "reject with tcp reset"; }
  std::string operator()(const Masquerade&) const { return "masquerade"; }
  std::string operator()(const Counter&) const { return "counter"; }
  std::string operator()(const Verdict& e) const {
    switch (e.kind) {
      case VerdictKind::accept:
        return "accept";
      case VerdictKind::drop:
        return "drop";
      case VerdictKind::jump:
        return "jump " + e.chain;
      case VerdictKind::go:
        return "goto " + e.chain;
    }
    return {};
  }
};

std::string_view type_of(SetType type) {
  static constexpr std::string_view types[] = {
      "ifname",
      "ipv4_addr . inet_service",
      "ipv6_addr . inet_service",
      "ipv4_addr",
      "ipv6_addr",
      "ipv4_addr : classid",
      "ipv6_addr : classid",
      "ipv4_addr",
      "ipv6_addr",
      "classid . inet_proto . inet_service",
      "classid . ipv4_addr . inet_proto . inet_service",
      "classid . ipv6_addr . inet_proto . inet_service",
      "classid . ipv4_addr",
      "classid . ipv6_addr",
  };
  return types[static_cast<std::size_t>(type)];
}

void write(std::string& out, const ElementSet& set) {
  bool map = set.type == SetType::class4 || set.type == SetType::class6;
  bool rate = set.type == SetType::rate4 || set.type == SetType::rate6;
  out += std::string(map ? "\tmap " : "\tset ") + set.name + " {\n\t\ttype " + std::string(type_of(set.type)) + "\n";
  if (has_intervals(set.type)) out += "\t\tflags interval\n";
  if (rate) out += "\t\t" + rate_text(declared_rate) + "\n";
  if (set.capacity != 0) out += "\t\tsize " + number(set.capacity) + "\n\t\tflags dynamic\n";
  std::string elements;
  auto add = [&](const std::string& element) { elements += (elements.empty() ? "" : ", ") + element; };
  for (const std::string& interface : set.interfaces) add(quoted(interface));
  for (const Endpoint& endpoint : set.endpoints) add(element(endpoint));
  for (const DeviceAccess& device : set.devices) add(element(device, set.type));
  for (const AccessGrant& grant : set.grants) add(element(grant, set.type));
  if (!elements.empty()) out += "\t\telements = { " + elements + " }\n";
  out += "\t}\n\n";
}

void write(std::string& out, const Chain& chain) {
  out += "\tchain " + chain.name + " {\n";
  if (chain.hook) {
    const ChainHook& hook = *chain.hook;
    out += std::string("\t\ttype ") + (hook.type == ChainType::filter ? "filter" : "nat") + " hook ";
    out += std::string(name(hook.hook)) + " priority " + std::to_string(hook.priority) + "; policy accept;\n";
  }
  for (const Rule& rule : chain.rules) {
    out += "\t\t";
    for (std::size_t i = 0; i < rule.size(); ++i) out += (i == 0 ? "" : " ") + std::visit(Text{}, rule[i]);
    out += "\n";
  }
  out += "\t}\n\n";
}

}  // namespace

std::string to_text(const Ruleset& ruleset) {
  std::string out = "table inet tornado {\n";
  for (const ElementSet& set : ruleset.sets) write(out, set);
  for (const Chain& chain : ruleset.chains) write(out, chain);
  if (out.ends_with("\n\n")) out.pop_back();
  return out + "}\n";
}

}  // namespace tornado::inline v1
