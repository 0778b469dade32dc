#include "auth/tokens.hpp"

#include "base/json.hpp"

namespace tornado::inline v1 {

std::string TokenClaims::common(std::string_view jti, std::string_view type, Seconds term,
                                std::string_view rest) const {
  auto issued = std::chrono::duration_cast<Seconds>(sign_in_.issued.time_since_epoch()).count();
  boost::json::object claims;
  claims["iss"] = options_.issuer;
  claims["aud"] = options_.audience;
  claims["sub"] = account_.user.str();
  claims["device_id"] = account_.device.str();
  claims["jti"] = jti;
  claims["type"] = type;
  if (!rest.empty()) claims["scope"] = rest;
  claims["iat"] = issued;
  claims["nbf"] = issued;
  claims["exp"] = issued + term.count();
  claims["fam"] = sign_in_.id.str();
  claims["gen"] = sign_in_.generation;
  claims["ue"] = account_.user_epoch;
  claims["de"] = account_.device_epoch;
  return to_json(claims);
}

std::string TokenClaims::access() const {
  return common(sign_in_.access_jti, "access", options_.access_term, "user");
}
std::string TokenClaims::refresh() const {
  return common(sign_in_.refresh_jti, "refresh", options_.refresh_term, "");
}

Result<Claims> read_claims(const std::string& text, std::string_view type, const AuthOptions& options) {
  auto parsed = parse_json(text);
  if (!parsed || !parsed->is_object()) return Error(errc::token_invalid, "claims are not a JSON object");
  const auto& object = parsed->get_object();
  auto string = [&](std::string_view key) { return text_at(object, key).value_or(std::string()); };
  auto number = [&](std::string_view key) { return integer_at(object, key).value_or(-1); };
  if (string("iss") != options.issuer) return Error(errc::token_invalid, "wrong issuer");
  if (string("aud") != options.audience) return Error(errc::token_invalid, "wrong audience");
  if (string("type") != type) return Error(errc::token_type, "wrong_token_type");
  Claims claims;
  claims.user = UserId(string("sub"));
  claims.device = DeviceId(string("device_id"));
  claims.sign_in = SignInId(string("fam"));
  claims.jti = string("jti");
  if (claims.user.empty() || claims.device.empty() || claims.sign_in.empty() || claims.jti.empty())
    return Error(errc::token_invalid, "sub, device_id, fam or jti is missing");
  if (number("gen") < 0 || number("ue") < 0 || number("de") < 0)
    return Error(errc::token_invalid, "gen, ue or de is missing");
  claims.generation = static_cast<std::uint64_t>(number("gen"));
  claims.user_epoch = static_cast<std::uint64_t>(number("ue"));
  claims.device_epoch = static_cast<std::uint64_t>(number("de"));
  constexpr std::int64_t year_9999 = 253'402'300'799;  // beyond it milliseconds overflow
  for (const char* time : {"iat", "exp"})
    if (number(time) < 0 || number(time) > year_9999) return Error(errc::token_invalid, "iat or exp is out of range");
  claims.issued = Instant(Seconds(number("iat")));
  claims.expires = Instant(Seconds(number("exp")));
  return claims;
}

}  // namespace tornado::inline v1
