// Tokens as clients send them. A first byte '!' takes the rest as claims whose signature was checked.
#include <cstdint>
#include <cstdlib>

#include "auth/tokens.hpp"
#include "base/encoding.hpp"
#include "crypto/jwt_codec.hpp"

using namespace tornado;

namespace {

void read_token(std::string_view token) {
  auto jws = parse_jws(token);
  if (!jws) {
    if (jws.error().code() != errc::token_invalid) std::abort();
    return;
  }
  if (jws->algorithm.empty() || jws->signing_input.size() + 1 + jws->signature.size() != token.size()) std::abort();
  auto payload = from_base64url(jws->payload);
  if (payload && base64url(*payload) != jws->payload) std::abort();
  (void)from_base64url(jws->signature);
}

void read_both(const std::string& json) {
  for (std::string_view type : {"access", "refresh"}) {
    auto claims = read_claims(json, type, AuthOptions());
    if (!claims && claims.error().code() != errc::token_invalid && claims.error().code() != errc::token_type)
      std::abort();
    if (claims && (claims->user.empty() || claims->jti.empty())) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('!'))
    read_both(std::string(text.substr(1)));
  else
    read_token(text);
  return 0;
}
