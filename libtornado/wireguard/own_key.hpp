#pragma once

#include <optional>
#include <string_view>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// The public half of a raw X25519 private key (RFC 7748); nothing unless it has 32 bytes.
std::optional<PublicKey> public_key_of(std::string_view private_key);

}  // namespace tornado::inline v1
