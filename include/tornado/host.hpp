#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A network link as the kernel lists it.
class Link {
 public:
  Link() {}
  std::string name;
  int index = 0;
  bool up = false;
  std::uint32_t mtu = 0;
  std::string kind;  ///< "wireguard", "tun", "bridge" ...; empty for hardware and loopback
};

/// An address on a link, host bits and all: 10.8.0.1/24.
class LinkAddress {
 public:
  LinkAddress() {}
  LinkAddress(std::string link_, Address address_, int length_)
      : link(std::move(link_)), address(address_), length(length_) {}
  bool operator==(const LinkAddress&) const = default;

  std::string link;
  Address address;
  int length = 32;
};

enum class RouteKind : std::uint8_t { unicast, blackhole, throw_ };

/// A route in a table; `link` is empty for blackhole and throw.
class Route {
 public:
  Route() {}
  bool operator==(const Route&) const = default;

  Prefix destination;
  RouteKind kind = RouteKind::unicast;
  std::string link;
  std::uint32_t table = 254;
  /// Among routes with the same destination the lowest is taken; 0: the kernel's default. Part of a route's identity.
  std::uint32_t metric = 0;
};

/// A policy-routing rule: packets that came in by a link, or from a prefix, look into a table.
class RoutingRule {
 public:
  RoutingRule() {}
  bool operator==(const RoutingRule&) const = default;

  bool v6 = false;
  std::string incoming;          ///< interface name, or empty
  std::optional<Prefix> source;  ///< or none
  std::optional<Prefix> destination;
  std::uint32_t priority = 0;
  std::uint32_t table = 0;
};

/// Mark that the firewall sets on the connections of a lane address, so that they can be flushed in one request.
/// The last four bytes of the address as they lie in a packet, read as one integer of this machine, which is what
/// `ct mark set` stores when it copies them; of an IPv6 address the first of these is the lane's (`lane_mark`), since
/// lanes give away the same last bytes. Never 0. Within a family no two lane addresses share a mark, unless those of
/// one IPv6 pool lie 2^24 apart: addresses are given away from its beginning.
TORNADO_API std::uint32_t connection_mark(const Address& lane_address, const Lane& lane) noexcept;
/// Of the name alone; 128 to 255.
TORNADO_API std::uint8_t lane_mark(const Lane& lane) noexcept;

/// Seam: links, addresses, routes, rules, sysctls and connection tracking of this network namespace.
///
/// `ensure_*` are idempotent, `remove_*` succeed if the thing is absent (a route or an address of a missing link is).
/// Loop thread; operations carry a deadline of 5 s. Errors: invalid_argument, interface_missing, permission_denied
/// (CAP_NET_ADMIN is missing), backend_failed with the kernel's text, deadline_exceeded, cancelled.
class TORNADO_API Host {
 public:
  virtual ~Host() = default;
  virtual Task<std::vector<Link>> links() = 0;
  virtual Task<void> remove_link(std::string name) = 0;  ///< absent: success
  /// Makes a link of a kind that needs no further parameters, such as "wireguard"; one that is there is left as it is.
  /// Errors: failed_precondition (the kernel knows no such kind: the module is not there), already_exists (a link of
  /// another kind has the name), invalid_argument. Default: unimplemented.
  virtual Task<void> ensure_link(std::string name, std::string kind);
  /// The same link by another name. One that is up is taken down for it where the kernel wants that, and loses what a
  /// link that goes down loses. Errors: already_exists (a link has that name). Default: unimplemented.
  virtual Task<void> rename_link(std::string name, std::string becomes);
  virtual Task<void> set_link(std::string name, bool up, std::optional<std::uint32_t> mtu) = 0;
  virtual Task<std::vector<LinkAddress>> addresses() = 0;
  virtual Task<void> ensure_address(LinkAddress address) = 0;
  virtual Task<void> remove_address(LinkAddress address) = 0;  ///< absent: success
  /// Takes the place of a route with the same destination in the same table.
  virtual Task<void> ensure_route(Route route) = 0;
  virtual Task<void> remove_route(Route route) = 0;
  virtual Task<void> ensure_rule(RoutingRule rule) = 0;
  virtual Task<void> remove_rule(RoutingRule rule) = 0;
  /// Routes of one kind in one table, of both families. A route of another kind or of a form that `Route` cannot say is
  /// left out, and a metric that is the kernel's default is 0. Default: unimplemented.
  virtual Task<std::vector<Route>> list_routes(std::uint32_t table, RouteKind kind);
  /// Rules of both families that look into a table; those with conditions that `RoutingRule` cannot say are left out.
  /// Default: unimplemented.
  virtual Task<std::vector<RoutingRule>> list_rules();
  /// As `ensure_sysctl` names it, without white space at its end. Errors: not_found. Default: unimplemented.
  virtual Task<std::string> read_sysctl(std::string name);
  /// `name` with slashes below /proc/sys: "net/ipv4/ip_forward". Writes only if the value differs.
  virtual Task<void> ensure_sysctl(std::string name, std::string value) = 0;
  /// Deletes the tracked connections of that address of a lane, in one request by mark and family, which the kernel
  /// executes off the loop. Errors: invalid_argument for the unspecified address.
  virtual Task<void> flush_connections(Address address, Lane lane) = 0;
  /// Deletes the tracked connections whose first packet came from an address of a lane's pool, and no others: nothing
  /// that stood before a change of policy goes on by it (I-25). IPv4 pools of /16 and longer: those the firewall has
  /// marked (`connection_mark`), in one request, which the kernel executes off the loop. Others are looked for among
  /// all connections of their family and deleted one by one; meanwhile the loop goes on. Errors: invalid_argument for
  /// a pool without a network part. Default: unimplemented.
  virtual Task<void> flush_network(Prefix pool);
  /// Waits until a link, an address or a routing rule changed since the revision the caller has seen; returns the new
  /// revision. Starts at 1, so that `changed(0)` returns at once. Several changes may be one, and one of our own
  /// counts. Errors: cancelled.
  virtual Task<std::uint64_t> changed(std::uint64_t since) = 0;
};

/// In memory, for simulations and dry runs.
class TORNADO_API MemoryHost final : public Host {
 public:
  explicit MemoryHost(Runtime& runtime, std::vector<std::string> links = {});
  ~MemoryHost() override;
  Task<std::vector<Link>> links() override;
  Task<void> remove_link(std::string name) override;
  Task<void> ensure_link(std::string name, std::string kind) override;
  Task<void> rename_link(std::string name, std::string becomes) override;
  Task<void> set_link(std::string name, bool up, std::optional<std::uint32_t> mtu) override;
  Task<std::vector<LinkAddress>> addresses() override;
  Task<void> ensure_address(LinkAddress address) override;
  Task<void> remove_address(LinkAddress address) override;
  Task<void> ensure_route(Route route) override;
  Task<void> remove_route(Route route) override;
  Task<void> ensure_rule(RoutingRule rule) override;
  Task<void> remove_rule(RoutingRule rule) override;
  Task<std::vector<Route>> list_routes(std::uint32_t table, RouteKind kind) override;
  Task<std::vector<RoutingRule>> list_rules() override;
  Task<std::string> read_sysctl(std::string name) override;
  Task<void> ensure_sysctl(std::string name, std::string value) override;
  Task<void> flush_connections(Address address, Lane lane) override;
  Task<void> flush_network(Prefix pool) override;
  Task<std::uint64_t> changed(std::uint64_t since) override;

  /// Every address that was flushed, in order.
  const std::vector<Address>& flushed() const noexcept;
  /// Every pool that was flushed, in order.
  const std::vector<Prefix>& flushed_networks() const noexcept;
  const std::vector<Route>& routes() const noexcept;
  const std::vector<RoutingRule>& rules() const noexcept;
  /// Empty if it was never written.
  std::string sysctl(const std::string& name) const;
  /// How often somebody asked for a change, needed or not.
  std::uint64_t writes() const noexcept;
  void create_link(const std::string& name, const std::string& kind = {});
  /// The next `count` mutations fail with `code` and change nothing.
  void fail_next(int count, errc code);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// rtnetlink(7), conntrack over nfnetlink, and /proc/sys of the namespace the process lives in.
TORNADO_API std::unique_ptr<Host> netlink_host(Runtime& runtime);

}  // namespace tornado::inline v1
