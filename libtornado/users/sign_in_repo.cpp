#include "users/sign_in_repo.hpp"

#include "base/try.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::sign_in_repo {

Result<void> insert(Tx& tx, const SignIn& s, std::string_view address, Instant now) {
  TRY_VOID_PLAIN(tx.exec(
      "INSERT INTO auth_sessions (id, user_id, device_id, generation, access_jti, refresh_jti, issued_ms, expires_ms, "
      "ip_address, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
      {s.id.str(), s.user.str(), s.device.str(), std::to_string(s.generation), s.access_jti, s.refresh_jti,
       ms(s.issued), ms(s.expires), address.empty() ? Value() : Value(std::string(address)), iso8601(s.expires),
       iso8601(now)}));
  return {};
}

Result<SignIn> get(Tx& tx, const SignInId& id) {
  TRY_PLAIN(auto rows, tx.exec("SELECT user_id, device_id, generation, access_jti, refresh_jti, issued_ms, expires_ms, "
                               "revoked_at FROM auth_sessions WHERE id = $1",
                               {id.str()}));
  if (rows.empty()) return Error(errc::not_found, "no such sign-in");
  const auto& row = rows[0];
  SignIn s;
  s.id = id;
  s.user = UserId(text(row[0]));
  s.device = DeviceId(text(row[1]));
  s.generation = static_cast<std::uint64_t>(integer(row[2]));
  s.access_jti = text(row[3]);
  s.refresh_jti = text(row[4]);
  s.issued = instant_ms(row[5]);
  s.expires = instant_ms(row[6]);
  s.revoked = row[7].has_value();
  return s;
}

Result<bool> advance(Tx& tx, const SignIn& next, std::uint64_t from_generation, std::string_view address) {
  TRY_PLAIN(auto rows,
            tx.exec("UPDATE auth_sessions SET generation = $2, access_jti = $3, refresh_jti = $4, issued_ms = $5, "
                    "expires_ms = $6, expires_at = $7, ip_address = $9 "
                    "WHERE id = $1 AND generation = $8 AND revoked_at IS NULL RETURNING generation",
                    {next.id.str(), std::to_string(next.generation), next.access_jti, next.refresh_jti, ms(next.issued),
                     ms(next.expires), iso8601(next.expires), std::to_string(from_generation), std::string(address)}));
  return !rows.empty();
}

Result<Instant> last_issued(Tx& tx) {
  TRY_PLAIN(auto rows, tx.exec("SELECT max(issued_ms) FROM auth_sessions WHERE revoked_at IS NULL"));
  return rows.empty() ? Instant() : instant_ms(rows[0][0]);
}

Result<void> revoke(Tx& tx, const SignInId& id, Instant now) {
  TRY_VOID_PLAIN(tx.exec("UPDATE auth_sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
                         {id.str(), iso8601(now)}));
  return {};
}

Result<void> revoke_device(Tx& tx, const DeviceId& device, Instant now) {
  TRY_VOID_PLAIN(tx.exec("UPDATE auth_sessions SET revoked_at = $2 WHERE device_id = $1 AND revoked_at IS NULL",
                         {device.str(), iso8601(now)}));
  return {};
}

Result<void> revoke_user(Tx& tx, const UserId& user, Instant now) {
  TRY_VOID_PLAIN(tx.exec("UPDATE auth_sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL",
                         {user.str(), iso8601(now)}));
  return {};
}

}  // namespace tornado::inline v1::sign_in_repo
