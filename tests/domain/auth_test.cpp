#include "tornado/auth.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "auth/sealed_login.hpp"
#include "base/file.hpp"
#include "support/scratch.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

const std::string right = "correct horse";

Address from(int number) {
  return Address::from_v4(0xcb007100U + static_cast<unsigned>(number));
}

PasswordPolicy cheap() {
  PasswordPolicy policy;
  policy.memory_kib = 64;
  policy.passes = 1;
  policy.lanes = 1;
  return policy;
}

AuthOptions without_patience() {
  AuthOptions options;
  options.store_patience = Seconds(0);
  return options;
}

template <class T>
errc code(const Result<T>& result) {
  return result ? errc::internal : result.error().code();
}

class AuthTest : public testing::Test {
 protected:
  AuthTest()
      : runtime_(RuntimeOptions().clock(clock_).blocking_threads(1).hashing_threads(1)),
        database_(open_sqlite(runtime_, scratch_ / "tornado.db")),
        users_(runtime_, *database_, cheap()),
        live_(memory_live_store(runtime_)),
        keys_(runtime_, key_options()),
        auth_(runtime_, users_, *live_, keys_, without_patience()) {
    runtime_.wait(database_->migrate()).value();
    open_keys();
    auth_.on_reuse([this](const DeviceId& device) { reused_.push_back(device); });
    auth_.online_devices([this](const UserId&) { return online_; });
  }

  KeyOptions key_options() const { return KeyOptions(scratch_ / "keys"); }
  void open_keys() {
    static test::Scratch lender;
    static std::string lent;
    std::string file = scratch_ / "keys/signing-keys.json";
    std::filesystem::create_directory(scratch_ / "keys");
    if (!lent.empty()) replace_file(file, lent, 0600).value();
    runtime_.wait(keys_.open()).value();
    if (lent.empty()) lent = read_file(file).value();
  }

  Result<User> create(const std::string& name, const std::string& email, int devices = 1) {
    NewUser user(name, email);
    user.password = Secret(right);
    user.max_devices = devices;
    return runtime_.wait(users_.create(std::move(user)));
  }
  User alice(int devices = 1) { return create("alice", "alice@example.org", devices).value(); }

  Result<User> verify(const std::string& name, const std::string& password, const Address& source = from(1)) {
    return runtime_.wait(auth_.verify(source, Credentials(name, Secret(password))));
  }
  Login login(const User& user) { return issue(user).value(); }
  Result<Login> issue(const User& user) {
    User now = runtime_.wait(users_.get(user.id)).value();
    return runtime_.wait(auth_.issue(std::move(now), "laptop"));
  }
  Result<Refreshed> refresh(const Tokens& tokens) {
    return runtime_.wait(auth_.refresh(from(1), std::string(tokens.refresh.reveal())));
  }
  Result<Account> authorize(const Tokens& tokens) {
    auto claims = auth_.check(tokens.access.reveal());
    if (!claims) return claims.error();
    return runtime_.wait(auth_.authorize(*claims));
  }
  Result<Device> revoke(const Tokens& tokens) {
    return runtime_.wait(auth_.revoke(std::string(tokens.refresh.reveal())));
  }
  std::vector<Device> devices(const User& user) { return runtime_.wait(users_.devices(user.id)).value(); }

  test::Scratch scratch_;
  ManualClock clock_;
  Runtime runtime_;
  std::unique_ptr<Database> database_;
  Users users_;
  std::unique_ptr<LiveStore> live_;
  KeyRotator keys_;
  Auth auth_;
  std::vector<DeviceId> reused_, online_;
};

}  // namespace

TEST_F(AuthTest, RightPasswordByNameOrAddressInAnyCase) {  // D-031
  User user = alice();
  for (const char* name : {"alice", "ALICE", "Alice@Example.ORG"}) EXPECT_EQ(verify(name, right).value().id, user.id);
  EXPECT_EQ(code(verify("alice", "Correct horse")), errc::invalid_credentials);
}

TEST_F(AuthTest, UnknownAccountAndWrongPasswordAnswerAlike) {  // D-020
  alice();
  NewUser without("nopass", "nopass@example.org");
  ASSERT_TRUE(runtime_.wait(users_.create(std::move(without))));
  auto wrong = verify("alice", "wrong password"), unknown = verify("nobody", right), none = verify("nopass", right);
  EXPECT_EQ(code(wrong), errc::invalid_credentials);
  for (const auto* other : {&unknown, &none}) {
    EXPECT_EQ(code(*other), code(wrong));
    EXPECT_EQ(other->error().detail(), wrong.error().detail());
  }
}

TEST_F(AuthTest, UnknownAccountCostsWhatAKnownOneCosts) {  // D-020
  alice();
  NewUser without("nopass", "nopass@example.org");
  ASSERT_TRUE(runtime_.wait(users_.create(std::move(without))));
  auto work_of = [this](const std::string& name) {
    std::uint64_t before = users_.hashing_work();
    (void)verify(name, "wrong password");
    return users_.hashing_work() - before;
  };
  EXPECT_EQ(work_of("alice"), 64u) << "one computation of 64 KiB and one pass";
  EXPECT_EQ(work_of("nobody"), 64u);
  EXPECT_EQ(work_of("nopass"), 64u);
}

TEST_F(AuthTest, TheSourceOfASignInIsRemembered) {
  User user = alice();
  auto stored = [&](const char* sql) {
    std::string address;
    Database::Body body = [&](Tx& tx) -> Result<void> {
      auto rows = tx.exec(sql);
      if (!rows) return rows.error();
      address = rows->rows.at(0).at(0).value_or("nothing");
      return {};
    };
    runtime_.wait(database_->transact(Scope::system(), body)).value();
    return address;
  };
  auto login = runtime_.wait(auth_.issue(user, "laptop", from(7))).value();
  EXPECT_EQ(stored("SELECT ip_address FROM auth_sessions"), from(7).str());
  EXPECT_EQ(stored("SELECT last_client_ip FROM users"), from(7).str());
  ASSERT_TRUE(refresh(login.tokens));
  EXPECT_EQ(stored("SELECT ip_address FROM auth_sessions"), from(1).str()) << "a renewal from elsewhere";
}

// Contract 1.7: the fifth failure itself is still a wrong password; a ban then lasts 900 s.
TEST_F(AuthTest, AddressIsThrottled) {
  alice();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(code(verify("nobody" + std::to_string(i), "x")), errc::invalid_credentials);
  auto banned = verify("alice", right);
  ASSERT_EQ(code(banned), errc::throttled);
  EXPECT_EQ(banned.error().detail(), "900");
  EXPECT_TRUE(verify("alice", right, from(2))) << "another address is not concerned";
  clock_.advance(Seconds(901));
  EXPECT_TRUE(verify("alice", right));
}

TEST_F(AuthTest, SuccessClearsTheFailuresOfAnAddress) {
  alice();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_EQ(code(verify("alice", "wrong")), errc::invalid_credentials);
    EXPECT_TRUE(verify("alice", right));
  }
}

// D-021, I-16.
TEST_F(AuthTest, AccountThrottleIsNotToldApartAndSparesTrustedAddresses) {
  alice();
  ASSERT_TRUE(verify("alice", right, from(100)));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(code(verify("Alice", "wrong", from(i))), errc::invalid_credentials);
  auto by_account = verify("alice", right, from(50));
  ASSERT_EQ(code(by_account), errc::throttled);
  EXPECT_EQ(by_account.error().detail(), "900") << "as for an address";
  for (int i = 0; i < 20; ++i) (void)verify("nobody", "wrong", from(i));
  EXPECT_EQ(code(verify("nobody", "wrong", from(51))), errc::throttled) << "unknown accounts as well";
  EXPECT_TRUE(verify("ALICE", right, from(100))) << "a recent success for this account from here";
}

TEST_F(AuthTest, TrustEndsAfterADay) {
  alice();
  ASSERT_TRUE(verify("alice", right, from(100)));
  clock_.advance(Seconds(86400));
  for (int i = 0; i < 20; ++i) (void)verify("alice", "wrong", from(i));
  EXPECT_EQ(code(verify("alice", right, from(100))), errc::throttled);
}

TEST_F(AuthTest, MalformedEnvelopesAreCounted) {  // D-029
  alice();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(runtime_.wait(auth_.malformed(from(1))));
  EXPECT_EQ(code(verify("alice", right)), errc::throttled);
}

TEST_F(AuthTest, ReplayedEnvelopeIsRefused) {  // D-009, I-15
  alice();
  Sealed sealed = seal_login(keys_.ring()->login_key(), "alice", Secret(right)).value();
  EXPECT_TRUE(runtime_.wait(auth_.verify(from(1), auth_.unseal(sealed).value())));
  EXPECT_EQ(code(runtime_.wait(auth_.verify(from(2), auth_.unseal(sealed).value()))), errc::invalid_envelope);
  clock_.advance(Seconds(660));
  EXPECT_EQ(code(runtime_.wait(auth_.verify(from(2), auth_.unseal(sealed).value()))), errc::invalid_envelope);
  Sealed wrong = seal_login(keys_.ring()->login_key(), "alice", Secret("wrong")).value();
  EXPECT_EQ(code(runtime_.wait(auth_.verify(from(3), auth_.unseal(wrong).value()))), errc::invalid_credentials);
  EXPECT_EQ(code(runtime_.wait(auth_.verify(from(3), auth_.unseal(wrong).value()))), errc::invalid_envelope)
      << "used up by a failure too";
}

TEST_F(AuthTest, StoredHashAboveTheLimitsMatchesNothing) {  // I-16
  User user = alice();
  Database::Body body = [&](Tx& tx) -> Result<void> {
    auto changed = tx.exec(
        "UPDATE users SET password_hash = $1 WHERE id = $2",
        {"$argon2id$v=19$m=262145,t=1,p=1$c2FsdHNhbHQ$yDCbRXt8YBhEtYWu23Ut1dbynmb19XUzbcBonDMLqwE", user.id.str()});
    return changed ? Result<void>() : changed.error();
  };
  ASSERT_TRUE(runtime_.wait(database_->transact(Scope::system(), body)));
  EXPECT_EQ(code(verify("alice", "")), errc::invalid_credentials);
}

TEST_F(AuthTest, SuspendedAccountIsToldOnlyWithTheRightPassword) {
  User user = alice();
  ASSERT_TRUE(runtime_.wait(users_.suspend(user.id)));
  EXPECT_EQ(code(verify("alice", right)), errc::user_inactive);
  EXPECT_EQ(code(verify("alice", "wrong")), errc::invalid_credentials);
  EXPECT_EQ(code(issue(user)), errc::user_inactive) << "D-007: suspended between password and device";
}

TEST_F(AuthTest, TokensOfASignIn) {
  User user = alice();
  Login in = login(user);
  Claims claims = auth_.check(in.tokens.access.reveal()).value();
  EXPECT_EQ(claims.user, user.id);
  EXPECT_EQ(claims.device, in.device.id);
  EXPECT_EQ(claims.expires - claims.issued, Seconds(900));
  EXPECT_EQ(authorize(in.tokens).value().device, in.device.id);
  EXPECT_NE(runtime_.wait(users_.get(user.id)).value().last_login, Instant()) << "D-033";
  EXPECT_EQ(code(auth_.check("")), errc::token_missing);
  EXPECT_EQ(code(auth_.check("a.b.c")), errc::token_invalid);
  EXPECT_FALSE(auth_.check(in.tokens.refresh.reveal())) << "a refresh token opens nothing";
  EXPECT_FALSE(runtime_.wait(auth_.refresh(from(1), std::string(in.tokens.access.reveal()))));
  clock_.advance(Seconds(900));
  EXPECT_EQ(code(auth_.check(in.tokens.access.reveal())), errc::token_expired) << "remembered tokens expire too";
}

TEST_F(AuthTest, RefreshWorksOnceAndItsAnswerCanBeHadAgain) {  // D-017, I-14
  Login in = login(alice());
  clock_.advance(Seconds(100));
  Refreshed first = refresh(in.tokens).value();
  EXPECT_EQ(first.device, in.device.id);
  EXPECT_NE(first.tokens.refresh_jti, in.tokens.refresh_jti);
  clock_.advance(Seconds(29));
  Refreshed again = refresh(in.tokens).value();
  EXPECT_TRUE(again.tokens.refresh == first.tokens.refresh && again.tokens.access == first.tokens.access);
  EXPECT_TRUE(reused_.empty());
  EXPECT_TRUE(authorize(first.tokens));
}

TEST_F(AuthTest, ReuseAfterTheWindowRevokesTheFamily) {  // D-010
  Login in = login(alice());
  Refreshed next = refresh(in.tokens).value();
  clock_.advance(Seconds(30));
  EXPECT_EQ(code(refresh(in.tokens)), errc::token_reused);
  EXPECT_EQ(reused_, (std::vector<DeviceId>{in.device.id}));
  EXPECT_EQ(code(refresh(next.tokens)), errc::revoked);
  EXPECT_EQ(code(authorize(next.tokens)), errc::revoked);
  EXPECT_TRUE(devices(in.user).empty()) << "the slot is free";
}

TEST_F(AuthTest, WindowEndsWhenTheSuccessorIsSeen) {  // I-14
  Login in = login(alice());
  Refreshed next = refresh(in.tokens).value();
  ASSERT_TRUE(auth_.check(next.tokens.access.reveal()));
  EXPECT_EQ(code(refresh(in.tokens)), errc::token_reused);
}

TEST_F(AuthTest, GrandparentIsReuse) {
  Login in = login(alice());
  Refreshed second = refresh(in.tokens).value();
  Refreshed third = refresh(second.tokens).value();
  EXPECT_EQ(code(refresh(in.tokens)), errc::token_reused);
  EXPECT_EQ(code(refresh(third.tokens)), errc::revoked);
}

TEST_F(AuthTest, ParallelRefreshesOfOneTokenGiveOneSuccessor) {  // D-016
  Login in = login(alice());
  std::vector<std::optional<Result<Refreshed>>> answers(8);
  auto one = [](Auth& auth, std::string token, std::optional<Result<Refreshed>>& out) -> Task<void> {
    out.emplace(co_await auth.refresh(from(1), std::move(token)));
    co_return Result<void>();
  };
  {
    std::vector<Background> running;
    for (auto& answer : answers)
      running.push_back(runtime_.spawn(one(auth_, std::string(in.tokens.refresh.reveal()), answer)));
    auto nothing = []() -> Result<void> { return {}; };
    auto trip = [](Runtime& r, auto& fn) -> Task<void> { co_return co_await r.offload(Blocking::signing, fn); };
    auto open = [&] { return std::any_of(answers.begin(), answers.end(), [](auto& a) { return !a; }); };
    for (int i = 0; i < 10'000 && open(); ++i) (void)runtime_.wait(trip(runtime_, nothing));
    ASSERT_FALSE(open());
  }
  for (const auto& answer : answers) {
    ASSERT_TRUE(*answer) << (*answer).error().detail();
    EXPECT_TRUE((*answer)->tokens.refresh == (*answers[0])->tokens.refresh);
  }
  EXPECT_TRUE(reused_.empty());
  EXPECT_EQ(auth_.check((*answers[0])->tokens.access.reveal()).value().generation, 2U);
}

TEST_F(AuthTest, LogoutTakesConsumedAndExpiredTokens) {  // I-14, D-004
  User user = alice(3);
  Login consumed = login(user), expired = login(user), plain = login(user);
  Refreshed next = refresh(consumed.tokens).value();
  EXPECT_EQ(revoke(consumed.tokens).value().id, consumed.device.id);
  EXPECT_EQ(code(refresh(next.tokens)), errc::revoked);
  EXPECT_EQ(code(authorize(next.tokens)), errc::revoked) << "D-006";
  EXPECT_TRUE(revoke(consumed.tokens)) << "twice";
  EXPECT_TRUE(authorize(plain.tokens)) << "other devices are not concerned";
  EXPECT_EQ(devices(user).size(), 2U);
  clock_.advance(Seconds(604800));
  EXPECT_EQ(code(refresh(expired.tokens)), errc::token_expired);
  EXPECT_TRUE(revoke(expired.tokens));
  EXPECT_EQ(code(runtime_.wait(auth_.revoke("a.b.c"))), errc::token_invalid);
}

TEST_F(AuthTest, SuspensionEndsEveryToken) {  // D-006, D-007
  User user = alice(2);
  Login one = login(user), two = login(user);
  ASSERT_TRUE(authorize(one.tokens));
  ASSERT_TRUE(runtime_.wait(users_.suspend(user.id)));
  for (const auto* in : {&one, &two}) {
    auto quick = auth_.authorized(auth_.check(in->tokens.access.reveal()).value());
    EXPECT_FALSE(quick && *quick) << "I-05: no stale memory";
    EXPECT_EQ(code(authorize(in->tokens)), errc::user_inactive);
    EXPECT_EQ(code(refresh(in->tokens)), errc::user_inactive);
  }
  ASSERT_TRUE(runtime_.wait(users_.reinstate(user.id)));
  EXPECT_EQ(code(authorize(one.tokens)), errc::revoked) << "old tokens stay void";
  EXPECT_EQ(code(refresh(one.tokens)), errc::revoked);
  EXPECT_TRUE(authorize(login(user).tokens));
}

TEST_F(AuthTest, DeletionEndsEveryToken) {  // D-005
  User user = alice();
  Login in = login(user);
  ASSERT_TRUE(authorize(in.tokens));
  ASSERT_TRUE(runtime_.wait(users_.remove(user.id)));
  EXPECT_EQ(code(authorize(in.tokens)), errc::user_inactive);
  EXPECT_EQ(code(refresh(in.tokens)), errc::user_inactive);
  EXPECT_EQ(code(verify("alice", right)), errc::invalid_credentials);
}

TEST_F(AuthTest, DeviceRevocationEndsItsTokens) {  // D-014
  User user = alice(2);
  Login lost = login(user), kept = login(user);
  ASSERT_TRUE(authorize(lost.tokens));
  ASSERT_TRUE(runtime_.wait(users_.revoke(lost.device.id)));
  EXPECT_EQ(code(authorize(lost.tokens)), errc::revoked);
  EXPECT_EQ(code(refresh(lost.tokens)), errc::revoked);
  EXPECT_TRUE(authorize(kept.tokens));
  EXPECT_EQ(code(runtime_.wait(users_.revoke(lost.device.id))), errc::conflict);
}

TEST_F(AuthTest, NewPasswordEndsEveryTokenAndANewLimitDoesNot) {  // D-008
  User user = alice();
  Login in = login(user);
  UserChanges limit;
  limit.max_devices = 5;
  ASSERT_TRUE(runtime_.wait(users_.update(user.id, limit)));
  EXPECT_TRUE(authorize(in.tokens));
  UserChanges password;
  password.password = Secret("another horse");
  ASSERT_TRUE(runtime_.wait(users_.update(user.id, password)));
  EXPECT_EQ(code(authorize(in.tokens)), errc::revoked);
  EXPECT_EQ(code(refresh(in.tokens)), errc::revoked);
  EXPECT_EQ(code(verify("alice", right)), errc::invalid_credentials);
}

TEST_F(AuthTest, FullSetEvictsTheLeastRecentlyUsedDevice) {  // D-004, D-011, I-07
  User user = alice(2);
  Login first = login(user);
  clock_.advance(Seconds(10));
  Login second = login(user);
  clock_.advance(Seconds(10));
  first.tokens = refresh(first.tokens).value().tokens;
  clock_.advance(Seconds(10));
  Login third = login(user);
  EXPECT_EQ(third.evicted, (std::vector<DeviceId>{second.device.id}));
  EXPECT_EQ(code(authorize(second.tokens)), errc::revoked);
  EXPECT_EQ(code(refresh(second.tokens)), errc::revoked);
  EXPECT_TRUE(authorize(first.tokens));
  EXPECT_EQ(devices(user).size(), 2U);
}

TEST_F(AuthTest, OnlineDevicesKeepTheirSlots) {
  User user = alice(2);
  Login first = login(user);
  clock_.advance(Seconds(10));
  Login second = login(user);
  online_ = {first.device.id};
  EXPECT_EQ(login(user).evicted, (std::vector<DeviceId>{second.device.id}));
  online_ = {first.device.id, devices(user)[0].id, devices(user)[1].id};
  EXPECT_EQ(code(issue(user)), errc::device_limit);
  EXPECT_EQ(devices(user).size(), 2U);
  EXPECT_TRUE(authorize(first.tokens));
}

TEST_F(AuthTest, ExpiredFamiliesFreeTheirSlots) {  // D-013
  User user = alice();
  login(user);
  clock_.advance(Seconds(604801));
  EXPECT_TRUE(devices(user).empty());
  EXPECT_TRUE(login(user).evicted.empty());
}

TEST_F(AuthTest, NamesAndAddressesAreOneNameSpace) {  // D-024, D-031, D-032
  User user = alice();
  EXPECT_EQ(code(create("ALICE", "other@example.org")), errc::already_exists);
  EXPECT_EQ(code(create("other", "Alice@EXAMPLE.org")), errc::already_exists);
  EXPECT_EQ(code(create("Alice@example.org", "other@example.org")), errc::already_exists);
  ASSERT_TRUE(create("bob@example.org", "bob2@example.org"));
  EXPECT_EQ(code(create("carol", "bob@example.org")), errc::already_exists);
  UserChanges change;
  change.username = "BOB@example.org";
  EXPECT_EQ(code(runtime_.wait(users_.update(user.id, change))), errc::already_exists);
  EXPECT_EQ(runtime_.wait(users_.find("Alice")).value().id, user.id) << "nothing was changed";
  ASSERT_TRUE(runtime_.wait(users_.remove(user.id)));
  EXPECT_TRUE(create("Alice", "alice@example.org")) << "names of deleted accounts are free";
}

TEST_F(AuthTest, ImpossibleAccountsAreRefused) {
  EXPECT_EQ(code(create("ab", "a@example.org")), errc::invalid_argument);
  EXPECT_EQ(code(create(std::string(51, 'a'), "a@example.org")), errc::invalid_argument);
  EXPECT_EQ(code(create("a\nb", "a@example.org")), errc::invalid_argument);
  for (const char* email : {"", "a", "a@", "@example.org", "a@b", "a@b@c.de", "a b@c.de"})
    EXPECT_EQ(code(create("alice", email)), errc::invalid_argument) << email;
  EXPECT_EQ(code(create("alice", "a@example.org", 0)), errc::invalid_argument);
}

TEST_F(AuthTest, RefreshOutlivesTheStoreForAWhile) {  // I-11
  Login in = login(alice());
  Login unseen = login(create("bob", "bob@example.org").value());
  ASSERT_TRUE(runtime_.wait(database_->close()));
  Refreshed next = refresh(in.tokens).value();
  EXPECT_EQ(refresh(in.tokens).value().tokens.refresh_jti, next.tokens.refresh_jti) << "a retry";
  Refreshed third = refresh(next.tokens).value();
  EXPECT_EQ(code(refresh(in.tokens)), errc::token_reused);
  clock_.advance(Seconds(3601));
  EXPECT_EQ(code(refresh(third.tokens)), errc::unavailable);
  EXPECT_EQ(code(refresh(unseen.tokens)), errc::unavailable);
}

// A token signed before the clock was set back is good, not from the future (I-10).
TEST_F(AuthTest, AClockSetBackRefusesNobody) {
  Login laptop = login(alice());
  auth_.trim();
  clock_.advance(-Seconds(86400));
  ASSERT_TRUE(authorize(laptop.tokens));
  auto renewed = refresh(laptop.tokens);
  ASSERT_TRUE(renewed) << renewed.error().detail();
  EXPECT_TRUE(authorize(renewed->tokens));
  EXPECT_TRUE(revoke(renewed->tokens));
}

TEST_F(AuthTest, WithoutAStepATokenFromTheFutureIsRefused) {
  clock_.advance(Seconds(3600));
  Login laptop = login(alice());
  clock_.advance(-Seconds(3600));
  Auth other(runtime_, users_, *live_, keys_, without_patience());
  EXPECT_EQ(code(other.check(laptop.tokens.access.reveal())), errc::token_invalid);
}
