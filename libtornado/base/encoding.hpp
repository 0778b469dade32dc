#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tornado::inline v1 {

/// RFC 4648 section 4, with padding.
std::string base64(std::string_view bytes);
/// Canonical base64 with padding only: no other characters, no stray bits.
std::optional<std::string> from_base64(std::string_view text);
/// As the original's decoder: characters outside the alphabet are skipped, padding must be right (contract 1.3).
std::optional<std::string> from_base64_lenient(std::string_view text);
/// RFC 4648 section 5, without padding (RFC 7515).
std::string base64url(std::string_view bytes);
std::optional<std::string> from_base64url(std::string_view text);
std::string hex(std::string_view bytes);
std::optional<std::string> from_hex(std::string_view text);

}  // namespace tornado::inline v1
