#include "auth/sealed_login.hpp"

#include <cstring>

#include "base/encoding.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "crypto/seal.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::string_view login_info = "tornado-vpn-login-v1";

Error refused(std::string_view why) {
  return Error(errc::invalid_envelope, std::string(why));
}

Result<Credentials> read_plaintext(const Secret& plain, std::string replay_id) {
  auto parsed = parse_json(plain.reveal());
  if (!parsed || !parsed->is_object()) return refused("the plaintext is not a JSON object");
  auto name = text_at(parsed->get_object(), "username_or_email");
  auto password = text_at(parsed->get_object(), "password");
  if (!name || !password) return refused("username_or_email or password is missing");
  if (name->empty() || password->empty()) return Error(errc::missing_fields, "username_or_email or password is empty");
  if (name->size() > 254 || password->size() > 1024) return refused("username_or_email or password is too long");
  Credentials credentials(std::move(*name), Secret(std::move(*password)));
  credentials.replay_id = std::move(replay_id);
  return credentials;
}

}  // namespace

Result<Credentials> open_sealed_login(const Sealed& sealed, const KeyRing& ring, Instant now) {
  auto ephemeral = from_base64_lenient(sealed.ephemeral_pubkey);
  auto iv = from_base64_lenient(sealed.iv);
  auto ciphertext = from_base64_lenient(sealed.ciphertext);
  if (!ephemeral || ephemeral->size() != PublicKey::size || !iv || !ciphertext) return refused("a field is not base64");
  std::array<std::uint8_t, PublicKey::size> raw{};
  std::memcpy(raw.data(), ephemeral->data(), raw.size());
  for (const Secret& shared : ring.agree(PublicKey(raw), now)) {
    Secret key = hkdf_sha256(shared.reveal(), "", login_info, 32);
    if (auto plain = aes_gcm_open(key, *iv, *ciphertext, "")) return read_plaintext(*plain, hex(sha256(key.reveal())));
  }
  return refused("no login key opens it");
}

Result<Sealed> seal_login(const PublicKey& login_key, std::string_view name, const Secret& password) {
  X25519Key ephemeral = X25519Key::generate();
  TRY_PLAIN(auto shared, ephemeral.agree(login_key));
  Secret key = hkdf_sha256(shared.reveal(), "", login_info, 32);
  boost::json::object plain;
  plain["username_or_email"] = name;
  plain["password"] = password.reveal();
  std::string iv = random_bytes(12);
  return Sealed(ephemeral.public_key().str(), base64(iv),
                base64(aes_gcm_seal(key, iv, Secret(to_json(plain)).reveal(), "")));
}

}  // namespace tornado::inline v1
