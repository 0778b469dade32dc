#pragma once

#include <optional>
#include <string_view>

#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// The public half of a raw X25519 private key (RFC 7748); nothing unless it has 32 bytes.
std::optional<PublicKey> public_key_of(std::string_view private_key);

/// The preshared key of a peer as an interface gives it back; nothing if it is all zero.
std::optional<Secret> preshared_key_of(std::string_view raw);

/// What every implementation refuses before it touches anything. Errors: invalid_argument.
Result<void> check_keys(const InterfaceChange& change);

}  // namespace tornado::inline v1
