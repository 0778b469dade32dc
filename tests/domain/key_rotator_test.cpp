#include "tornado/key_rotator.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>

#include "base/file.hpp"
#include "crypto/jwt_codec.hpp"
#include "crypto/seal.hpp"
#include "support/scratch.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;
namespace json = boost::json;

namespace {

class Rotator : public testing::Test {
 protected:
  Rotator() : runtime_(RuntimeOptions().clock(clock_).blocking_threads(1)) {}
  ~Rotator() override { stop(); }

  std::string directory() const { return scratch_ / "keys"; }
  std::string file() const { return directory() + "/signing-keys.json"; }
  KeyOptions options() const { return KeyOptions(directory()); }

  Result<void> start() {
    rotator_ = std::make_unique<KeyRotator>(runtime_, options());
    return runtime_.wait(rotator_->open());
  }
  /// The usual start, with keys that an earlier test has made: making them is what takes time.
  void start_with_lent_keys() {
    static test::Scratch lender;
    static std::string lent;
    if (!lent.empty()) {
      std::filesystem::create_directory(directory());
      replace_file(file(), lent, 0600).value();
    }
    start().value();
    if (lent.empty()) lent = read_file(file()).value();
  }
  void stop() {
    running_ = Background();
    rotator_.reset();
  }
  void run() { running_ = runtime_.spawn(rotator_->run()); }

  /// Time passes in steps that the schedule can follow; blocking work is waited for.
  void pass(Seconds time) {
    Instant until = clock_.now() + time;
    while (clock_.now() < until) {
      clock_.set(std::min(until, clock_.now() + Seconds(900)));
      settle();
      settle();
    }
  }
  void settle() {
    auto nothing = []() -> Result<void> { return {}; };
    auto trip = [](Runtime& r, auto& fn, Blocking purpose) -> Task<void> { co_return co_await r.offload(purpose, fn); };
    for (int i = 0; i < 6; ++i) {
      runtime_.settle();
      (void)runtime_.wait(trip(runtime_, nothing, Blocking::signing));
      (void)runtime_.wait(trip(runtime_, nothing, Blocking::file));
    }
  }

  std::string token(KeyUse use, Seconds term) {
    auto now = std::chrono::duration_cast<Seconds>(clock_.now().time_since_epoch()).count();
    return rotator_->ring()
        ->sign(use, "{\"iat\":" + std::to_string(now) + ",\"exp\":" + std::to_string(now + term.count()) + "}")
        .value();
  }
  bool verifies(KeyUse use, const std::string& token) {
    return rotator_->ring()->verify(use, token, clock_.now()).has_value();
  }
  std::string signer(KeyUse use) { return parse_jws(token(use, Seconds(1))).value().key_id; }
  std::vector<KeyInfo> keys(KeyUse use) {
    auto all = rotator_->list();
    std::erase_if(all, [&](const KeyInfo& key) { return key.use != use; });
    return all;
  }
  json::value stored() { return json::parse(read_file(file()).value()); }
  void store(const json::value& value) { replace_file(file(), json::serialize(value), 0600).value(); }
  errc start_error() {
    auto started = start();
    EXPECT_FALSE(started);
    return started ? errc::internal : started.error().code();
  }

  ManualClock clock_;
  test::Scratch scratch_;
  Runtime runtime_;
  std::unique_ptr<KeyRotator> rotator_;
  Background running_;
};

unsigned mode_of(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

}  // namespace

// D-019: made with their final mode.
TEST_F(Rotator, FirstStartMakesKeysThatOnlyTheOwnerReads) {
  auto before = ::umask(0);
  auto started = start();
  ::umask(before);
  ASSERT_TRUE(started);
  EXPECT_EQ(mode_of(directory()), 0700U);
  EXPECT_EQ(mode_of(file()), 0600U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory()), {}), 1) << "no temporary file remains";
  EXPECT_NE(signer(KeyUse::access), signer(KeyUse::refresh));
  EXPECT_TRUE(verifies(KeyUse::access, token(KeyUse::access, Seconds(900))));
  EXPECT_EQ(rotator_->list().size(), 3U);
}

// D-106: a start is no rotation.
TEST_F(Rotator, RestartKeepsKeysAndSchedule) {
  start_with_lent_keys();
  std::string old = token(KeyUse::refresh, Seconds(604800)), id = signer(KeyUse::refresh);
  Instant created = keys(KeyUse::refresh)[0].created;
  std::string login = rotator_->ring()->login_key().str();
  stop();
  clock_.advance(Seconds(80000));
  ASSERT_TRUE(start());
  run();
  settle();
  EXPECT_EQ(signer(KeyUse::refresh), id);
  EXPECT_EQ(keys(KeyUse::refresh).size(), 1U);
  EXPECT_EQ(keys(KeyUse::refresh)[0].created, created);
  EXPECT_TRUE(verifies(KeyUse::refresh, old));
  EXPECT_NE(rotator_->ring()->login_key().str(), login) << "login keys live in memory (I-15)";
  pass(Seconds(86400 - 80000 - 30));
  EXPECT_EQ(keys(KeyUse::refresh).size(), 1U);
  pass(Seconds(60));
  EXPECT_EQ(keys(KeyUse::refresh).size(), 2U) << "the schedule counts from the key's making, not from the start";
}

// D-003, I-14.
TEST_F(Rotator, OldTokensVerifyUntilTheyExpireAndTheNewKeySignsAfterTheLead) {
  start_with_lent_keys();
  run();
  settle();
  std::string id = signer(KeyUse::access), old = token(KeyUse::access, Seconds(900));
  ASSERT_TRUE(runtime_.wait(rotator_->rotate(KeyUse::access)));
  EXPECT_EQ(keys(KeyUse::access).size(), 2U) << "published at once";
  EXPECT_NE(rotator_->ring()->jwks().find(keys(KeyUse::access)[1].id), std::string::npos);
  pass(Seconds(59));
  EXPECT_EQ(signer(KeyUse::access), id) << "before the lead is over";
  std::string late = token(KeyUse::access, Seconds(900));
  pass(Seconds(16));
  EXPECT_NE(signer(KeyUse::access), id);
  EXPECT_TRUE(verifies(KeyUse::access, old));
  pass(Seconds(820));
  EXPECT_TRUE(verifies(KeyUse::access, late)) << "a key verifies until the last token it signed has expired";
  pass(Seconds(1000));
  EXPECT_FALSE(verifies(KeyUse::access, old));
  EXPECT_EQ(keys(KeyUse::access).size(), 1U) << "and goes then";
}

TEST_F(Rotator, OneRotationAtATimeAndNobodyIsHeldByIt) {
  start_with_lent_keys();
  const std::size_t before = rotator_->list().size();
  auto first = runtime_.spawn(rotator_->rotate(KeyUse::access));
  auto second = runtime_.spawn(rotator_->rotate(KeyUse::refresh));
  auto third = runtime_.spawn(rotator_->rotate(KeyUse::access));
  runtime_.settle();
  EXPECT_EQ(rotator_->list().size(), before) << "the first still makes its key";
  third.stop();
  for (int i = 0; i < 4; ++i) settle();
  ASSERT_EQ(rotator_->list().size(), before + 2);
  rotator_.reset();
  ASSERT_TRUE(start());
  EXPECT_EQ(rotator_->list().size(), before + 2);
}

// D-026: only public halves are archived, on disk as well.
TEST_F(Rotator, ArchivedKeysArePublicOnly) {
  start_with_lent_keys();
  run();
  std::string id = signer(KeyUse::access);
  ASSERT_TRUE(runtime_.wait(rotator_->rotate(KeyUse::access)));
  pass(Seconds(80));
  int with_private = 0;
  json::value set = stored();
  for (const auto& key : set.at("keys").as_array()) {
    bool secret = key.as_object().contains("private");
    with_private += secret ? 1 : 0;
    if (key.at("id").as_string() == id) {
      EXPECT_FALSE(secret);
    }
  }
  EXPECT_EQ(with_private, 2);
}

TEST_F(Rotator, HandOverDuringADowntimeIsFinishedAtTheNextStart) {
  start_with_lent_keys();
  std::string id = signer(KeyUse::access), old = token(KeyUse::access, Seconds(900));
  ASSERT_TRUE(runtime_.wait(rotator_->rotate(KeyUse::access)));
  stop();
  clock_.advance(Seconds(120));
  ASSERT_TRUE(start());
  run();
  pass(Seconds(20));
  EXPECT_NE(signer(KeyUse::access), id);
  EXPECT_TRUE(verifies(KeyUse::access, old));
  json::value set = stored();
  for (const auto& key : set.at("keys").as_array())
    if (key.at("id").as_string() == id) {
      EXPECT_FALSE(key.as_object().contains("private")) << "D-026";
    }
}

// D-108, D-115: what the disk says is checked.
TEST_F(Rotator, DamagedFilesAreDataLoss) {
  start_with_lent_keys();
  stop();
  std::string good = read_file(file()).value();
  for (const std::string& bad : {std::string(), std::string("{}"), std::string("null"), std::string("{\"keys\":1}"),
                                 good.substr(0, good.size() / 2), good + "x", std::string("{\"keys\":[1]}"),
                                 std::string("{\"keys\":[{\"use\":\"access\"}]}"),
                                 std::string("{\"keys\":[{\"use\":\"access\",\"public\":\"x\"}]}")}) {
    replace_file(file(), bad, 0600).value();
    EXPECT_EQ(start_error(), errc::data_loss) << bad.substr(0, 60);
    EXPECT_EQ(read_file(file()).value(), bad) << "evidence is not overwritten";
  }
}

TEST_F(Rotator, SwappedHalvesAreDataLoss) {
  start_with_lent_keys();
  stop();
  json::value set = stored();
  auto& all = set.at("keys").as_array();
  std::swap(all[0].at("private"), all[1].at("private"));
  store(set);
  EXPECT_EQ(start_error(), errc::data_loss);
}

TEST_F(Rotator, UnreadableDirectoryIsUnavailable) {
  replace_file(directory(), "a file", 0600).value();
  EXPECT_EQ(start_error(), errc::store_unavailable);
}

// D-105: the set changes as a whole or not at all. A directory in the place of the temporary file stops the write,
// for root as well.
TEST_F(Rotator, FailedWriteLeavesTheOldSet) {
  start_with_lent_keys();
  std::string before = read_file(file()).value(), id = signer(KeyUse::access);
  std::string old = token(KeyUse::access, Seconds(900));
  std::string obstacle = file() + ".tmp." + std::to_string(::getpid());
  std::filesystem::create_directory(obstacle);
  auto rotated = runtime_.wait(rotator_->rotate(KeyUse::access));
  ASSERT_FALSE(rotated);
  EXPECT_EQ(rotated.error().code(), errc::store_unavailable);
  EXPECT_EQ(read_file(file()).value(), before);
  EXPECT_EQ(keys(KeyUse::access).size(), 1U);
  EXPECT_EQ(signer(KeyUse::access), id);
  EXPECT_TRUE(verifies(KeyUse::access, old));
  std::filesystem::remove(obstacle);
  EXPECT_TRUE(runtime_.wait(rotator_->rotate(KeyUse::access))) << "and can be tried again (D-114)";
  EXPECT_EQ(keys(KeyUse::access).size(), 2U);
}

// A crash before the rename leaves a temporary file and the old set.
TEST_F(Rotator, LeftOversOfACrashAreIgnored) {
  start_with_lent_keys();
  std::string id = signer(KeyUse::access);
  stop();
  replace_file(file() + ".tmp." + std::to_string(::getpid()), "{\"keys\":[", 0600).value();
  ASSERT_TRUE(start());
  EXPECT_EQ(signer(KeyUse::access), id);
  EXPECT_TRUE(runtime_.wait(rotator_->rotate(KeyUse::access)));
}

// D-111: a failed rotation is tried again soon, not after a whole period.
TEST_F(Rotator, FailedScheduledRotationIsRetried) {
  start_with_lent_keys();
  run();
  std::string obstacle = file() + ".tmp." + std::to_string(::getpid());
  std::filesystem::create_directory(obstacle);
  clock_.advance(Seconds(86401));
  settle();
  EXPECT_EQ(keys(KeyUse::access).size(), 1U);
  EXPECT_TRUE(rotator_->ring()->sign(KeyUse::access, "{}"));
  std::filesystem::remove(obstacle);
  pass(Seconds(30));
  EXPECT_EQ(keys(KeyUse::access).size(), 2U);
}

// I-15.
TEST_F(Rotator, LoginKeyRotatesAndTheFormerOneServesAMinuteMore) {
  start_with_lent_keys();
  run();
  settle();
  auto client = X25519Key::generate();
  PublicKey first = rotator_->ring()->login_key();
  std::string shared(client.agree(first).value().reveal());
  auto opens = [&] {
    auto all = rotator_->ring()->agree(client.public_key(), clock_.now());
    return std::any_of(all.begin(), all.end(), [&](const Secret& secret) { return secret.reveal() == shared; });
  };
  clock_.advance(Seconds(599));
  settle();
  EXPECT_EQ(rotator_->ring()->login_key(), first);
  clock_.advance(Seconds(1));
  settle();
  EXPECT_NE(rotator_->ring()->login_key(), first);
  clock_.advance(Seconds(60));
  settle();
  EXPECT_TRUE(opens());
  clock_.advance(Seconds(1));
  settle();
  EXPECT_FALSE(opens());
}

TEST_F(Rotator, ForgottenLoginKeysOpenNothing) {
  start_with_lent_keys();
  auto client = X25519Key::generate();
  std::string shared(client.agree(rotator_->ring()->login_key()).value().reveal());
  ASSERT_TRUE(runtime_.wait(rotator_->forget_login_keys()));
  auto all = rotator_->ring()->agree(client.public_key(), clock_.now());
  ASSERT_EQ(all.size(), 1U);
  EXPECT_NE(all[0].reveal(), shared);
  EXPECT_TRUE(rotator_->ring()->agree(PublicKey(), clock_.now()).empty()) << "an all-zero result is no secret";
}

TEST_F(Rotator, ImpossibleOptionsAreRefused) {
  KeyOptions wrong = options();
  wrong.every = Seconds(59);
  EXPECT_THROW(KeyRotator(runtime_, wrong), std::invalid_argument);
  wrong.every = Seconds(60);
  wrong.lead = Seconds(60);
  EXPECT_THROW(KeyRotator(runtime_, wrong), std::invalid_argument);
}

TEST_F(Rotator, AClockSetBackLeavesASigner) {
  start_with_lent_keys();
  std::string before = token(KeyUse::access, Seconds(86400));
  stop();
  // Keys that were made with the clock two hours ahead, and a start after it was put right.
  clock_.advance(-Seconds(7200));
  start().value();
  EXPECT_TRUE(verifies(KeyUse::access, token(KeyUse::access, Seconds(900))));
  EXPECT_TRUE(verifies(KeyUse::refresh, token(KeyUse::refresh, Seconds(900))));
  EXPECT_TRUE(rotator_->ring()->verify(KeyUse::access, before, clock_.now(), false, Seconds(7200)));
}
