#pragma once

#include <cstdint>
#include <string>

namespace tornado::inline v1 {

/// Deletes every tracked connection, of both families, whose mark is exactly `mark`. Not for mark 0: that is
/// everybody else's.
std::string delete_connections(std::uint32_t mark);

}  // namespace tornado::inline v1
