#include "crypto/jwt_codec.hpp"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <boost/json/parse.hpp>

#include "base/encoding.hpp"
#include "base/try.hpp"
#include "crypto/seal.hpp"

namespace tornado::inline v1 {
namespace {

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

std::string number(EVP_PKEY* key, const char* name) {
  BIGNUM* value = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &value) != 1) return {};
  std::string raw(static_cast<std::size_t>(BN_num_bytes(value)), '\0');
  BN_bn2bin(value, reinterpret_cast<unsigned char*>(raw.data()));
  BN_free(value);
  return base64url(raw);
}

std::string contents(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<std::size_t>(size));
}

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Digest = std::unique_ptr<EVP_MD_CTX, FreeDigest>;

const unsigned char* u8(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

Result<RsaKey> RsaKey::adopt(EVP_PKEY* raw, bool is_private) {
  if (raw == nullptr) return Error(errc::data_loss, "not a key in PEM form");
  RsaKey out;
  out.key_ = std::shared_ptr<EVP_PKEY>(raw, EVP_PKEY_free);
  if (EVP_PKEY_is_a(raw, "RSA") != 1 || EVP_PKEY_get_bits(raw) < 2048)
    return Error(errc::data_loss, "not an RSA key of at least 2048 bits");
  out.private_ = is_private;
  out.thumbprint_ = base64url(sha256("{\"e\":\"" + number(raw, OSSL_PKEY_PARAM_RSA_E) + "\",\"kty\":\"RSA\",\"n\":\"" +
                                     number(raw, OSSL_PKEY_PARAM_RSA_N) + "\"}"));
  return out;
}

Result<RsaKey> RsaKey::generate() {
  return adopt(EVP_RSA_gen(2048), true);
}

Result<RsaKey> RsaKey::from_private_pem(const Secret& pem) {
  Bio bio(BIO_new_mem_buf(pem.reveal().data(), static_cast<int>(pem.size())));
  return adopt(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr), true);
}

Result<RsaKey> RsaKey::from_public_pem(std::string_view pem) {
  Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return adopt(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr), false);
}

Secret RsaKey::private_pem() const {
  Bio bio(BIO_new(BIO_s_secmem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return Secret(contents(bio.get()));
}

std::string RsaKey::public_pem() const {
  Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PUBKEY(bio.get(), key_.get());
  return contents(bio.get());
}

std::string RsaKey::jwk_members() const {
  return "\"kty\":\"RSA\",\"n\":\"" + number(key_.get(), OSSL_PKEY_PARAM_RSA_N) + "\",\"e\":\"" +
         number(key_.get(), OSSL_PKEY_PARAM_RSA_E) + "\"";
}

Result<std::string> RsaKey::sign(std::string_view message) const {
  Digest context(EVP_MD_CTX_new());
  std::string out(static_cast<std::size_t>(EVP_PKEY_get_size(key_.get())), '\0');
  std::size_t size = out.size();
  bool done = private_ && EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
              EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, u8(message),
                             message.size()) == 1;
  if (!done) return Error(errc::internal, "RSA signing failed");
  out.resize(size);
  return out;
}

bool RsaKey::verify(std::string_view message, std::string_view signature) const {
  Digest context(EVP_MD_CTX_new());
  return EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), u8(signature), signature.size(), u8(message), message.size()) == 1;
}

Result<Jws> parse_jws(std::string_view token) {
  Error malformed(errc::token_invalid, "not a compact JWS");
  if (token.size() > 8192) return malformed;
  auto first = token.find('.');
  auto second = first == token.npos ? token.npos : token.find('.', first + 1);
  if (second == token.npos || token.find('.', second + 1) != token.npos) return malformed;
  Jws out;
  out.signing_input = token.substr(0, second);
  out.payload = token.substr(first + 1, second - first - 1);
  out.signature = token.substr(second + 1);
  auto header = from_base64url(token.substr(0, first));
  if (!header) return malformed;
  boost::system::error_code ec;
  auto json = boost::json::parse(*header, ec);
  if (ec || !json.is_object()) return malformed;
  auto text = [&](std::string_view name) -> std::string {
    auto* value = json.as_object().if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
  };
  out.algorithm = text("alg");
  out.key_id = text("kid");
  // RFC 7515 section 4.1.11: an extension that is not understood makes the token invalid.
  if (out.algorithm.empty() || json.as_object().contains("crit")) return malformed;
  return out;
}

}  // namespace tornado::inline v1
