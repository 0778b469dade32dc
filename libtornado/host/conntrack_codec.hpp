#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/netlink_codec.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Deletes every tracked connection of one family whose mark is exactly `mark`. Not for mark 0: that is everybody
/// else's.
std::string delete_connections(std::uint32_t mark, bool v6);

/// Deletes every tracked IPv4 connection whose mark is that of an address of an IPv4 pool.
std::string delete_connections(const Prefix& pool);

/// The tracked connections of one family.
std::string list_connections(bool v6);

/// A listed connection; views into its message.
class TrackedConnection {
 public:
  TrackedConnection() {}
  Address source;  ///< of its first packet
  std::uint8_t family = 0;
  std::string_view tuple, zone, id;
};
/// Nothing: another message. Errors: protocol_error.
Result<std::optional<TrackedConnection>> decode_connection(const NetlinkMessage& message);

/// Deletes that connection, and no later one that looks the same.
std::string delete_connection(const TrackedConnection& connection);

}  // namespace tornado::inline v1
