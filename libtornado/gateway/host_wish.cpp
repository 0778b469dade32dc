#include "gateway/host_wish.hpp"

#include <algorithm>
#include <set>

#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

template <class T>
bool contains(const std::vector<T>& all, const T& value) {
  return std::find(all.begin(), all.end(), value) != all.end();
}

Task<std::vector<Route>> present_routes(Host& host, const std::vector<Route>& wanted) {
  std::set<std::pair<std::uint32_t, RouteKind>> places;
  for (const auto& route : wanted) places.emplace(route.table, route.kind);
  std::vector<Route> out;
  for (const auto& place : places) {
    auto some = co_await host.list_routes(place.first, place.second);
    // A host that cannot list them is asked for all of them.
    if (!some && some.error().code() == errc::unimplemented) continue;
    if (!some) co_return some.error();
    std::move(some->begin(), some->end(), std::back_inserter(out));
  }
  co_return out;
}

std::string described(const Route& route) {
  std::string out = route.kind == RouteKind::blackhole ? "blackhole " : route.kind == RouteKind::throw_ ? "throw " : "";
  out += route.destination.str();
  if (!route.link.empty()) out += " dev " + route.link;
  return out + " in table " + std::to_string(route.table);
}

std::string described(const RoutingRule& rule) {
  std::string out = std::to_string(rule.priority) + ": from " + (rule.source ? rule.source->str() : "all");
  if (rule.destination) out += " to " + rule.destination->str();
  if (!rule.incoming.empty()) out += " iif " + rule.incoming;
  return out + " lookup " + std::to_string(rule.table) + (rule.v6 ? " (IPv6)" : " (IPv4)");
}

void describe(const HostWish::Link& wanted, const Link* link, std::vector<std::string>& out) {
  if (link == nullptr) {
    out.push_back("there is no " + wanted.name);
    return;
  }
  if (!link->up) out.push_back(wanted.name + " is down");
  if (link->mtu != wanted.mtu)
    out.push_back(wanted.name + " has MTU " + std::to_string(link->mtu) + ", not " + std::to_string(wanted.mtu));
}

}  // namespace

const Link* link_named(const std::vector<Link>& links, const std::string& name) {
  auto it = std::find_if(links.begin(), links.end(), [&](const Link& link) { return link.name == name; });
  return it == links.end() ? nullptr : &*it;
}

Task<HostWish> lacking(Host& host, const HostWish& wanted) {
  HostWish out;
  if (!wanted.routes.empty()) {
    TRY(auto routes, co_await present_routes(host, wanted.routes));
    for (const auto& route : wanted.routes)
      if (!contains(routes, route)) out.routes.push_back(route);
  }
  if (!wanted.rules.empty()) {
    auto rules = co_await host.list_rules();
    if (!rules && rules.error().code() != errc::unimplemented) co_return rules.error();
    for (const auto& rule : wanted.rules)
      if (!rules || !contains(*rules, rule)) out.rules.push_back(rule);
  }
  if (!wanted.links.empty()) {
    TRY(auto links, co_await host.links());
    for (const auto& link : wanted.links) {
      const Link* found = link_named(links, link.name);
      if (found == nullptr || !found->up || found->mtu != link.mtu) out.links.push_back(link);
    }
  }
  if (!wanted.addresses.empty()) {
    TRY(auto addresses, co_await host.addresses());
    for (const auto& address : wanted.addresses)
      if (!contains(addresses, address)) out.addresses.push_back(address);
  }
  for (const auto& sysctl : wanted.sysctls) {
    auto value = co_await host.read_sysctl(sysctl.first);
    bool unknown = !value && (value.error().code() == errc::not_found || value.error().code() == errc::unimplemented);
    if (!value && !unknown) co_return value.error();
    if (!value || *value != sysctl.second) out.sysctls.push_back(sysctl);
  }
  co_return out;
}

Task<std::vector<std::string>> lacking_in_words(Host& host, const HostWish& wanted) {
  TRY(auto lacks, co_await lacking(host, wanted));
  TRY(auto links, co_await host.links());
  std::vector<std::string> out;
  for (const auto& link : lacks.links) describe(link, link_named(links, link.name), out);
  for (const auto& address : lacks.addresses)
    if (link_named(links, address.link) != nullptr)
      out.push_back(address.link + " has no address " + address.address.str() + "/" + std::to_string(address.length));
  for (const auto& route : lacks.routes) out.push_back("there is no route " + described(route));
  for (const auto& rule : lacks.rules) out.push_back("there is no rule " + described(rule));
  for (const auto& sysctl : lacks.sysctls) {
    auto value = co_await host.read_sysctl(sysctl.first);
    out.push_back(sysctl.first + " is " + (value ? *value : std::string("not there")) + ", not " + sysctl.second);
  }
  co_return out;
}

Task<void> fulfil(Host& host, const HostWish& wanted) {
  TRY(auto lacks, co_await lacking(host, wanted));
  for (const auto& route : lacks.routes) TRY_VOID(co_await host.ensure_route(route));
  for (const auto& rule : lacks.rules) TRY_VOID(co_await host.ensure_rule(rule));
  for (const auto& address : lacks.addresses) TRY_VOID(co_await host.ensure_address(address));
  for (const auto& link : lacks.links) TRY_VOID(co_await host.set_link(link.name, true, link.mtu));
  for (const auto& sysctl : lacks.sysctls) TRY_VOID(co_await host.ensure_sysctl(sysctl.first, sysctl.second));
  co_return Result<void>();
}

}  // namespace tornado::inline v1
