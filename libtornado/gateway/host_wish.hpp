#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tornado/host.hpp"

namespace tornado::inline v1 {

/// Links, addresses, routes, rules and sysctls that a host should have, and what it lacks of them.
class HostWish {
 public:
  HostWish() {}
  bool empty() const noexcept {
    return routes.empty() && rules.empty() && links.empty() && addresses.empty() && sysctls.empty();
  }

  /// A link that should be up, with its MTU.
  class Link {
   public:
    Link(std::string name_, std::uint32_t mtu_) : name(std::move(name_)), mtu(mtu_) {}
    std::string name;
    std::uint32_t mtu;
  };

  std::vector<Route> routes;  ///< in the order in which they are added, before the rules that look them up
  std::vector<RoutingRule> rules;
  std::vector<Link> links;
  std::vector<LinkAddress> addresses;
  std::vector<std::pair<std::string, std::string>> sysctls;
};

/// The link with that name, if it is among them.
const Link* link_named(const std::vector<Link>& links, const std::string& name);

/// What of a wish is not so now; reads, and changes nothing. A link that is not there is lacking, with its addresses.
/// Both arguments outlive the task. Errors: those of Host.
Task<HostWish> lacking(Host& host, const HostWish& wanted);
/// In words, one line for each: "wg0 has no address 10.8.0.1/24". The same.
Task<std::vector<std::string>> lacking_in_words(Host& host, const HostWish& wanted);

/// Only what is not so is set. Routes come first. Ends at the first failure. The same.
Task<void> fulfil(Host& host, const HostWish& wanted);

}  // namespace tornado::inline v1
