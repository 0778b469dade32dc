#pragma once

#include "tornado/host.hpp"

namespace tornado::inline v1 {

/// What every Host refuses before it touches anything. Errors: invalid_argument.
Result<void> check(const LinkAddress& address);
Result<void> check(const Route& route);
Result<void> check(const RoutingRule& rule);
Result<void> check_network(const Prefix& pool);
/// No empty component, no "..": the name cannot leave /proc/sys.
Result<void> check_sysctl(const std::string& name);

/// A route takes the place of another one with the same destination in the same table.
bool same_place(const Route& a, const Route& b) noexcept;

}  // namespace tornado::inline v1
