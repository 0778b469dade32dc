// What anybody may send to /auth/login. Three lines: ephemeral key, iv, ciphertext. The first byte '!' takes the rest
// as a plaintext that was sealed correctly, so that the parser behind the tag is reached too.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "auth/sealed_login.hpp"
#include "base/encoding.hpp"
#include "crypto/seal.hpp"

using namespace tornado;

namespace {

class FixedRing final : public KeyRing {
 public:
  Result<std::string> sign(KeyUse, std::string_view) const override { return errc::failed_precondition; }
  Result<std::string> verify(KeyUse, std::string_view, Instant, bool, Seconds) const override {
    return errc::token_invalid;
  }
  PublicKey login_key() const override { return key_.public_key(); }
  std::vector<Secret> agree(const PublicKey& ephemeral, Instant) const override {
    std::vector<Secret> out;
    if (auto shared = key_.agree(ephemeral)) out.push_back(*shared);
    return out;
  }
  std::string jwks() const override { return "{}"; }

 private:
  X25519Key key_ = X25519Key::from_private(std::string(32, 'k')).value();
};

Sealed seal(const KeyRing& ring, std::string_view plain) {
  static const X25519Key ephemeral = X25519Key::from_private(std::string(32, 'e')).value();
  static const Secret key =
      hkdf_sha256(ephemeral.agree(ring.login_key()).value().reveal(), "", "tornado-vpn-login-v1", 32);
  std::string iv(12, 'i');
  return Sealed(ephemeral.public_key().str(), base64(iv), base64(aes_gcm_seal(key, iv, plain, "")));
}

std::string line(std::string_view& text) {
  std::string out(text.substr(0, text.find('\n')));
  text.remove_prefix(std::min(text.size(), out.size() + 1));
  return out;
}

Sealed read(const KeyRing& ring, std::string_view text) {
  if (text.starts_with('!')) return seal(ring, text.substr(1));
  std::string key = line(text), iv = line(text);
  return Sealed(std::move(key), std::move(iv), std::string(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const FixedRing ring;
  auto opened = open_sealed_login(read(ring, std::string_view(reinterpret_cast<const char*>(data), size)), ring, {});
  if (opened) {
    if (opened->name.empty() || opened->password.empty() || opened->replay_id.size() != 64) std::abort();
  } else if (opened.error().code() != errc::invalid_envelope && opened.error().code() != errc::missing_fields) {
    std::abort();
  }
  return 0;
}
