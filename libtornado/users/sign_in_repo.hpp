#pragma once

#include <optional>
#include <string>

#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// A refresh-token family as stored: who, and the claims of its newest pair of tokens. Tokens are never stored.
class SignIn {
 public:
  SignIn() {}
  SignInId id;
  UserId user;
  DeviceId device;
  std::uint64_t generation = 1;
  std::string access_jti, refresh_jti;
  Instant issued, expires;
  bool revoked = false;
};

namespace sign_in_repo {

Result<void> insert(Tx& tx, const SignIn& sign_in, std::string_view address, Instant now);
Result<SignIn> get(Tx& tx, const SignInId& id);
/// Writes a newer generation over the one the caller has read; false: somebody else was first.
Result<bool> advance(Tx& tx, const SignIn& next, std::uint64_t from_generation, std::string_view address);
/// When the newest tokens were signed; default: none are known.
Result<Instant> last_issued(Tx& tx);
Result<void> revoke(Tx& tx, const SignInId& id, Instant now);
Result<void> revoke_device(Tx& tx, const DeviceId& device, Instant now);
Result<void> revoke_user(Tx& tx, const UserId& user, Instant now);

}  // namespace sign_in_repo
}  // namespace tornado::inline v1
