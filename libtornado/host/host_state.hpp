#pragma once

#include "tornado/host.hpp"

namespace tornado::inline v1 {

/// What every Host refuses before it touches anything. Errors: invalid_argument.
Result<void> check_link(const std::string& name, const std::string& kind);
Result<void> check(const LinkAddress& address);
Result<void> check(const Route& route);
Result<void> check(const RoutingRule& rule);
Result<void> check_network(const Prefix& pool);
Result<void> check_lane_address(const Address& address);
/// No empty component, no "..": the name cannot leave /proc/sys.
Result<void> check_sysctl(const std::string& name);

/// A link with the name is there: success if it is of that kind. Errors: already_exists.
Result<void> check_kind(const Link& link, const std::string& kind);

/// A route takes the place of another one with the same destination in the same table.
bool same_place(const Route& a, const Route& b) noexcept;

}  // namespace tornado::inline v1
