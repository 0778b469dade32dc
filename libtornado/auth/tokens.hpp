#pragma once

#include <string>
#include <string_view>

#include "tornado/auth.hpp"
#include "users/sign_in_repo.hpp"

namespace tornado::inline v1 {

/// What the tokens of one sign-in say: contract 1.5, and epochs, family and generation besides.
class TokenClaims {
 public:
  TokenClaims(const AuthOptions& options, const Account& account, const SignIn& sign_in)
      : options_(options), account_(account), sign_in_(sign_in) {}
  std::string access() const;
  std::string refresh() const;

 private:
  std::string common(std::string_view jti, std::string_view type, Seconds term, std::string_view rest) const;
  const AuthOptions& options_;
  const Account& account_;
  const SignIn& sign_in_;
};

/// Reads claims whose signature was checked. token_invalid naming the claim; token_type.
Result<Claims> read_claims(const std::string& json, std::string_view type, const AuthOptions& options);

}  // namespace tornado::inline v1
