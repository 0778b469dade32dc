#include "crypto/seal.hpp"

#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/sha.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace tornado::inline v1 {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Deleter<EVP_PKEY_CTX_free>>;
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, Deleter<EVP_CIPHER_CTX_free>>;

const unsigned char* u8(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* u8(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

/// These calls fail only when memory is exhausted or the library is broken.
void require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

X25519Key X25519Key::generate() {
  Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "X25519"));
  require(key != nullptr);
  std::string raw(32, '\0');
  std::size_t size = raw.size();
  require(EVP_PKEY_get_raw_private_key(key.get(), u8(raw), &size) == 1);
  auto pair = from_private(raw);
  OPENSSL_cleanse(raw.data(), raw.size());
  return std::move(*pair);
}

Result<X25519Key> X25519Key::from_private(std::string_view raw) {
  if (raw.size() != 32) return Error(errc::key_invalid, "an X25519 private key is 32 bytes");
  Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, u8(raw), raw.size()));
  require(key != nullptr);
  std::array<std::uint8_t, 32> bytes{};
  std::size_t size = bytes.size();
  require(EVP_PKEY_get_raw_public_key(key.get(), bytes.data(), &size) == 1);
  return X25519Key(Secret(std::string(raw)), PublicKey(bytes));
}

Result<Secret> X25519Key::agree(const PublicKey& peer) const {
  Key own(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, u8(private_.reveal()), 32));
  Key other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, peer.bytes().data(), 32));
  KeyContext context(EVP_PKEY_CTX_new(own.get(), nullptr));
  require(own && other && context && EVP_PKEY_derive_init(context.get()) == 1);
  std::string shared(32, '\0');
  std::size_t size = shared.size();
  bool agreed = EVP_PKEY_derive_set_peer(context.get(), other.get()) == 1 &&
                EVP_PKEY_derive(context.get(), u8(shared), &size) == 1;
  if (!agreed) return Error(errc::key_invalid, "the shared secret is all zero");
  return Secret(std::move(shared));
}

Secret hkdf_sha256(std::string_view key, std::string_view salt, std::string_view info, std::size_t length) {
  KeyContext context(EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr));
  require(context && EVP_PKEY_derive_init(context.get()) == 1);
  require(EVP_PKEY_CTX_set_hkdf_md(context.get(), EVP_sha256()) == 1);
  require(EVP_PKEY_CTX_set1_hkdf_key(context.get(), u8(key), static_cast<int>(key.size())) == 1);
  if (!salt.empty()) require(EVP_PKEY_CTX_set1_hkdf_salt(context.get(), u8(salt), static_cast<int>(salt.size())) == 1);
  if (!info.empty()) require(EVP_PKEY_CTX_add1_hkdf_info(context.get(), u8(info), static_cast<int>(info.size())) == 1);
  std::string out(length, '\0');
  require(EVP_PKEY_derive(context.get(), u8(out), &length) == 1);
  return Secret(std::move(out));
}

Result<Secret> aes_gcm_open(const Secret& key, std::string_view iv, std::string_view ciphertext, std::string_view aad) {
  constexpr std::size_t tag_size = 16;
  if (key.size() != 32 || iv.size() < 8 || iv.size() > 64 || ciphertext.size() < tag_size)
    return Error(errc::invalid_envelope, "impossible size of key, iv or ciphertext");
  std::string tag(ciphertext.substr(ciphertext.size() - tag_size));
  ciphertext.remove_suffix(tag_size);
  Cipher cipher(EVP_CIPHER_CTX_new());
  require(cipher && EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1);
  require(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_IVLEN, static_cast<int>(iv.size()), nullptr) == 1);
  require(EVP_DecryptInit_ex(cipher.get(), nullptr, nullptr, u8(key.reveal()), u8(iv)) == 1);
  int size = 0;
  if (!aad.empty())
    require(EVP_DecryptUpdate(cipher.get(), nullptr, &size, u8(aad), static_cast<int>(aad.size())) == 1);
  std::string plain(ciphertext.size() + 1, '\0');
  require(EVP_DecryptUpdate(cipher.get(), u8(plain), &size, u8(ciphertext), static_cast<int>(ciphertext.size())) == 1);
  require(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, tag_size, tag.data()) == 1);
  int rest = 0;
  bool genuine = EVP_DecryptFinal_ex(cipher.get(), u8(plain) + size, &rest) == 1;
  if (!genuine) {
    OPENSSL_cleanse(plain.data(), plain.size());
    return Error(errc::invalid_envelope, "the tag does not match");
  }
  plain.resize(ciphertext.size());
  return Secret(std::move(plain));
}

std::string aes_gcm_seal(const Secret& key, std::string_view iv, std::string_view plaintext, std::string_view aad) {
  Cipher cipher(EVP_CIPHER_CTX_new());
  require(key.size() == 32 && cipher &&
          EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1);
  require(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_IVLEN, static_cast<int>(iv.size()), nullptr) == 1);
  require(EVP_EncryptInit_ex(cipher.get(), nullptr, nullptr, u8(key.reveal()), u8(iv)) == 1);
  int size = 0;
  if (!aad.empty())
    require(EVP_EncryptUpdate(cipher.get(), nullptr, &size, u8(aad), static_cast<int>(aad.size())) == 1);
  std::string out(plaintext.size() + 16, '\0');
  require(EVP_EncryptUpdate(cipher.get(), u8(out), &size, u8(plaintext), static_cast<int>(plaintext.size())) == 1);
  int rest = 0;
  require(EVP_EncryptFinal_ex(cipher.get(), u8(out) + size, &rest) == 1);
  require(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, 16, out.data() + plaintext.size()) == 1);
  return out;
}

std::string sha256(std::string_view bytes) {
  std::string out(SHA256_DIGEST_LENGTH, '\0');
  SHA256(u8(bytes), bytes.size(), u8(out));
  return out;
}

}  // namespace tornado::inline v1
