#pragma once

#include <string>

#include "firewall/ruleset.hpp"

struct nftnl_expr;
struct nftnl_rule;

namespace tornado::inline v1::nft {

/// Translates the expressions of a rule into those of the kernel's virtual machine.
void append_expressions(nftnl_rule& out, const Rule& rule);

/// "limit rate over" so many bytes a second: matches what is too much. The rule or set it is added to frees it.
nftnl_expr* rate_limit(std::uint64_t rate);

/// An interface name as the kernel compares it: 16 bytes, filled with zeros.
std::string interface_key(const std::string& name);

}  // namespace tornado::inline v1::nft
