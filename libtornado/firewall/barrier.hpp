#pragma once

#include <cstdint>
#include <vector>

#include "tornado/firewall.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {

/// Priorities of the rules of every barrier: right behind the table of local addresses (0), through which redirected
/// packets and those for the API are delivered, and before anything a VPN or an operator usually adds.
inline constexpr std::uint32_t barrier_link_priority = 100;    ///< packets that came in by the lane's link
inline constexpr std::uint32_t barrier_own_priority = 101;     ///< our own packets, from the lane to the lane
inline constexpr std::uint32_t barrier_source_priority = 102;  ///< other packets from an address of the lane's pools
/// Metric of the blackhole that takes over where the link has no route for a pool.
inline constexpr std::uint32_t pool_end_metric = 0x7fffffff;

/// Routing table of the barrier of the lane with that place in the configuration. Each lane has one of its own, for the
/// rest of a table of two lanes would let one reach the other.
constexpr std::uint32_t barrier_table(std::uint32_t index) noexcept {
  return 51900 + index;
}

/// The second barrier of a lane whose packets may never be forwarded (I-20). Policy routing sends whatever comes in by
/// the lane's link, or carries an address of its pools, into a blackhole; only what this host itself says to an address
/// of the pools finds its way, and where the link is down or has lost its route not even that (see `pool_end`). It
/// needs neither nftables nor this process: it holds with the ruleset flushed, with the link renamed (the rule by pool;
/// foreign sources are WireGuard's to refuse), and with forwarding toggled. Not for mode `open`.
class Barrier {
 public:
  Barrier() {}
  bool operator==(const Barrier&) const = default;

  std::vector<Route> routes;       ///< in the order in which they are added
  std::vector<RoutingRule> rules;  ///< likewise, after the routes
};

/// Both families always: without an IPv6 pool all IPv6 that comes in by the link ends in the blackhole. Pure.
Barrier barrier(const LanePolicy& lane, std::uint32_t table);

/// The end of a lane's pools, for lanes of every mode: a link that goes down takes the route of its pool with it, and
/// what is still said to a device, or from one device to another, would follow the default route in clear. Routes only.
Barrier pool_end(const LanePolicy& lane);

/// Ensures a barrier; may be repeated at any time and then changes nothing. Routes come before the rules that look them
/// up, so that no step lets out what was kept in before. The link need
/// not exist. Ends at the first failure; what was added until then stays. Both arguments outlive the task. Loop thread.
/// Errors: those of Host.
Task<void> raise(Host& host, const Barrier& barrier);

/// Takes a barrier away, rules first; absent: success. After the link, and before the table of nftables, at teardown
/// (I-21). Ends at the first failure. Both arguments outlive the task. Loop thread. Errors: those of Host.
Task<void> lower(Host& host, const Barrier& barrier);

}  // namespace tornado::inline v1
