#include "firewall/ruleset.hpp"

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
  std::string operator()(const Port& e) const { return std::string(name(e.protocol)) + " dport " + number(e.port); }
  std::string operator()(const Destination& e) const {
    return std::string(e.v6 ? "ip6" : "ip") + " daddr . tcp dport @" + e.set;
  }
  std::string operator()(const Echo& e) const { return e.v6 ? "icmpv6 type echo-request" : "icmp type echo-request"; }
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
    return e.v6 ? "ct mark set @nh,160,32" : "ct mark set @nh,96,32";
  }
  std::string operator()(const Opening&) const { return "ct status ! confirmed"; }
  std::string operator()(const Translated&) const { return "ct status dnat"; }
  std::string operator()(const ConnectionsOver& e) const {
    return "add @" + e.set + (e.v6 ? " { ip6" : " { ip") + " saddr ct count over " + number(e.limit) + " }";
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

void write(std::string& out, const ElementSet& set) {
  static constexpr std::string_view types[] = {"ifname", "ipv4_addr . inet_service", "ipv6_addr . inet_service",
                                               "ipv4_addr", "ipv6_addr"};
  out += "\tset " + set.name + " {\n\t\ttype " + std::string(types[static_cast<std::size_t>(set.type)]) + "\n";
  if (set.capacity != 0) out += "\t\tsize " + number(set.capacity) + "\n\t\tflags dynamic\n";
  std::string elements;
  for (const std::string& interface : set.interfaces) elements += (elements.empty() ? "" : ", ") + quoted(interface);
  for (const Endpoint& endpoint : set.endpoints) elements += (elements.empty() ? "" : ", ") + element(endpoint);
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
