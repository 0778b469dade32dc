#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tornado/error.hpp"
#include "tornado/secret.hpp"

struct evp_pkey_st;

namespace tornado::inline v1 {

/// An RSA key for RS256 (RFC 7518 section 3.3), parsed once. Immutable; any thread.
class RsaKey {
 public:
  static Result<RsaKey> generate();  ///< 2048 bits, e = 65537; some 100 ms
  static Result<RsaKey> from_private_pem(const Secret& pem);
  static Result<RsaKey> from_public_pem(std::string_view pem);

  Secret private_pem() const;  ///< PKCS#8
  std::string public_pem() const;
  /// RFC 7638 thumbprint, base64url.
  const std::string& thumbprint() const noexcept { return thumbprint_; }
  /// Members of an RFC 7517 key: "kty", "n", "e".
  std::string jwk_members() const;
  bool can_sign() const noexcept { return private_; }
  Result<std::string> sign(std::string_view message) const;
  bool verify(std::string_view message, std::string_view signature) const;

 private:
  static Result<RsaKey> adopt(evp_pkey_st* key, bool is_private);
  std::shared_ptr<evp_pkey_st> key_;
  std::string thumbprint_;
  bool private_ = false;
};

/// The parts of a compact JWS (RFC 7515 section 7.1), views into the token.
struct Jws {
  std::string_view signing_input, payload, signature;
  std::string algorithm, key_id;
};

/// token_invalid: not three parts, no JSON header, no `alg`; nothing is verified here.
Result<Jws> parse_jws(std::string_view token);

}  // namespace tornado::inline v1
