#include <algorithm>
#include <map>

#include "base/notifier.hpp"
#include "base/try.hpp"
#include "host/host_state.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {

Task<void> Host::flush_network(Prefix) {
  co_return Error(errc::unimplemented, "this host does not flush by pool");
}

Task<void> Host::ensure_link(std::string, std::string) {
  co_return Error(errc::unimplemented, "this host makes no links");
}

Task<void> Host::rename_link(std::string, std::string) {
  co_return Error(errc::unimplemented, "this host renames no links");
}

Task<std::vector<Route>> Host::list_routes(std::uint32_t, RouteKind) {
  co_return Error(errc::unimplemented, "this host lists no routes");
}

Task<std::vector<RoutingRule>> Host::list_rules() {
  co_return Error(errc::unimplemented, "this host lists no rules");
}

Task<std::string> Host::read_sysctl(std::string) {
  co_return Error(errc::unimplemented, "this host reads no sysctls");
}

struct MemoryHost::Impl {
  explicit Impl(Runtime& runtime) : changes(runtime) {}

  Result<void> begin() {
    ++writes;
    if (failures == 0) return {};
    --failures;
    return Error(failure, "injected");
  }

  Result<Link*> link(const std::string& name) {
    auto it = std::find_if(links.begin(), links.end(), [&](const Link& l) { return l.name == name; });
    if (it == links.end()) return Error(errc::interface_missing, "no link '" + name + "'");
    return &*it;
  }

  std::vector<Link> links;
  std::vector<LinkAddress> addresses;
  std::vector<Route> routes;
  std::vector<RoutingRule> rules;
  std::map<std::string, std::string> sysctls;
  std::vector<Address> flushed;
  std::vector<Prefix> flushed_networks;
  int next_index = 2;
  std::uint64_t writes = 0;
  int failures = 0;
  errc failure = errc::backend_failed;
  Notifier changes;
};

MemoryHost::MemoryHost(Runtime& runtime, std::vector<std::string> links) : impl_(std::make_unique<Impl>(runtime)) {
  for (const std::string& name : links) create_link(name);
}
MemoryHost::~MemoryHost() = default;

Task<std::vector<Link>> MemoryHost::links() {
  co_return impl_->links;
}

Task<void> MemoryHost::remove_link(std::string name) {
  TRY_VOID(impl_->begin());
  if (!impl_->link(name)) co_return Result<void>();
  std::erase_if(impl_->links, [&](const Link& link) { return link.name == name; });
  std::erase_if(impl_->addresses, [&](const LinkAddress& address) { return address.link == name; });
  std::erase_if(impl_->routes, [&](const Route& route) { return route.link == name; });
  impl_->changes.notify();
  co_return Result<void>();
}

Task<void> MemoryHost::ensure_link(std::string name, std::string kind) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check_link(name, kind));
  auto there = impl_->link(name);
  if (there) co_return check_kind(**there, kind);
  if (kind == "missing") co_return Error(errc::failed_precondition, "this host has no links of kind missing");
  create_link(name, kind);
  co_return Result<void>();
}

Task<void> MemoryHost::rename_link(std::string name, std::string becomes) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check_link(becomes, "any"));
  TRY(Link * link, impl_->link(name));
  if (impl_->link(becomes)) co_return Error(errc::already_exists, "there is a link " + becomes);
  link->name = becomes;
  link->up = false;
  for (LinkAddress& address : impl_->addresses)
    if (address.link == name) address.link = becomes;
  std::erase_if(impl_->routes, [&](const Route& route) { return route.link == name; });
  impl_->changes.notify();
  co_return Result<void>();
}

Task<void> MemoryHost::set_link(std::string name, bool up, std::optional<std::uint32_t> mtu) {
  TRY_VOID(impl_->begin());
  TRY(Link * link, impl_->link(name));
  bool changes = link->up != up || (mtu && link->mtu != *mtu);
  link->up = up;
  if (mtu) link->mtu = *mtu;
  if (changes) impl_->changes.notify();
  co_return Result<void>();
}

Task<std::vector<LinkAddress>> MemoryHost::addresses() {
  co_return impl_->addresses;
}

Task<void> MemoryHost::ensure_address(LinkAddress address) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check(address));
  TRY([[maybe_unused]] Link * link, impl_->link(address.link));
  auto& all = impl_->addresses;
  if (std::find(all.begin(), all.end(), address) != all.end()) co_return Result<void>();
  all.push_back(std::move(address));
  impl_->changes.notify();
  co_return Result<void>();
}

Task<void> MemoryHost::remove_address(LinkAddress address) {
  TRY_VOID(impl_->begin());
  if (std::erase(impl_->addresses, address) != 0) impl_->changes.notify();
  co_return Result<void>();
}

Task<void> MemoryHost::ensure_route(Route route) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check(route));
  if (route.kind == RouteKind::unicast) {
    TRY([[maybe_unused]] Link * link, impl_->link(route.link));
  }
  std::erase_if(impl_->routes, [&](const Route& other) { return same_place(other, route); });
  impl_->routes.push_back(std::move(route));
  co_return Result<void>();
}

Task<void> MemoryHost::remove_route(Route route) {
  TRY_VOID(impl_->begin());
  std::erase_if(impl_->routes, [&](const Route& other) { return same_place(other, route); });
  co_return Result<void>();
}

Task<void> MemoryHost::ensure_rule(RoutingRule rule) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check(rule));
  auto& all = impl_->rules;
  if (std::find(all.begin(), all.end(), rule) != all.end()) co_return Result<void>();
  all.push_back(std::move(rule));
  impl_->changes.notify();
  co_return Result<void>();
}

Task<void> MemoryHost::remove_rule(RoutingRule rule) {
  TRY_VOID(impl_->begin());
  if (std::erase(impl_->rules, rule) != 0) impl_->changes.notify();
  co_return Result<void>();
}

Task<std::vector<Route>> MemoryHost::list_routes(std::uint32_t table, RouteKind kind) {
  std::vector<Route> out;
  for (const Route& route : impl_->routes)
    if (route.table == table && route.kind == kind) out.push_back(route);
  co_return out;
}

Task<std::vector<RoutingRule>> MemoryHost::list_rules() {
  co_return impl_->rules;
}

Task<std::string> MemoryHost::read_sysctl(std::string name) {
  TRY_VOID(check_sysctl(name));
  auto it = impl_->sysctls.find(name);
  if (it == impl_->sysctls.end()) co_return Error(errc::not_found, name);
  co_return it->second;
}

Task<void> MemoryHost::ensure_sysctl(std::string name, std::string value) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check_sysctl(name));
  impl_->sysctls[std::move(name)] = std::move(value);
  co_return Result<void>();
}

Task<void> MemoryHost::flush_connections(Address address, Lane) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check_lane_address(address));
  impl_->flushed.push_back(address);
  co_return Result<void>();
}

Task<void> MemoryHost::flush_network(Prefix pool) {
  TRY_VOID(impl_->begin());
  TRY_VOID(check_network(pool));
  impl_->flushed_networks.push_back(pool);
  co_return Result<void>();
}

Task<std::uint64_t> MemoryHost::changed(std::uint64_t since) {
  bool woken = co_await impl_->changes.wait(since);
  if (!woken) co_return Error(errc::cancelled);
  co_return impl_->changes.revision();
}

const std::vector<Address>& MemoryHost::flushed() const noexcept {
  return impl_->flushed;
}

const std::vector<Prefix>& MemoryHost::flushed_networks() const noexcept {
  return impl_->flushed_networks;
}

const std::vector<Route>& MemoryHost::routes() const noexcept {
  return impl_->routes;
}

const std::vector<RoutingRule>& MemoryHost::rules() const noexcept {
  return impl_->rules;
}

std::string MemoryHost::sysctl(const std::string& name) const {
  auto it = impl_->sysctls.find(name);
  return it != impl_->sysctls.end() ? it->second : std::string();
}

std::uint64_t MemoryHost::writes() const noexcept {
  return impl_->writes;
}

void MemoryHost::create_link(const std::string& name, const std::string& kind) {
  if (impl_->link(name)) return;
  Link link;
  link.name = name;
  link.index = impl_->next_index++;
  link.mtu = 1420;
  link.kind = kind;
  impl_->links.push_back(std::move(link));
  impl_->changes.notify();
}

void MemoryHost::fail_next(int count, errc code) {
  impl_->failures = count;
  impl_->failure = code;
}

}  // namespace tornado::inline v1
