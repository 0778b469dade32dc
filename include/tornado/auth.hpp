#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/key_rotator.hpp"
#include "tornado/live_store.hpp"
#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// A sealed login as it comes over the wire: base64 texts (contract 1.3).
class Sealed {
 public:
  Sealed(std::string ephemeral_pubkey_, std::string iv_, std::string ciphertext_)
      : ephemeral_pubkey(std::move(ephemeral_pubkey_)), iv(std::move(iv_)), ciphertext(std::move(ciphertext_)) {}
  std::string ephemeral_pubkey, iv, ciphertext;
};

/// What was inside.
class Credentials {
 public:
  Credentials(std::string name_, Secret password_) : name(std::move(name_)), password(std::move(password_)) {}
  std::string name;
  Secret password;
  std::string replay_id;  ///< identifies the envelope it came in; empty: no envelope
};

/// An access and a refresh token.
class Tokens {
 public:
  Tokens() {}
  Secret access, refresh;
  std::string access_jti, refresh_jti;
  Instant access_expires, refresh_expires;
};

/// A new sign-in.
class Login {
 public:
  Login() {}
  User user;
  Device device;
  Tokens tokens;
  std::vector<DeviceId> evicted;  ///< devices that gave up their slot; their sessions must be closed
};

/// A refreshed sign-in.
class Refreshed {
 public:
  Refreshed() {}
  UserId user;
  DeviceId device;
  Tokens tokens;
};

/// What a verified token says.
class Claims {
 public:
  Claims() {}
  UserId user;
  DeviceId device;
  SignInId sign_in;
  std::string jti;
  std::uint64_t user_epoch = 0, device_epoch = 0, generation = 0;
  Instant issued, expires;
};

class TORNADO_API AuthOptions {
 public:
  AuthOptions() {}
  std::string issuer = "tornado-vpn.local", audience = "tornado-vpn-users";
  ThrottleRule address_throttle;  ///< per source address
  ThrottleRule account_throttle = twenty_failures();
  Seconds access_term{900}, refresh_term{604800};
  Seconds retry_window{30};     ///< a lost refresh answer is given again for this long (I-14)
  Seconds offline_grace{3600};  ///< how long tokens are renewed without a store (I-11)
  Seconds store_patience{8};    ///< how long a refresh waits for the store first
  Seconds hashing_patience{8};  ///< most time a login may wait for its hash (I-16)

 private:
  static ThrottleRule twenty_failures() {
    ThrottleRule rule;
    rule.limit = 20;
    return rule;
  }
};

/// The only door where a sign-in begins, whatever proved it.
///
/// Loop thread unless said otherwise. Errors of all tasks besides those named: store_unavailable, overloaded.
class TORNADO_API Auth {
 public:
  Auth(Runtime& runtime, Users& users, LiveStore& live, const KeyRotator& keys, AuthOptions options = AuthOptions());
  ~Auth();

  /// Opens an envelope. No I/O; any thread. Errors: invalid_envelope for every fault, missing_fields (empty name or
  /// password inside).
  Result<Credentials> unseal(const Sealed& sealed) const;
  /// Checks throttles, replay and password. An unknown account costs the same time as a known one, and throttles count
  /// what was typed, so that nothing tells whether an account exists or a name and an e-mail address are one (D-020).
  /// Errors: invalid_envelope (replayed), throttled (detail: seconds to wait), invalid_credentials, user_inactive,
  /// overloaded.
  Task<User> verify(Address source, Credentials credentials);
  /// Sign-ins that wait for their turn to be hashed.
  std::size_t waiting() const noexcept;
  /// Counts a malformed envelope against its source (D-029).
  Task<void> malformed(Address source);
  /// Registers a device and its first refresh family, in one transaction with the slot (I-07). device_limit: every
  /// slot is taken by an online device; user_inactive: suspended meanwhile. `source` is what the sign-in and the
  /// account remember as the client's address; a renewal moves it.
  Task<Login> issue(User user, std::string device_label, std::optional<Address> source = std::nullopt);
  /// Signature, time and type of an access token. No I/O; verified tokens are remembered. Errors: token_missing,
  /// token_invalid, token_expired, token_type.
  Result<Claims> check(std::string_view access_token) const;
  /// Account and device of a token as they are now. Errors: user_inactive (suspended or deleted), revoked (signed out,
  /// or epochs differ).
  Task<Account> authorize(Claims claims);
  /// The same without waiting; empty if it cannot be told from memory.
  std::optional<Result<Account>> authorized(const Claims& claims) const;
  /// Exchanges a refresh token, once; within `retry_window` the same token gives the same answer again. Errors:
  /// token_invalid, token_expired, token_type, token_reused (the family is revoked), revoked, user_inactive.
  Task<Refreshed> refresh(Address source, std::string refresh_token);
  /// Ends a sign-in: any validly signed token of the family will do, consumed or expired (I-14).
  Task<Device> revoke(std::string refresh_token);

  /// Who is online decides which device gives up its slot; asked on the loop.
  void online_devices(std::function<std::vector<DeviceId>(const UserId&)> ask);
  /// What `token_reused` found: the gateway closes the device's session.
  void on_reuse(std::function<void(const DeviceId&)> tell);
  /// A change that ends the access of a device failed, for all that is known: the gateway looks again.
  void on_doubt(std::function<void(const DeviceId&)> tell);
  /// At start: learns when the newest token was signed, so that a clock set back meanwhile refuses none of them.
  Task<void> restore();
  /// Once a second: gives the memory of idle hashing arenas back and watches the clock.
  void trim();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
