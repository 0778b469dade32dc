#include <gtest/gtest.h>

#include "auth/sealed_login.hpp"
#include "base/encoding.hpp"
#include "base/uuid.hpp"
#include "crypto/password_hasher.hpp"
#include "crypto/seal.hpp"
#include "tornado/key_rotator.hpp"

using namespace tornado;

namespace {

std::string raw(std::string_view hex_text) {
  return from_hex(hex_text).value();
}

PublicKey point(std::string_view bytes) {
  std::array<std::uint8_t, PublicKey::size> out{};
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(out.data()));
  return PublicKey(out);
}

std::string x25519(std::string_view scalar, std::string_view u) {
  return std::string(X25519Key::from_private(scalar).value().agree(point(u)).value().reveal());
}

std::string ascending(int first, int end) {
  std::string out;
  for (int i = first; i < end; ++i) out += static_cast<char>(i);
  return out;
}

/// One login key, given from outside.
class OneKeyRing final : public KeyRing {
 public:
  explicit OneKeyRing(X25519Key key) : key_(std::move(key)) {}
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
  X25519Key key_;
};

}  // namespace

TEST(X25519, Rfc7748Section5Vectors) {
  EXPECT_EQ(hex(x25519(raw("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
                       raw("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"))),
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
  EXPECT_EQ(hex(x25519(raw("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
                       raw("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"))),
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
}

TEST(X25519, Rfc7748IteratedVector) {
  std::string k = "\x09" + std::string(31, '\0'), u = k;
  for (int i = 0; i < 1000; ++i) {
    std::string next = x25519(k, u);
    u = std::exchange(k, next);
    if (i == 0) {
      EXPECT_EQ(hex(k), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
  }
  EXPECT_EQ(hex(k), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

TEST(X25519, LowOrderPointsAndWrongLengthsAreRefused) {
  X25519Key own = X25519Key::generate();
  std::string zero(32, '\0'), one = "\x01" + std::string(31, '\0');
  for (const auto& bad : {zero, one, raw("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
                          raw("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")}) {
    auto shared = own.agree(point(bad));
    ASSERT_FALSE(shared) << hex(bad);
    EXPECT_EQ(shared.error().code(), errc::key_invalid);
    EXPECT_TRUE(point(bad).is_low_order());
  }
  for (std::size_t size : {0, 31, 33})
    EXPECT_EQ(X25519Key::from_private(std::string(size, 'k')).error().code(), errc::key_invalid);
}

TEST(Hkdf, Rfc5869Vectors) {
  std::string ikm(22, '\x0b');
  EXPECT_EQ(hex(hkdf_sha256(ikm, ascending(0, 13), ascending(0xf0, 0xfa), 42).reveal()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  EXPECT_EQ(hex(hkdf_sha256(ascending(0, 0x50), ascending(0x60, 0xb0), ascending(0xb0, 0x100), 82).reveal()),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c"
            "2f09b83"
            "67793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  EXPECT_EQ(hex(hkdf_sha256(ikm, "", "", 42).reveal()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

namespace {

struct GcmVector {
  std::string key, iv, plain, aad, sealed;
};

/// Test cases 13, 14, 16 and 17 of the GCM submission to NIST.
std::vector<GcmVector> gcm_vectors() {
  std::string zero(64, '0'), key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
  std::string plain =
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
      "ba637b39";
  std::string aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
  return {{zero, "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
          {zero, "000000000000000000000000", "00000000000000000000000000000000", "",
           "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
          {key, "cafebabefacedbaddecaf888", plain, aad,
           "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393"
           "ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
          {key, "cafebabefacedbad", plain, aad,
           "c3762df1ca787d32ae47c13bf19844cbaf1ae14d0b976afac52ff7d79bba9de0feb582d33934a4f0954cc2363bc73f7862ac430e64"
           "abe499f47c9b1f3a337dbf46a792c45e454913fe2ea8f2"}};
}

}  // namespace

TEST(AesGcm, NistVectors) {
  for (const auto& v : gcm_vectors()) {
    Secret key(raw(v.key));
    EXPECT_EQ(hex(aes_gcm_seal(key, raw(v.iv), raw(v.plain), raw(v.aad))), v.sealed);
    EXPECT_EQ(hex(aes_gcm_open(key, raw(v.iv), raw(v.sealed), raw(v.aad)).value().reveal()), v.plain);
  }
}

TEST(AesGcm, EveryFlippedBitIsRefused) {
  GcmVector v = gcm_vectors()[2];
  Secret key(raw(v.key));
  std::string sealed = raw(v.sealed);
  for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    std::string bad = sealed;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(aes_gcm_open(key, raw(v.iv), bad, raw(v.aad))) << bit;
  }
  EXPECT_FALSE(aes_gcm_open(key, raw(v.iv), sealed, ""));
}

TEST(AesGcm, ImpossibleSizesAreRefused) {
  Secret key(std::string(32, 'k'));
  std::string iv(12, 'i'), sealed = aes_gcm_seal(key, iv, "text", "");
  EXPECT_EQ(aes_gcm_open(Secret(std::string(31, 'k')), iv, sealed, "").error().code(), errc::invalid_envelope);
  for (std::size_t size : {0, 7, 65, 1000}) EXPECT_FALSE(aes_gcm_open(key, std::string(size, 'i'), sealed, ""));
  for (std::size_t size = 0; size < 20; ++size) EXPECT_FALSE(aes_gcm_open(key, iv, sealed.substr(0, size), ""));
}

// Made with libargon2 through python3-argon2.
TEST(Argon2, HashesOfTheReferenceImplementation) {
  struct {
    std::string_view password, encoded;
  } const vectors[] = {
      {"correct horse",
       "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$7YbYS2w24dSTBgFeLZ/Pp5pFxLjWTXyOMrr1Ld8BcEI"},
      {"", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$yDCbRXt8YBhEtYWu23Ut1dbynmb19XUzbcBonDMLqwE"},
      {"pässwörd ✓",
       "$argon2id$v=19$m=1024,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$kr0LjlnPNPAvj9m/eWA5Jw/BHC/gddbw5s6CTQQY+C4"}};
  Argon2Arena arena;
  for (const auto& v : vectors) {
    Argon2Hash stored = Argon2Hash::parse(v.encoded).value();
    EXPECT_EQ(stored.str(), v.encoded);
    EXPECT_EQ(arena.compute(v.password, stored, stored.hash.size()).value(), stored.hash);
    EXPECT_NE(arena.compute(std::string(v.password) + "x", stored, stored.hash.size()).value(), stored.hash);
    arena.release();
  }
}

TEST(Argon2, MalformedHashesAreRefused) {
  const std::string tail = "$c2FsdHNhbHQ$yDCbRXt8YBhEtYWu23Ut1dbynmb19XUzbcBonDMLqwE";
  for (const std::string& text :
       {std::string(),
        std::string("$"),
        "$argon2i$v=19$m=64,t=1,p=1" + tail,
        "$argon2id$v=16$m=64,t=1,p=1" + tail,
        "$argon2id$m=64,t=1,p=1" + tail,
        "$argon2id$v=19$m=64,t=1" + tail,
        "$argon2id$v=19$t=1,m=64,p=1" + tail,
        "$argon2id$v=19$m=64,t=0,p=1" + tail,
        "$argon2id$v=19$m=64,t=1,p=0" + tail,
        "$argon2id$v=19$m=7,t=1,p=1" + tail,
        "$argon2id$v=19$m=64,t=1,p=256" + tail,
        "$argon2id$v=19$m=-64,t=1,p=1" + tail,
        "$argon2id$v=19$m=4294967296,t=1,p=1" + tail,
        "$argon2id$v=19$m=64 ,t=1,p=1" + tail,
        "$argon2id$v=19$m=64,t=1,p=1,data=x" + tail,
        "x$argon2id$v=19$m=64,t=1,p=1" + tail,
        "$argon2id$v=19$m=64,t=1,p=1" + tail + "$",
        std::string("$argon2id$v=19$m=64,t=1,p=1$c2FsdA$yDCbRXt8YBhEtYWu23Ut1dbynmb19XUzbcBonDMLqwE"),
        std::string("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$yDCbRXt8"),
        std::string("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$"),
        "$2b$12$abcdefghijklmnopqrstuv" + tail}) {
    auto parsed = Argon2Hash::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), errc::invalid_argument);
  }
}

TEST(Base64, EncodingsRoundTrip) {
  std::string all = ascending(0, 256);
  for (std::size_t size = 0; size <= 64; ++size) {
    std::string bytes = all.substr(192, size);
    EXPECT_EQ(from_base64(base64(bytes)), bytes);
    EXPECT_EQ(from_base64_lenient(base64(bytes)), bytes);
    EXPECT_EQ(from_base64url(base64url(bytes)), bytes);
    EXPECT_EQ(from_hex(hex(bytes)), bytes);
  }
  EXPECT_EQ(base64("\xfb\xff\xfe"), "+//+");
  EXPECT_EQ(base64url("\xfb\xff\xfe\x01"), "-__-AQ");
}

TEST(Base64, StrictRefusesWhatIsNotCanonical) {
  for (std::string_view bad :
       {"YQ", "YQ=", "Y===", "=", "====", "YR==", "YWJ=", "Y Q=", "YQ==\n", "YQ==YQ==", "-_-_", "YW=x", "YWI=YWI="})
    EXPECT_FALSE(from_base64(bad)) << bad;
  for (std::string_view bad : {"YQ==", "Y", "YR", "+/+/", "YQ\n", "Y.Q"}) EXPECT_FALSE(from_base64url(bad)) << bad;
  for (std::string_view bad : {"0", "0g", "0x00", " 00"}) EXPECT_FALSE(from_hex(bad)) << bad;
  EXPECT_EQ(from_base64(""), "");
}

// Answers of Python's base64.b64decode, which is what the original uses (contract 1.3).
TEST(Base64, LenientDecodesAsTheOriginal) {
  struct {
    std::string_view text;
    std::optional<std::string> bytes;
  } const cases[] = {{"YQ==", "a"},         {"Y Q = =", "a"},    {"YQ==YQ==", "a"},     {"=YWI=", "ab"},
                     {"Y-W_I=", "ab"},      {"YWI==", "ab"},     {"YWJj\n", "abc"},     {"", ""},
                     {"====", ""},          {"YW=x=", "al"},     {"YWJjZA==!", "abcd"}, {"YQ", std::nullopt},
                     {"YQ=", std::nullopt}, {"Y", std::nullopt}, {"Y===", std::nullopt}};
  for (const auto& c : cases) EXPECT_EQ(from_base64_lenient(c.text), c.bytes) << c.text;
}

namespace {

/// The test vector of contract 1.3.
class SealedLogin : public testing::Test {
 protected:
  Result<Credentials> open(const Sealed& sealed) const { return open_sealed_login(sealed, ring_, Instant()); }
  Sealed vector() const {
    return Sealed("NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=", "AAECAwQFBgcICQoL",
                  "ffoKKyFYs5we9n65CPdVGN4V7jhGoO2ck+npFLuCkIiPzKWgK0EOMmz9pu/"
                  "BwOzR84RZ1hYkKFjnDr+tnNZZNgYJqHP5UtK9s8uZ");
  }
  /// An envelope around any plaintext.
  Sealed around(std::string_view plain) const {
    X25519Key ephemeral = X25519Key::generate();
    Secret key = hkdf_sha256(ephemeral.agree(ring_.login_key()).value().reveal(), "", "tornado-vpn-login-v1", 32);
    std::string iv = random_bytes(12);
    return Sealed(ephemeral.public_key().str(), base64(iv), base64(aes_gcm_seal(key, iv, plain, "")));
  }
  OneKeyRing ring_{X25519Key::from_private(ascending(0, 32)).value()};
};

}  // namespace

TEST_F(SealedLogin, VectorOfTheContractByteForByte) {
  X25519Key ephemeral = X25519Key::from_private(ascending(0x20, 0x40)).value();
  EXPECT_EQ(ring_.login_key().str(), "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=");
  EXPECT_EQ(ephemeral.public_key().str(), vector().ephemeral_pubkey);
  Secret shared = ephemeral.agree(ring_.login_key()).value();
  EXPECT_EQ(hex(shared.reveal()), "9663aa1da97e848a914a436d04163dfbb89178f107f1b5b77ed3854203382854");
  Secret key = hkdf_sha256(shared.reveal(), "", "tornado-vpn-login-v1", 32);
  EXPECT_EQ(hex(key.reveal()), "0f0b43c3ff63a48067aa416e641c1bddeb7a30aac504685a163810cc9a05d841");
  std::string plain = R"({"username_or_email": "alice", "password": "correct horse"})";
  EXPECT_EQ(base64(aes_gcm_seal(key, ascending(0, 12), plain, "")), vector().ciphertext);
  Credentials opened = open(vector()).value();
  EXPECT_EQ(opened.name, "alice");
  EXPECT_EQ(opened.password.reveal(), "correct horse");
  EXPECT_EQ(opened.replay_id, hex(sha256(key.reveal())));
}

// I-15: bit 255 of the ephemeral key is ignored, so the same envelope has a second encoding; D-009.
TEST_F(SealedLogin, SecondEncodingOfTheKeyHasTheSameReplayId) {
  Sealed twin = vector();
  std::string bytes = from_base64(twin.ephemeral_pubkey).value();
  bytes.back() = static_cast<char>(bytes.back() | 0x80);
  twin.ephemeral_pubkey = base64(bytes);
  ASSERT_NE(twin.ephemeral_pubkey, vector().ephemeral_pubkey);
  EXPECT_EQ(open(twin).value().replay_id, open(vector()).value().replay_id);
  // Nor do characters help that the decoder skips.
  twin.iv.insert(4, "\n");
  EXPECT_EQ(open(twin).value().replay_id, open(vector()).value().replay_id);
}

TEST_F(SealedLogin, ClientAndServerAgree) {
  Sealed sealed = seal_login(ring_.login_key(), "bob@example.org", Secret("pässwörd \"\\ ✓")).value();
  Credentials opened = open(sealed).value();
  EXPECT_EQ(opened.name, "bob@example.org");
  EXPECT_EQ(opened.password.reveal(), "pässwörd \"\\ ✓");
  Credentials escaped =
      open(around(R"({"extra":[1],"password":"p\u00e4ss\u0077ord","username_or_email":"\u00e4lice"})")).value();
  EXPECT_EQ(escaped.name, "älice");
  EXPECT_EQ(escaped.password.reveal(), "pässword");
}

TEST_F(SealedLogin, MalformedEnvelopesAreInvalid) {
  std::vector<Sealed> bad;
  auto spoil = [&](auto&& change) { change(bad.emplace_back(vector())); };
  for (const char* key :
       {"", "AAAA", "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8", "!!!!",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8="})
    spoil([&](Sealed& s) { s.ephemeral_pubkey = key; });
  for (const char* iv : {"", "AAEC", "AAECAwQFBg==", "AAECAwQFBgcICQoM", "AAECAwQFBgcICQo", "===="})
    spoil([&](Sealed& s) { s.iv = iv; });
  spoil([&](Sealed& s) { s.iv = base64(std::string(65, 'i')); });
  for (const char* text : {"", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "ffoKKyFYs5we9n65", "x"})
    spoil([&](Sealed& s) { s.ciphertext = text; });
  spoil([&](Sealed& s) { s.ciphertext[0] = 'g'; });
  for (const char* plain :
       {"", "null", "[]", "{}", "\"text\"", "{\"username_or_email\":\"a\"}", "{\"password\":\"b\"}",
        "{\"username_or_email\":1,\"password\":\"b\"}", "{\"username_or_email\":\"a\",\"password\":null}",
        "{\"username_or_email\":\"a\",\"password\":\"b\"}x", "{\"username_or_email\":\"a\",\"password\":\"b\"",
        "{\"username_or_email\":\"\xff\",\"password\":\"b\"}"})
    bad.push_back(around(plain));
  bad.push_back(around(R"({"username_or_email":")" + std::string(255, 'a') + R"(","password":"b"})"));
  bad.push_back(around(R"({"username_or_email":"a","password":")" + std::string(1025, 'b') + "\"}"));
  for (std::size_t i = 0; i < bad.size(); ++i) {
    auto opened = open(bad[i]);
    ASSERT_FALSE(opened) << i;
    EXPECT_EQ(opened.error().code(), errc::invalid_envelope) << i;
  }
}

TEST_F(SealedLogin, EmptyFieldsInsideAreMissing) {
  for (const char* plain : {R"({"username_or_email":"","password":"b"})", R"({"username_or_email":"a","password":""})"})
    EXPECT_EQ(open(around(plain)).error().code(), errc::missing_fields);
}
