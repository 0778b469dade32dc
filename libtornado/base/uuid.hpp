#pragma once

#include <string>
#include <string_view>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// RFC 9562 version 4, lower case with hyphens.
std::string uuid4();
/// RFC 9562 version 7: sorts by the given time.
std::string uuid7(Instant now);
bool is_uuid(std::string_view text) noexcept;
/// Cryptographically secure bytes.
std::string random_bytes(std::size_t count);

}  // namespace tornado::inline v1
