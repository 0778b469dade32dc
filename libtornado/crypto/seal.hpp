#pragma once

#include <string>
#include <string_view>

#include "tornado/error.hpp"
#include "tornado/secret.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// An X25519 pair (RFC 7748).
class X25519Key {
 public:
  static X25519Key generate();
  static Result<X25519Key> from_private(std::string_view raw);
  const PublicKey& public_key() const noexcept { return public_; }
  const Secret& private_key() const noexcept { return private_; }
  /// 32 bytes. key_invalid: the result is all zero.
  Result<Secret> agree(const PublicKey& peer) const;

 private:
  X25519Key(Secret raw, PublicKey key) : private_(std::move(raw)), public_(key) {}
  Secret private_;
  PublicKey public_;
};

/// HKDF with SHA-256 (RFC 5869).
Secret hkdf_sha256(std::string_view key, std::string_view salt, std::string_view info, std::size_t length);

/// AES-256-GCM (NIST SP 800-38D). `ciphertext` ends in the 16-byte tag; `iv` is 8 to 64 bytes. invalid_envelope: the
/// tag is wrong or a size impossible.
Result<Secret> aes_gcm_open(const Secret& key, std::string_view iv, std::string_view ciphertext, std::string_view aad);
std::string aes_gcm_seal(const Secret& key, std::string_view iv, std::string_view plaintext, std::string_view aad);

std::string sha256(std::string_view bytes);

}  // namespace tornado::inline v1
