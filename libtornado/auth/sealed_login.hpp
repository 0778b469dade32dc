#pragma once

#include "tornado/auth.hpp"

namespace tornado::inline v1 {

/// Opens a sealed login (contract 1.3): X25519, HKDF-SHA256, AES-256-GCM, JSON. Pure. The replay id of the result is
/// the SHA-256 of the derived AES key, because an ephemeral key has a second encoding that opens the same envelope
/// (I-15). Errors: invalid_envelope, missing_fields.
Result<Credentials> open_sealed_login(const Sealed& sealed, const KeyRing& ring, Instant now);

/// The client's side: seals credentials for a login key. For the device client, tools and tests. key_invalid: a login
/// key of low order, with which anybody could open the envelope.
Result<Sealed> seal_login(const PublicKey& login_key, std::string_view name, const Secret& password);

}  // namespace tornado::inline v1
