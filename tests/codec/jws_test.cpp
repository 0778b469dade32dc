#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <boost/json/parse.hpp>

#include "base/encoding.hpp"
#include "base/file.hpp"
#include "crypto/jwt_codec.hpp"
#include "support/scratch.hpp"
#include "tornado/key_rotator.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

std::string token_of(std::string_view header, std::string_view payload = "{}", std::string_view signature = "x") {
  return base64url(header) + "." + base64url(payload) + "." + base64url(signature);
}

errc parse_error(std::string_view token) {
  auto parsed = parse_jws(token);
  EXPECT_FALSE(parsed) << token.substr(0, 100);
  return parsed ? errc::internal : parsed.error().code();
}

const RsaKey& test_key() {
  static const RsaKey key = RsaKey::generate().value();
  return key;
}

}  // namespace

TEST(Jws, PartsAreViewsIntoTheToken) {
  std::string token = token_of(R"({"alg":"RS256","typ":"JWT","kid":"k1"})", R"({"sub":"u"})", "sig");
  Jws jws = parse_jws(token).value();
  EXPECT_EQ(jws.algorithm, "RS256");
  EXPECT_EQ(jws.key_id, "k1");
  EXPECT_EQ(from_base64url(jws.payload), R"({"sub":"u"})");
  EXPECT_EQ(from_base64url(jws.signature), "sig");
  EXPECT_EQ(std::string(jws.signing_input) + "." + std::string(jws.signature), token);
}

TEST(Jws, HostileTokensAreInvalid) {
  std::string good = token_of(R"({"alg":"RS256"})");
  std::string deep(200, '[');
  for (const std::string& token : {std::string(),
                                   std::string("."),
                                   std::string(".."),
                                   std::string("..."),
                                   std::string("a.b"),
                                   good + ".",
                                   "." + good,
                                   good + ".x",
                                   token_of(""),
                                   token_of("[]"),
                                   token_of("null"),
                                   token_of("{}"),
                                   token_of(R"({"alg":1})"),
                                   token_of(R"({"alg":""})"),
                                   token_of(R"({"alg":null})"),
                                   token_of(R"({"alg":"RS256")"),
                                   token_of(R"({"alg":"RS256"}x)"),
                                   token_of(R"({"alg":"RS256","crit":["b64"],"b64":false})"),
                                   token_of(R"({"alg":"RS256","crit":[]})"),
                                   token_of("{\"alg\":\"\xff\"}"),
                                   token_of("{\"alg\":" + deep),
                                   "e30=." + base64url("{}") + ".x",
                                   "!." + base64url("{}") + ".x",
                                   std::string(100'000, '.'),
                                   std::string(100'000, 'A'),
                                   token_of(R"({"alg":"RS256"})", std::string(9000, 'p')),
                                   std::string(3, '\0')})
    EXPECT_EQ(parse_error(token), errc::token_invalid);
  EXPECT_TRUE(parse_jws(good));
}

TEST(Jws, EveryTruncationIsInvalidOrAnotherSignature) {
  std::string token = token_of(R"({"alg":"RS256","kid":"k"})", R"({"a":1})", "signature");
  std::size_t last = token.rfind('.');
  for (std::size_t size = 0; size < token.size(); ++size)
    EXPECT_EQ(parse_jws(token.substr(0, size)).has_value(), size > last) << size;
}

TEST(RsaKeys, SignAndVerify) {
  const RsaKey& key = test_key();
  std::string signature = key.sign("message").value();
  EXPECT_EQ(signature.size(), 256U);
  EXPECT_EQ(signature, key.sign("message").value()) << "RS256 is deterministic: a retried answer is the same (I-14)";
  RsaKey half = RsaKey::from_public_pem(key.public_pem()).value();
  EXPECT_EQ(half.thumbprint(), key.thumbprint());
  EXPECT_FALSE(half.can_sign());
  EXPECT_FALSE(half.sign("message"));
  EXPECT_TRUE(half.verify("message", signature));
  EXPECT_FALSE(half.verify("massage", signature));
  EXPECT_FALSE(half.verify("message", ""));
  EXPECT_FALSE(half.verify("message", signature.substr(1)));
  EXPECT_FALSE(half.verify("message", signature + "x"));
  RsaKey back = RsaKey::from_private_pem(key.private_pem()).value();
  EXPECT_EQ(back.sign("message").value(), signature);
}

TEST(RsaKeys, DamagedAndForeignPemIsDataLoss) {
  std::string pem = test_key().public_pem();
  std::string ed25519 =
      "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC "
      "KEY-----\n";
  for (const std::string& bad : {std::string(), std::string("PEM"), pem.substr(0, pem.size() / 2), ed25519})
    EXPECT_EQ(RsaKey::from_public_pem(bad).error().code(), errc::data_loss);
  EXPECT_EQ(RsaKey::from_private_pem(Secret(pem)).error().code(), errc::data_loss);
}

// RFC 7638, section 3.1.
TEST(RsaKeys, ThumbprintOfRfc7638) {
  const char* pem =
      "-----BEGIN PUBLIC KEY-----\n"
      "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX\n"
      "ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\n"
      "oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt\n"
      "7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0\n"
      "zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f\n"
      "M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK\n"
      "gwIDAQAB\n"
      "-----END PUBLIC KEY-----\n";
  EXPECT_EQ(RsaKey::from_public_pem(pem).value().thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

namespace {

/// A rotator with keys; making them costs most of the time, so they are made once.
class Ring : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static test::Scratch scratch;
    static ManualClock clock;
    static Runtime runtime(RuntimeOptions().clock(clock));
    static KeyRotator rotator(runtime, KeyOptions(scratch / "keys"));
    runtime.wait(rotator.open()).value();
    ring_ = rotator.ring();
    now_ = clock.now();
    stored_ = read_file(scratch / "keys/signing-keys.json").value();
  }
  static void TearDownTestSuite() { ring_.reset(); }

  static std::int64_t seconds() { return std::chrono::duration_cast<Seconds>(now_.time_since_epoch()).count(); }
  static std::string claims(std::int64_t iat, std::int64_t exp, const std::string& more = "") {
    return "{\"iat\":" + std::to_string(iat) + ",\"exp\":" + std::to_string(exp) + more + "}";
  }
  static std::string good() { return ring_->sign(KeyUse::access, claims(seconds(), seconds() + 900)).value(); }
  static std::string id_in(const std::string& token) { return parse_jws(token).value().key_id; }
  static Result<std::string> verify(std::string_view token) { return ring_->verify(KeyUse::access, token, now_); }
  static Result<std::string> of_claims(const std::string& text) {
    return verify(ring_->sign(KeyUse::access, text).value());
  }
  /// The same payload and signature under another header.
  static std::string with_header(const std::string& header) {
    std::string token = good();
    return base64url(header) + token.substr(token.find('.'));
  }

  static inline std::shared_ptr<const KeyRing> ring_;
  static inline Instant now_;
  static inline std::string stored_;  ///< the key file
};

void expect_invalid(const Result<std::string>& result) {
  ASSERT_FALSE(result) << *result;
  EXPECT_EQ(result.error().code(), errc::token_invalid) << result.error().detail();
}

}  // namespace

TEST_F(Ring, GoodTokenVerifiesAndNamesItsKey) {
  std::string token = good();
  EXPECT_EQ(verify(token).value(), claims(seconds(), seconds() + 900));
  EXPECT_EQ(from_base64url(token.substr(0, token.find('.'))),
            R"({"alg":"RS256","typ":"JWT","kid":")" + id_in(token) + "\"}");
  auto jwks = boost::json::parse(ring_->jwks());
  EXPECT_EQ(jwks.at("keys").as_array().size(), 2U);
  EXPECT_NE(ring_->jwks().find(id_in(token)), std::string::npos);
  EXPECT_EQ(ring_->sign(KeyUse::login, "{}").error().code(), errc::failed_precondition);
}

TEST_F(Ring, AlgorithmIsNotTheTokensChoice) {
  std::string kid = ",\"kid\":\"" + id_in(good()) + "\"}";
  expect_invalid(verify(with_header(R"({"alg":"none")" + kid)));
  expect_invalid(verify(with_header(R"({"alg":"RS512")" + kid)));
  expect_invalid(verify(with_header(R"({"alg":"rs256")" + kid)));
  std::string unsigned_token = with_header(R"({"alg":"none")" + kid);
  expect_invalid(verify(unsigned_token.substr(0, unsigned_token.rfind('.') + 1)));
}

TEST_F(Ring, PublicKeyIsNoHmacSecret) {
  std::string input = base64url(R"({"alg":"HS256","kid":")" + id_in(good()) + "\"}") + "." +
                      base64url(claims(seconds(), seconds() + 900));
  auto file = boost::json::parse(stored_);
  for (const auto& key : file.at("keys").as_array()) {
    std::string secret(key.at("public").as_string());
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(input.data()), input.size(), mac, &size);
    expect_invalid(verify(input + "." + base64url(std::string_view(reinterpret_cast<char*>(mac), size))));
  }
}

TEST_F(Ring, KeyIdMustBeKnownAndOfTheRightUse) {
  expect_invalid(verify(with_header(R"({"alg":"RS256","kid":"other"})")));
  expect_invalid(verify(with_header(R"({"alg":"RS256"})")));
  expect_invalid(ring_->verify(KeyUse::refresh, good(), now_));
  expect_invalid(verify(ring_->sign(KeyUse::refresh, claims(seconds(), seconds() + 900)).value()));
  std::string input = base64url(R"({"alg":"RS256","kid":")" + id_in(good()) + "\"}") + "." +
                      base64url(claims(seconds(), seconds() + 900));
  expect_invalid(verify(input + "." + base64url(test_key().sign(input).value())));
}

TEST_F(Ring, TamperedTokensAreInvalid) {
  std::string token = good();
  std::string other = base64url(claims(seconds(), seconds() + 901));
  std::size_t first = token.find('.'), last = token.rfind('.');
  expect_invalid(verify(token.substr(0, first + 1) + other + token.substr(last)));
  expect_invalid(verify(token.substr(0, last + 1)));
  expect_invalid(verify(token + "AAAA"));
  for (std::size_t i = first + 1; i < token.size() - 1; i += 7) {
    std::string bad = token;
    bad[i] = bad[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(verify(bad)) << i;
  }
}

TEST_F(Ring, ExpiryHasNoLeeway) {
  EXPECT_TRUE(of_claims(claims(seconds() - 900, seconds() + 1)));
  EXPECT_EQ(of_claims(claims(seconds() - 900, seconds())).error().code(), errc::token_expired);
  std::string old = ring_->sign(KeyUse::access, claims(0, 1)).value();
  EXPECT_EQ(verify(old).error().code(), errc::token_expired);
  EXPECT_TRUE(ring_->verify(KeyUse::access, old, now_, true)) << "for logging out (I-14)";
}

// I-14: 60 s of leeway for iat and nbf.
TEST_F(Ring, FutureTokensHaveSixtySecondsOfLeeway) {
  std::int64_t now = seconds();
  EXPECT_TRUE(of_claims(claims(now + 60, now + 900)));
  expect_invalid(of_claims(claims(now + 61, now + 900)));
  EXPECT_TRUE(of_claims(claims(now, now + 900, ",\"nbf\":" + std::to_string(now + 60))));
  expect_invalid(of_claims(claims(now, now + 900, ",\"nbf\":" + std::to_string(now + 61))));
}

TEST_F(Ring, ClaimsWithoutTimesAreInvalid) {
  for (const char* text : {"{}", "[]", "", "null", "{\"iat\":0}", "{\"exp\":99999999999}",
                           "{\"iat\":\"0\",\"exp\":99999999999}", "{\"iat\":0.5,\"exp\":99999999999}",
                           "{\"iat\":99999999999999999999,\"exp\":99999999999}", "{\"iat\":0,\"exp\":null}"})
    expect_invalid(of_claims(text));
}
