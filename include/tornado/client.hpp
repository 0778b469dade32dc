#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/error.hpp"
#include "tornado/export.hpp"
#include "tornado/secret.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// A sign-in as the client API answers it (contract 1.2).
class DeviceLogin {
 public:
  DeviceLogin() {}
  UserId user;
  std::string username, email;
  DeviceId device;
  Secret access_token, refresh_token;
};

/// The way into one lane.
class DeviceLane {
 public:
  DeviceLane() {}
  Lane lane;
  Address address;
  std::optional<Address> address6;
  std::string endpoint;  ///< "host:port"; clients replace the host by the one they reach the API at (K-03)
  PublicKey server_key;
};

/// What a device needs to bring its tunnel up.
class DeviceTunnel {
 public:
  DeviceTunnel() {}
  const DeviceLane* on(std::string_view lane) const noexcept {
    for (const auto& entry : lanes)
      if (entry.lane.str() == lane) return &entry;
    return nullptr;
  }
  std::vector<DeviceLane> lanes;
  /// Of the gateway's peer on every lane, 32 raw bytes; nothing: it was not asked for, or the gateway gives none.
  std::optional<Secret> preshared_key;
  Seconds heartbeat_ttl{90}, hard_ttl{1296000};
};

/// The device's side of the client API (contract section 1) over plain HTTP: tools, tests, later the device client.
///
/// Blocking; no Runtime, no coroutines; every call has a connection of its own. One thread at a time. Tokens are kept
/// and used by the calls that need them. Errors of all calls: unavailable (nobody answers, or the gateway is in
/// doubt), deadline_exceeded, protocol_error; refusals have the code that belongs to the answer's `detail`, the detail
/// itself as text, and the HTTP status in `last_status`.
class TORNADO_API DeviceClient {
 public:
  /// `base_url` is "host", "host:port" or "http://host:port"; the port defaults to 4605 (K-01). `timeout_seconds`
  /// bounds every call, 1 to 3600. Throws std::invalid_argument for anything else.
  explicit DeviceClient(std::string_view base_url, int timeout_seconds = 10);
  ~DeviceClient();
  DeviceClient(DeviceClient&&) noexcept;

  /// The key logins are sealed for.
  Result<PublicKey> pubkey();
  /// Fetches the key, seals the credentials, signs in. Errors: invalid_credentials, user_inactive, device_limit,
  /// throttled, invalid_envelope.
  Result<DeviceLogin> login(std::string_view username_or_email, const Secret& password);
  /// Exchanges the refresh token; both tokens are new then (K-11). Errors: token_invalid, token_expired, token_reused,
  /// revoked, token_missing (not signed in).
  Result<void> reauth();
  /// Ends the sign-in and forgets the tokens.
  Result<void> logout();
  /// A session for this WireGuard key, with a preshared key if one is asked for and given. Errors: key_invalid,
  /// key_in_use, pool_exhausted, backend_failed, and those of tokens.
  Result<DeviceTunnel> initiate(const PublicKey& key, bool preshared_key = false);
  /// True: the session had been offline and is back. session_expired: there is none.
  Result<bool> heartbeat();
  /// Ends the session; the sign-in stays. session_expired: there is none.
  Result<void> disconnect();
  /// The user the access token belongs to.
  Result<UserId> verify();
  /// The gateway works, all its parts included. unavailable: it starts, or a part is missing.
  Result<void> health();

  bool signed_in() const noexcept;
  /// HTTP status of the last answer; 0: none came.
  int last_status() const noexcept;
  std::string_view refresh_token() const noexcept;
  /// Takes up a sign-in that was kept somewhere.
  void resume(Secret access_token, Secret refresh_token);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
