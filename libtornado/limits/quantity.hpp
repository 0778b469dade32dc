#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// "20 Mbit/s", "500 kbit/s", "1 Gbit/s": bytes a second. Units of 1,000. Errors: invalid_argument.
Result<std::uint64_t> parse_rate(std::string_view text);
/// "50 GB" (units of 1,000), "50 GiB" (of 1,024); MB to TB, MiB to TiB: bytes. Errors: invalid_argument.
Result<std::uint64_t> parse_volume(std::string_view text);

/// The largest unit of 1,000 that has a digit before the point: "12.3 GB", "2.5 Mbit/s".
std::string volume_text(std::uint64_t bytes);
std::string rate_text(std::uint64_t bytes_per_second);

}  // namespace tornado::inline v1
