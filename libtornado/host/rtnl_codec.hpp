#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/netlink_codec.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {

/// Requests and answers of rtnetlink(7).
namespace rtnl {

std::string list_links();
std::string get_link(const std::string& name);
/// Refused with EEXIST if the name is taken, with EOPNOTSUPP if the kernel does not know the kind.
std::string add_link(const std::string& name, const std::string& kind);
std::string set_link(int index, bool up, std::optional<std::uint32_t> mtu);
/// Refused with EEXIST if the name is taken, by some kernels with EBUSY while the link is up.
std::string rename_link(int index, const std::string& becomes);
std::string remove_link(int index);

std::string list_addresses();
/// Refused with EEXIST if it is there: to replace it would be told to everybody as a change.
std::string add_address(int index, const LinkAddress& address);
std::string remove_address(int index, const LinkAddress& address);

/// `index` counts for unicast routes only.
std::string put_route(int index, const Route& route);
std::string remove_route(int index, const Route& route);

/// A kernel before 4.20 answers with every route of the family.
std::string list_routes(bool v6, std::uint32_t table, RouteKind kind);

std::string list_rules(bool v6);
std::string add_rule(const RoutingRule& rule);
std::string remove_rule(const RoutingRule& rule);

/// An address as the kernel lists it: with an index in place of the link's name.
class ListedAddress {
 public:
  ListedAddress() {}
  int index = 0;
  LinkAddress address;
};

/// A route likewise; the index is 0 for kinds without a link.
class ListedRoute {
 public:
  ListedRoute() {}
  int index = 0;
  Route route;
};

/// Nothing: a message of another type, or one without a name. Errors: protocol_error.
Result<std::optional<Link>> decode_link(const NetlinkMessage& message);
/// Nothing: a message of another type or family. Errors: protocol_error.
Result<std::optional<ListedAddress>> decode_address(const NetlinkMessage& message);
/// Nothing: a message of another type, or a route that `Route` cannot say. Errors: protocol_error.
Result<std::optional<ListedRoute>> decode_route(const NetlinkMessage& message);
/// Nothing: a message of another type, or a rule that `RoutingRule` cannot say. Errors: protocol_error.
Result<std::optional<RoutingRule>> decode_rule(const NetlinkMessage& message);

}  // namespace rtnl
}  // namespace tornado::inline v1
