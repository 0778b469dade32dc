#include "host/host_state.hpp"

#include <array>
#include <cstring>

namespace tornado::inline v1 {
namespace {

Error invalid(std::string text) {
  return Error(errc::invalid_argument, std::move(text));
}

/// IFNAMSIZ counts the zero at the end.
bool usable_name(const std::string& name) {
  return !name.empty() && name.size() < 16 && name.find('/') == name.npos && name.find('\0') == name.npos;
}

}  // namespace

std::uint8_t lane_mark(const Lane& lane) noexcept {
  std::uint32_t hash = 2166136261;  // FNV-1a
  for (const char c : lane.str()) hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619;
  return static_cast<std::uint8_t>(0x80 | (hash & 0x7f));
}

std::uint32_t connection_mark(const Address& lane_address, const Lane& lane) noexcept {
  std::string_view bytes = lane_address.bytes();
  std::array<std::uint8_t, 4> last{};
  std::memcpy(last.data(), bytes.data() + bytes.size() - last.size(), last.size());
  if (!lane_address.is_v4()) last[0] = lane_mark(lane);
  std::uint32_t mark = 0;
  std::memcpy(&mark, last.data(), sizeof mark);
  return mark != 0 ? mark : 1;
}

Result<void> check_link(const std::string& name, const std::string& kind) {
  if (!usable_name(name)) return invalid("not a link name: '" + name + "'");
  if (kind.empty() || kind.size() > 31) return invalid("not a kind of link: '" + kind + "'");
  return {};
}

Result<void> check_kind(const Link& link, const std::string& kind) {
  if (link.kind == kind) return {};
  return Error(errc::already_exists, link.name + " is there as a link of another kind (" +
                                         (link.kind.empty() ? "hardware" : link.kind) + ")");
}

Result<void> check(const LinkAddress& address) {
  if (!usable_name(address.link)) return invalid("not a link name: '" + address.link + "'");
  if (address.length < 0 || address.length > (address.address.is_v4() ? 32 : 128))
    return invalid("prefix length out of range: " + std::to_string(address.length));
  return {};
}

Result<void> check(const Route& route) {
  if ((route.kind == RouteKind::unicast) != !route.link.empty())
    return invalid("a unicast route has a link, others have none: " + route.destination.str());
  if (!route.link.empty() && !usable_name(route.link)) return invalid("not a link name: '" + route.link + "'");
  if (route.table == 0) return invalid("routing table 0");
  return {};
}

Result<void> check(const RoutingRule& rule) {
  if (rule.table == 0 || rule.priority == 0) return invalid("a rule needs a table and a priority");
  if (!rule.incoming.empty() && !usable_name(rule.incoming)) return invalid("not a link name: '" + rule.incoming + "'");
  if (rule.source && rule.source->base().is_v4() == rule.v6) return invalid("family of a rule contradicts its source");
  if (rule.destination && rule.destination->base().is_v4() == rule.v6)
    return invalid("family of a rule contradicts its destination");
  return {};
}

Result<void> check_network(const Prefix& pool) {
  if (pool.length() == 0 || pool.base().is_unspecified()) return invalid("not a pool of a lane: " + pool.str());
  return {};
}

Result<void> check_lane_address(const Address& address) {
  if (address.is_unspecified()) return invalid("not an address of a lane: " + address.str());
  return {};
}

Result<void> check_sysctl(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.back() == '/' || name.find("//") != name.npos ||
      name.find("..") != name.npos || name.find('\0') != name.npos)
    return invalid("not a sysctl: '" + name + "'");
  return {};
}

bool same_place(const Route& a, const Route& b) noexcept {
  return a.table == b.table && a.destination == b.destination && a.metric == b.metric;
}

}  // namespace tornado::inline v1
