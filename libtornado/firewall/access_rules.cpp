// Who may reach what and how fast: the sets and chains of `AccessRules`.
#include <algorithm>
#include <map>
#include <set>

#include "firewall/ruleset.hpp"

namespace tornado::inline v1 {
namespace {

using namespace rule;

// Behind connection tracking and the refusals of a lane, before any translation: the destination is still the one the
// device chose. On the way back, before the lanes' own forwarding; the pace is kept last.
constexpr int rights_priority = -115, answers_priority = -15, pace_priority = 0;
constexpr std::uint16_t dns_port = 53;

bool is_v6(const Prefix& prefix) {
  return !prefix.base().is_v4();
}
bool is_any(const AccessGrant& grant) {
  return grant.to.length() == 0;
}

/// Without those that lie in another one.
std::vector<Prefix> outermost(std::vector<Prefix> prefixes) {
  std::sort(prefixes.begin(), prefixes.end(), [](const Prefix& a, const Prefix& b) {
    return std::pair(a.length(), a.base()) < std::pair(b.length(), b.base());
  });
  prefixes.erase(std::unique(prefixes.begin(), prefixes.end()), prefixes.end());
  std::vector<Prefix> out;
  for (const Prefix& prefix : prefixes) {
    bool inside = std::any_of(out.begin(), out.end(), [&](const Prefix& outer) { return outer.overlaps(prefix); });
    if (!inside) out.push_back(prefix);
  }
  return out;
}

/// The same places of one class and protocol with no two overlapping, which the kernel refuses. Prefixes lie inside
/// each other or apart, so ports alone are cut.
std::vector<AccessGrant> disjoint(const std::vector<AccessGrant>& grants) {
  std::set<std::uint32_t> cuts;
  for (const AccessGrant& grant : grants) {
    cuts.insert(grant.first_port);
    cuts.insert(grant.last_port + 1U);
  }
  std::map<Prefix, std::vector<AccessGrant>> pieces;
  for (auto cut = cuts.begin(); cut != cuts.end() && std::next(cut) != cuts.end(); ++cut) {
    auto first = static_cast<std::uint16_t>(*cut), last = static_cast<std::uint16_t>(*std::next(cut) - 1);
    std::vector<Prefix> here;
    for (const AccessGrant& grant : grants)
      if (grant.first_port <= first && grant.last_port >= last) here.push_back(grant.to);
    for (const Prefix& prefix : outermost(std::move(here))) {
      auto& row = pieces[prefix];
      if (!row.empty() && row.back().last_port + 1U == first)
        row.back().last_port = last;
      else
        row.emplace_back(grants.front().access_class, prefix, grants.front().protocol, first, last);
    }
  }
  std::vector<AccessGrant> out;
  for (auto& [prefix, row] : pieces) out.insert(out.end(), row.begin(), row.end());
  return out;
}

/// The same for grants of any prefixes: only those within one outermost prefix can overlap.
std::vector<AccessGrant> apart(std::vector<AccessGrant> grants) {
  std::sort(grants.begin(), grants.end(), [](const AccessGrant& a, const AccessGrant& b) {
    return std::pair(a.to.base(), a.to.length()) < std::pair(b.to.base(), b.to.length());
  });
  std::vector<AccessGrant> out;
  for (std::size_t first = 0; first < grants.size();) {
    std::size_t end = first + 1;
    while (end < grants.size() && grants[first].to.contains(grants[end].to.base())) ++end;
    std::vector<AccessGrant> nested(grants.begin() + static_cast<std::ptrdiff_t>(first),
                                    grants.begin() + static_cast<std::ptrdiff_t>(end));
    if (nested.size() > 1) nested = disjoint(nested);
    out.insert(out.end(), nested.begin(), nested.end());
    first = end;
  }
  return out;
}

/// Places and echoes, grouped by class and protocol and made disjoint.
std::vector<AccessGrant> places_of(const std::vector<AccessGrant>& grants, bool v6, bool echo) {
  std::map<std::pair<std::uint32_t, AccessProtocol>, std::vector<AccessGrant>> groups;
  for (AccessGrant grant : grants) {
    if (is_v6(grant.to) != v6 || (grant.protocol == AccessProtocol::icmp) != echo) continue;
    if (!echo && is_any(grant) && grant.first_port == grant.last_port) continue;
    if (echo) grant.first_port = grant.last_port = 0;
    groups[{grant.access_class, grant.protocol}].push_back(grant);
  }
  std::vector<AccessGrant> out;
  for (const auto& [key, group] : groups) {
    auto ranges = apart(group);
    out.insert(out.end(), ranges.begin(), ranges.end());
  }
  return out;
}

std::vector<AccessGrant> ports_of(const std::vector<AccessGrant>& grants, bool v6) {
  std::vector<AccessGrant> out;
  for (const AccessGrant& grant : grants)
    if (is_v6(grant.to) == v6 && grant.protocol != AccessProtocol::icmp && is_any(grant) &&
        grant.first_port == grant.last_port)
      out.push_back(grant);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

class AccessCompiler {
 public:
  explicit AccessCompiler(const GatewayPolicy& policy) : policy_(policy) {}

  std::vector<Chain> run() { return {rights(), answers(), pace()}; }

 private:
  static Chain base(std::string_view name, Hook hook, int priority) {
    Chain out;
    out.name = std::string(name);
    out.hook = ChainHook{ChainType::filter, hook, priority};
    return out;
  }
  static Verdict accept() { return Verdict{VerdictKind::accept, {}}; }
  static Verdict drop() { return Verdict{VerdictKind::drop, {}}; }

  /// Who is not known is dropped in silence: known a moment later, the device has lost a packet and no connection.
  static void find_class(Chain& chain, Side device) {
    chain.rules.push_back({SetClass{0}});
    for (bool v6 : {false, true}) chain.rules.push_back({FindClass{device, v6, of_family(devices_map, v6)}});
    chain.rules.push_back({OfClass{0}, Counter{}, drop()});
  }

  /// The side is that of the far end.
  static void granted(Chain& chain, Side side) {
    const SetClass clear{0};
    chain.rules.push_back({OfClass{open_class}, clear, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back({GrantedPort{side, v6, of_family(ports_set, v6)}, clear, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back({GrantedPlace{side, v6, of_family(places_set, v6)}, clear, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back(
          {Echo{v6, side == Side::source}, GrantedEcho{side, v6, of_family(echoes_set, v6)}, clear, accept()});
    chain.rules.push_back({clear});
  }

  static void errors(Chain& chain) {
    for (Protocol protocol : {Protocol::icmp, Protocol::icmpv6})
      chain.rules.push_back({Tracked{false, false, true}, Transport{protocol}, accept()});
  }

  /// The API, DNS and answers are never refused (I-22, K-05); the pace holds for all but the API.
  Chain rights() const {
    Chain chain = base(rights_chain, Hook::prerouting, rights_priority);
    if (!policy_.access) return chain;
    chain.rules.push_back({InterfaceSet{Path::in, std::string(lanes_set), true}, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back({Destination{v6, std::string(v6 ? api6_set : api4_set)}, accept()});
    for (const LanePolicy& lane : policy_.lanes) to_gateway(chain, lane, Port{Protocol::tcp, policy_.api_port});
    chain.rules.push_back({Tracked{false, true, true}, Reply{}, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back({AddressSet{Side::source, v6, of_family(up_set, v6)}, Counter{}, drop()});
    for (Protocol protocol : {Protocol::udp, Protocol::tcp})
      chain.rules.push_back({Port{protocol, dns_port}, accept()});
    for (const LanePolicy& lane : policy_.lanes) {
      chain.rules.push_back({to(lane.gateway), Echo{false}, accept()});
      if (lane.gateway6) chain.rules.push_back({to(*lane.gateway6), Echo{true}, accept()});
    }
    errors(chain);
    find_class(chain, Side::source);
    granted(chain, Side::destination);
    chain.rules.push_back({Transport{Protocol::tcp}, Counter{}, Reset{}});
    chain.rules.push_back({Counter{}, drop()});
    return chain;
  }

  static Network to(const Address& address) {
    return Network{Side::destination, Prefix(address, address.is_v4() ? 32 : 128)};
  }
  static void to_gateway(Chain& chain, const LanePolicy& lane, const Port& port) {
    chain.rules.push_back({to(lane.gateway), port, accept()});
    if (lane.gateway6) chain.rules.push_back({to(*lane.gateway6), port, accept()});
  }

  /// What comes back to a device: a right that has ended ends connections that stand, in both directions, without a
  /// flush that would end those of others.
  Chain answers() const {
    Chain chain = base(answers_chain, Hook::forward, answers_priority);
    if (!policy_.access) return chain;
    chain.rules.push_back({InterfaceSet{Path::out, std::string(lanes_set), true}, accept()});
    for (Protocol protocol : {Protocol::udp, Protocol::tcp})
      chain.rules.push_back({Port{protocol, dns_port, Side::source}, accept()});
    errors(chain);
    find_class(chain, Side::destination);
    granted(chain, Side::source);
    chain.rules.push_back({Counter{}, drop()});
    return chain;
  }

  /// To a device, forwarded or from this host, as Tor's answers are.
  Chain pace() const {
    Chain chain = base(pace_chain, Hook::postrouting, pace_priority);
    if (!policy_.access) return chain;
    chain.rules.push_back({InterfaceSet{Path::out, std::string(lanes_set), true}, accept()});
    chain.rules.push_back({Port{Protocol::tcp, policy_.api_port, Side::source}, accept()});
    for (bool v6 : {false, true})
      chain.rules.push_back({AddressSet{Side::destination, v6, of_family(down_set, v6)}, Counter{}, drop()});
    return chain;
  }

  const GatewayPolicy& policy_;
};

}  // namespace

std::string_view name(AccessProtocol protocol) noexcept {
  static constexpr std::string_view names[] = {"tcp", "udp", "icmp"};
  return names[static_cast<std::size_t>(protocol)];
}

std::string of_family(std::string_view name, bool v6) {
  return std::string(name) + (v6 ? "6" : "4");
}

bool is_access(std::string_view name) {
  for (std::string_view chain : {rights_chain, answers_chain, pace_chain})
    if (name == chain) return true;
  for (std::string_view set : {devices_map, up_set, down_set, ports_set, places_set, echoes_set})
    if (name == of_family(set, false) || name == of_family(set, true)) return true;
  return false;
}

std::vector<ElementSet> device_sets(const std::vector<DeviceAccess>& devices) {
  std::vector<ElementSet> out;
  for (bool v6 : {false, true}) {
    ElementSet classes{of_family(devices_map, v6), v6 ? SetType::class6 : SetType::class4, {}, {}, 0};
    ElementSet up{of_family(up_set, v6), v6 ? SetType::rate6 : SetType::rate4, {}, {}, 0};
    ElementSet down{of_family(down_set, v6), v6 ? SetType::rate6 : SetType::rate4, {}, {}, 0};
    for (const DeviceAccess& device : devices) {
      if (device.address.is_v4() == v6) continue;
      classes.devices.push_back(device);
      DeviceAccess rate = device;
      if (rate.up != 0) up.devices.push_back(rate);
      rate.up = device.down;
      if (rate.up != 0) down.devices.push_back(rate);
    }
    for (ElementSet* set : {&classes, &up, &down}) out.push_back(std::move(*set));
  }
  return out;
}

std::vector<ElementSet> access_sets(const AccessRules* rules) {
  static const AccessRules none;
  if (rules == nullptr) rules = &none;
  std::vector<ElementSet> out = device_sets(rules->devices);
  for (bool v6 : {false, true}) {
    ElementSet ports{of_family(ports_set, v6), SetType::port, {}, {}, 0};
    ports.grants = ports_of(rules->grants, v6);
    ElementSet places{of_family(places_set, v6), v6 ? SetType::place6 : SetType::place4, {}, {}, 0};
    places.grants = places_of(rules->grants, v6, false);
    ElementSet echoes{of_family(echoes_set, v6), v6 ? SetType::echo6 : SetType::echo4, {}, {}, 0};
    echoes.grants = places_of(rules->grants, v6, true);
    for (ElementSet* set : {&ports, &places, &echoes}) out.push_back(std::move(*set));
  }
  return out;
}

std::vector<Chain> access_chains(const GatewayPolicy& policy) {
  return AccessCompiler(policy).run();
}

void replace_access(Ruleset& ruleset, const Ruleset& from) {
  auto foreign = [](const auto& part) { return !is_access(part.name); };
  auto take = [&](auto& parts, const auto& others) {
    parts.erase(std::stable_partition(parts.begin(), parts.end(), foreign), parts.end());
    for (const auto& other : others)
      if (is_access(other.name)) parts.push_back(other);
  };
  take(ruleset.sets, from.sets);
  take(ruleset.chains, from.chains);
}

std::unordered_map<Address, DeviceAccess> devices_of(const Ruleset& ruleset) {
  std::unordered_map<Address, DeviceAccess> out;
  auto each = [&](std::string_view name, auto&& take) {
    for (const ElementSet& set : ruleset.sets)
      if (set.name == of_family(name, false) || set.name == of_family(name, true))
        for (const DeviceAccess& device : set.devices) take(device);
  };
  each(devices_map,
       [&](const DeviceAccess& device) { out[device.address] = DeviceAccess(device.address, device.access_class); });
  each(up_set, [&](const DeviceAccess& device) { out[device.address].up = device.up; });
  each(down_set, [&](const DeviceAccess& device) { out[device.address].down = device.up; });
  return out;
}

DeviceChanges::DeviceChanges(const std::unordered_map<Address, DeviceAccess>& now, std::vector<DeviceAccess> changed,
                             std::vector<Address> gone) {
  std::map<Address, std::optional<DeviceAccess>> wanted;
  for (const Address& address : gone)
    if (now.contains(address)) wanted[address] = std::nullopt;
  for (const DeviceAccess& device : changed) {
    auto present = now.find(device.address);
    if (present != now.end() && present->second == device)
      wanted.erase(device.address);
    else
      wanted[device.address] = device;
  }
  for (const auto& [address, device] : wanted) {
    if (auto present = now.find(address); present != now.end()) before.push_back(present->second);
    if (device) after.push_back(*device);
  }
}

void DeviceChanges::apply(std::unordered_map<Address, DeviceAccess>& now) const {
  for (const DeviceAccess& device : before) now.erase(device.address);
  for (const DeviceAccess& device : after) now[device.address] = device;
}

}  // namespace tornado::inline v1
