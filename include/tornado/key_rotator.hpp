#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"
#include "tornado/secret.hpp"

namespace tornado::inline v1 {

enum class KeyUse : std::uint8_t { access, refresh, login };

TORNADO_API std::string_view name(KeyUse use) noexcept;

/// A key as it may be shown.
class KeyInfo {
 public:
  KeyInfo() {}
  std::string id;  ///< RFC 7638 thumbprint for signing keys
  KeyUse use = KeyUse::access;
  Instant created;
  Instant signs_from;      ///< default: verifies only
  Instant verifies_until;  ///< default: no end yet
  bool signs = false;
};

/// The keys at one moment. Immutable; any thread; holds its keys as long as it is held.
class TORNADO_API KeyRing {
 public:
  virtual ~KeyRing() = default;
  /// A compact JWS (RFC 7515) with RS256 (RFC 7518) and `kid`. About 0.7 ms of CPU: not for the loop.
  /// Errors: failed_precondition (no such key, or `login`).
  virtual Result<std::string> sign(KeyUse use, std::string_view claims_json) const = 0;
  /// Checks signature, `kid`, `exp`, and `iat` and `nbf` with a leeway of 60 s (I-14), and returns the claims.
  /// Errors: token_invalid naming the check, token_expired. `ignore_expiry` is for logging out; `set_back` is how far
  /// the clock has been set back since tokens that may still be good were signed, and adds to the leeway.
  virtual Result<std::string> verify(KeyUse use, std::string_view token, Instant now, bool ignore_expiry = false,
                                     Seconds set_back = Seconds(0)) const = 0;
  /// The X25519 key for sealed logins.
  virtual PublicKey login_key() const = 0;
  /// X25519 with the current login key and, within its time, the former one; in this order. 32 bytes each.
  /// Errors: key_invalid (all-zero result).
  virtual std::vector<Secret> agree(const PublicKey& ephemeral, Instant now) const = 0;
  /// Public signing keys, RFC 7517.
  virtual std::string jwks() const = 0;
};

class TORNADO_API KeyOptions {
 public:
  explicit KeyOptions(std::string directory_) : directory(std::move(directory_)) {}
  std::string directory;     ///< made with mode 0700; the set is one file of mode 0600
  Seconds every{86400};      ///< period of rotation, at least 60
  Seconds access_term{900};  ///< life of tokens: how long a key verifies after it stopped signing
  Seconds refresh_term{604800};
  Seconds lead{60};          ///< a new key is published this long before it signs (I-14)
  Seconds login_every{600};  ///< period of the login key, which lives in memory only (I-15)
  Seconds login_overlap{60};
};

/// Makes, stores and rotates the keys of one gateway.
///
/// The whole set is one versioned file that is replaced atomically and fsynced: a crash leaves the old set or the new
/// one. A key that stopped signing keeps its public half until the last token it signed has expired (D-003, D-026).
/// Loop thread, except `ring`.
class TORNADO_API KeyRotator {
 public:
  KeyRotator(Runtime& runtime, KeyOptions options);
  ~KeyRotator();

  /// Loads the keys, or makes them on first start. Errors: data_loss (the file is damaged, or the halves of a pair
  /// differ), store_unavailable (unreadable directory), disk_full.
  Task<void> open();
  /// Publishes a new key; it signs after the lead. A login key is replaced at once. Waits for a running rotation.
  Task<void> rotate(KeyUse use);
  /// The schedule, for ever; failures are logged and retried with backoff.
  Task<void> run();
  /// A new login key and no former one: replays of earlier logins cannot be told any more (I-15).
  Task<void> forget_login_keys();

  std::shared_ptr<const KeyRing> ring() const noexcept;  ///< any thread
  std::vector<KeyInfo> list() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
