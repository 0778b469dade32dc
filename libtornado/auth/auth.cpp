#include "tornado/auth.hpp"

#include "auth/hash_queue.hpp"
#include "auth/sealed_login.hpp"
#include "auth/tokens.hpp"
#include "base/encoding.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "crypto/seal.hpp"
#include "users/device_repo.hpp"
#include "users/sign_in_repo.hpp"
#include "users/user_repo.hpp"
#include "users/users_impl.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_verified = 100'000;
constexpr Seconds trusted_for{86400};

std::string address_key(const Address& source) {
  return "address:" + source.str();
}
std::string account_key(std::string_view name) {
  return "account:" + user_repo::fold(name);
}
std::string trust_key(std::string_view name, const Address& source) {
  return user_repo::fold(name) + "\n" + source.str();
}

}  // namespace

struct Auth::Impl {
  Impl(Runtime& runtime_, Users::Impl& users_, Users& public_users_, LiveStore& live_, const KeyRotator& keys_,
       AuthOptions options_)
      : runtime(runtime_),
        users(users_),
        public_users(public_users_),
        live(live_),
        keys(keys_),
        options(std::move(options_)),
        queue(runtime_, runtime_.hashing_threads(), options.hashing_patience) {}

  bool trusted(std::string_view name, const Address& source) {
    auto it = successes.find(trust_key(name, source));
    return it != successes.end() && std::chrono::abs(runtime.now() - it->second) < trusted_for;
  }

  /// An account's throttle never locks out an address with a recent success for it (I-16).
  Task<void> admit(Address source, std::string name) {
    TRY(auto by_address, co_await live.peek(address_key(source)));
    if (!by_address.allowed) co_return throttled(by_address);
    if (trusted(name, source)) co_return Result<void>();
    TRY(auto by_account, co_await live.peek(account_key(name)));
    if (!by_account.allowed) co_return throttled(by_account);
    co_return Result<void>();
  }

  static Error throttled(const Verdict& verdict) {
    return Error(errc::throttled, std::to_string(verdict.retry_after.count()));
  }

  Task<void> failed(Address source, std::string name) {
    TRY_VOID(co_await live.hit(address_key(source), options.address_throttle));
    if (!name.empty()) TRY_VOID(co_await live.hit(account_key(name), options.account_throttle));
    co_return Result<void>();
  }

  Task<void> succeeded(Address source, std::string name) {
    if (successes.size() >= most_verified) successes.clear();
    successes[trust_key(name, source)] = runtime.now();
    TRY_VOID(co_await live.clear(address_key(source)));
    co_return Result<void>();
  }

  Task<std::optional<user_repo::WithHash>> look_up(std::string name) {
    std::optional<user_repo::WithHash> found;
    Database::Body body = [&](Tx& tx) -> Result<void> {
      auto row = user_repo::find_with_hash(tx, name);
      if (row)
        found = std::move(*row);
      else if (row.error().code() != errc::not_found)
        return row.error();
      return {};
    };
    TRY_VOID(co_await users.database.transact(Scope::system(), body));
    co_return found;
  }

  Task<bool> matches(const std::optional<user_repo::WithHash>& found, Secret password, Address source,
                     bool known_here) {
    TRY(auto turn, co_await queue.enter(source, known_here));
    if (!found || !found->hash) co_return co_await users.hasher.verify_nothing(std::move(password));
    co_return co_await users.hasher.verify(std::move(password), *found->hash);
  }

  /// Signs both tokens of a sign-in, off the loop.
  Task<Tokens> sign(const Account& account, const SignIn& sign_in) {
    auto ring = keys.ring();
    TokenClaims claims(options, account, sign_in);
    std::string access_claims = claims.access(), refresh_claims = claims.refresh();
    Tokens tokens;
    auto work = [&]() -> Result<void> {
      TRY_PLAIN(auto access, ring->sign(KeyUse::access, access_claims));
      TRY_PLAIN(auto refresh, ring->sign(KeyUse::refresh, refresh_claims));
      tokens.access = Secret(std::move(access));
      tokens.refresh = Secret(std::move(refresh));
      return {};
    };
    TRY_VOID(co_await runtime.offload(Blocking::signing, work));
    // What we have just signed need not be verified when it comes back.
    if (ring == verified_with && verified.size() < most_verified)
      if (auto read = read_claims(access_claims, "access", options))
        verified.emplace(sha256(tokens.access.reveal()), *read);
    tokens.access_jti = sign_in.access_jti;
    tokens.refresh_jti = sign_in.refresh_jti;
    tokens.access_expires = sign_in.issued + options.access_term;
    tokens.refresh_expires = sign_in.expires;
    co_return tokens;
  }

  void renew(SignIn& sign_in) const {
    sign_in.access_jti = uuid4();
    sign_in.refresh_jti = uuid4();
    sign_in.issued = std::chrono::floor<Seconds>(runtime.now());
    sign_in.expires = sign_in.issued + options.refresh_term;
  }

  Result<Account> judge(const Claims& claims, const Account& account) const {
    bool same = account.user == claims.user && account.user_epoch == claims.user_epoch &&
                account.device_epoch == claims.device_epoch;
    if (!account.active) return Error(errc::user_inactive, "the account is inactive");
    if (!same || !account.may_connect()) return Error(errc::revoked, "the sign-in was revoked");
    return account;
  }

  /// Tokens signed before the clock was set back are not from the future (I-10), until the last of them must be over.
  Seconds set_back(Seconds term) const {
    auto gap = std::chrono::ceil<Seconds>(newest - runtime.now());
    bool over = std::chrono::steady_clock::now() - newest_seen > term;
    return over ? Seconds(0) : std::max(Seconds(0), gap);
  }

  void saw_time(Instant moment) {
    if (moment < newest) return;
    newest = moment;
    newest_seen = std::chrono::steady_clock::now();
  }

  /// An access token of this generation is in use.
  void saw(const Claims& claims) const {
    if (used_generation.size() >= most_verified) used_generation.clear();
    auto& used = used_generation[claims.sign_in];
    used = std::max(used, claims.generation);
  }

  Task<Refreshed> advance(Address source, Claims claims);
  Task<Refreshed> advance_from_memory(Claims claims);
  Result<SignIn> step(Tx& tx, const Claims& claims, const Address& source, std::uint64_t used, Account& account,
                      bool& was_reused);

  Runtime& runtime;
  Users::Impl& users;
  Users& public_users;
  LiveStore& live;
  const KeyRotator& keys;
  AuthOptions options;
  HashQueue queue;
  std::unordered_map<std::string, Instant> successes;        ///< name and address of good logins
  mutable std::unordered_map<std::string, Claims> verified;  ///< by the SHA-256 of the token
  mutable std::shared_ptr<const KeyRing> verified_with;
  Instant newest;  ///< the latest moment seen, and when that was
  std::chrono::steady_clock::time_point newest_seen;
  /// Newest generation of a family whose access token was used: its predecessor may not be retried any more (I-14).
  mutable std::unordered_map<SignInId, std::uint64_t> used_generation;
  std::unordered_map<SignInId, SignIn> adrift;  ///< sign-ins renewed while the store was away
  std::function<std::vector<DeviceId>(const UserId&)> online = [](const UserId&) { return std::vector<DeviceId>(); };
  std::function<void(const DeviceId&)> reused = [](const DeviceId&) {};
  std::function<void(const DeviceId&)> doubted = [](const DeviceId&) {};
};

Auth::Auth(Runtime& runtime, Users& users, LiveStore& live, const KeyRotator& keys, AuthOptions options)
    : impl_(std::make_unique<Impl>(runtime, *users.impl_, users, live, keys, std::move(options))) {}
Auth::~Auth() = default;

void Auth::online_devices(std::function<std::vector<DeviceId>(const UserId&)> ask) {
  impl_->online = std::move(ask);
}
void Auth::on_reuse(std::function<void(const DeviceId&)> tell) {
  impl_->reused = std::move(tell);
}
void Auth::on_doubt(std::function<void(const DeviceId&)> tell) {
  impl_->doubted = std::move(tell);
}
Task<void> Auth::restore() {
  Instant last;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(last, sign_in_repo::last_issued(tx));
    return {};
  };
  TRY_VOID(co_await impl_->users.database.transact(Scope::system(), body));
  impl_->saw_time(last);
  co_return Result<void>();
}

void Auth::trim() {
  if (impl_->queue.idle()) impl_->users.hasher.trim();
  impl_->saw_time(impl_->runtime.now());
}

Result<Credentials> Auth::unseal(const Sealed& sealed) const {
  return open_sealed_login(sealed, *impl_->keys.ring(), impl_->runtime.now());
}

std::size_t Auth::waiting() const noexcept {
  return impl_->queue.waiting();
}

Task<void> Auth::malformed(Address source) {
  co_return co_await impl_->failed(source, std::string());
}

Task<User> Auth::verify(Address source, Credentials credentials) {
  TRY_VOID(co_await impl_->admit(source, credentials.name));
  if (!credentials.replay_id.empty()) {
    // As long as any login key that opens the envelope may live.
    TRY(bool first, co_await impl_->live.claim("envelope:" + credentials.replay_id, Seconds(3600)));
    if (!first) co_return Error(errc::invalid_envelope, "the envelope was used before");
  }
  TRY(auto found, co_await impl_->look_up(credentials.name));
  bool known_here = impl_->trusted(credentials.name, source);
  TRY(bool matched, co_await impl_->matches(found, credentials.password, source, known_here));
  if (!matched) {
    TRY_VOID(co_await impl_->failed(source, credentials.name));
    co_return Error(errc::invalid_credentials, "unknown account or wrong password");
  }
  if (!found->user.active) co_return Error(errc::user_inactive, "the account is suspended");
  TRY_VOID(co_await impl_->succeeded(source, credentials.name));
  co_return found->user;
}

Task<Login> Auth::issue(User user, std::string label, std::optional<Address> source) {
  Login login;
  const std::string from = source ? source->str() : std::string();
  SignIn sign_in;
  std::vector<DeviceId> online = impl_->online(user.id);
  Database::Body body = [&](Tx& tx) -> Result<void> {
    Instant now = impl_->runtime.now();
    login.evicted.clear();
    TRY_PLAIN(login.user, user_repo::lock(tx, user.id));
    if (!login.user.active || login.user.deleted != Instant() || login.user.epoch != user.epoch)
      return Error(errc::user_inactive, "the account changed during the login");
    TRY_PLAIN(int taken, device_repo::count_live(tx, user.id, now));
    if (taken >= login.user.max_devices) {
      TRY_PLAIN(auto devices, device_repo::live(tx, user.id, now));
      // The least recently used first; whoever is online keeps its slot.
      for (auto it = devices.rbegin(); it != devices.rend() && taken >= login.user.max_devices; ++it) {
        if (std::find(online.begin(), online.end(), it->id) != online.end()) continue;
        TRY_VOID_PLAIN(device_repo::revoke(tx, it->id, now));
        login.evicted.push_back(it->id);
        --taken;
      }
      if (taken >= login.user.max_devices) return Error(errc::device_limit, "every device of the account is online");
    }
    TRY_PLAIN(login.device, device_repo::insert(tx, user.id, label, now));
    sign_in.id = SignInId(uuid4());
    sign_in.user = user.id;
    sign_in.device = login.device.id;
    impl_->renew(sign_in);
    TRY_VOID_PLAIN(sign_in_repo::insert(tx, sign_in, from, now));
    return user_repo::touch_login(tx, user.id, login.device.id, from, now);
  };
  TRY_VOID(co_await impl_->users.database.transact(Scope::system(), body));
  for (const auto& device : login.evicted) impl_->users.forget(device);
  const Account account(login.user, login.device);
  impl_->users.remember(account);
  TRY(login.tokens, co_await impl_->sign(account, sign_in));
  co_return login;
}

Result<Claims> Auth::check(std::string_view token) const {
  if (token.empty()) return Error(errc::token_missing, "missing_token");
  auto ring = impl_->keys.ring();
  if (ring != impl_->verified_with) {
    impl_->verified.clear();
    impl_->verified_with = ring;
  }
  std::string key = sha256(token);
  if (auto it = impl_->verified.find(key); it != impl_->verified.end()) {
    if (it->second.expires <= impl_->runtime.now()) return Error(errc::token_expired, "exp has passed");
    impl_->saw(it->second);
    return it->second;
  }
  TRY_PLAIN(auto json, ring->verify(KeyUse::access, token, impl_->runtime.now(), false,
                                    impl_->set_back(impl_->options.access_term)));
  TRY_PLAIN(auto claims, read_claims(json, "access", impl_->options));
  if (impl_->verified.size() >= most_verified) impl_->verified.clear();
  impl_->verified.emplace(std::move(key), claims);
  impl_->saw(claims);
  return claims;
}

Task<Account> Auth::authorize(Claims claims) {
  auto account = co_await impl_->public_users.account(claims.device);
  if (!account && account.error().code() == errc::not_found) co_return Error(errc::revoked, "no such device");
  if (!account) co_return account.error();
  co_return impl_->judge(claims, *account);
}

std::optional<Result<Account>> Auth::authorized(const Claims& claims) const {
  auto account = impl_->public_users.known(claims.device);
  if (!account) return std::nullopt;
  return impl_->judge(claims, *account);
}

/// One step of a family inside the transaction: the next pair, or the same one again within the retry window.
Result<SignIn> Auth::Impl::step(Tx& tx, const Claims& claims, const Address& source, std::uint64_t used,
                                Account& account, bool& was_reused) {
  TRY_PLAIN(auto sign_in, sign_in_repo::get(tx, claims.sign_in));
  TRY_PLAIN(auto device, device_repo::get(tx, sign_in.device));
  TRY_PLAIN(auto user, user_repo::lock(tx, sign_in.user));
  account = Account(user, device);
  if (!account.active) return Error(errc::user_inactive, "the account is inactive");
  if (sign_in.revoked || !account.may_connect()) return Error(errc::revoked, "the sign-in was revoked");
  if (claims.generation >= sign_in.generation) {
    // Newer than what is stored: it was issued while the store was away, and is adopted (I-11).
    std::uint64_t from = sign_in.generation;
    sign_in.generation = claims.generation + 1;
    renew(sign_in);
    TRY_PLAIN(bool first, sign_in_repo::advance(tx, sign_in, from, source.str()));
    if (!first) return Error(errc::conflict, "somebody else advanced the family");
    TRY_VOID_PLAIN(device_repo::touch(tx, sign_in.device, runtime.now()));
    return sign_in;
  }
  bool retry = claims.generation + 1 == sign_in.generation && used < sign_in.generation &&
               std::chrono::abs(runtime.now() - sign_in.issued) < options.retry_window;
  if (retry) return sign_in;
  was_reused = true;
  // The device with its family: whoever holds the tokens holds an access token as well.
  TRY_VOID_PLAIN(device_repo::revoke(tx, sign_in.device, runtime.now()));
  return sign_in;
}

Task<Refreshed> Auth::Impl::advance(Address source, Claims claims) {
  Account account;
  SignIn sign_in;
  bool was_reused = false;
  auto newest = used_generation.find(claims.sign_in);
  const std::uint64_t used = newest == used_generation.end() ? 0 : newest->second;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    was_reused = false;
    TRY_PLAIN(sign_in, step(tx, claims, source, used, account, was_reused));
    return {};
  };
  Instant give_up = runtime.now() + options.store_patience;
  auto pause = std::chrono::milliseconds(100);
  auto done = co_await users.database.transact(Scope::system().urgent(), body);
  while (!done && class_of(done.error().code()) == error_class::unavailable && runtime.now() < give_up) {
    bool slept = co_await runtime.sleep_until(std::min(give_up, runtime.now() + pause));
    if (!slept) break;
    pause = std::min(pause * 2, std::chrono::milliseconds(2000));
    done = co_await users.database.transact(Scope::system().urgent(), body);
  }
  // An attempt whose answer was lost may have found a reuse.
  if (!done) doubted(claims.device);
  if (!done && class_of(done.error().code()) == error_class::unavailable)
    co_return co_await advance_from_memory(claims);
  if (!done && done.error().code() == errc::not_found) co_return Error(errc::token_invalid, "unknown sign-in");
  TRY_VOID(done);
  adrift.erase(claims.sign_in);
  if (was_reused) {
    users.forget(sign_in.device);
    reused(sign_in.device);
    co_return Error(errc::token_reused, "a refresh token was used twice; the sign-in is revoked");
  }
  users.remember(account);
  Refreshed out;
  out.user = account.user;
  out.device = account.device;
  TRY(out.tokens, co_await sign(account, sign_in));
  co_return out;
}

/// The store is away: unchanged clients answer a failed refresh by tearing the tunnel down (I-11).
Task<Refreshed> Auth::Impl::advance_from_memory(Claims claims) {
  auto account = public_users.last_known(claims.device);
  if (!account) co_return Error(errc::unavailable, "the account is not known without the store");
  TRY_VOID(judge(claims, *account));
  const auto* seen = users.seen.find(claims.device);
  if (seen == nullptr || std::chrono::abs(runtime.now() - seen->at) > options.offline_grace)
    co_return Error(errc::unavailable, "the store has been away for too long");
  SignIn& sign_in = adrift[claims.sign_in];
  bool retry = !sign_in.id.empty() && claims.generation + 1 == sign_in.generation;
  if (!retry && !sign_in.id.empty() && claims.generation < sign_in.generation)
    co_return Error(errc::token_reused, "a refresh token was used twice");
  if (!retry) {
    sign_in.id = claims.sign_in;
    sign_in.user = claims.user;
    sign_in.device = claims.device;
    sign_in.generation = claims.generation + 1;
    renew(sign_in);
  }
  SignIn issued = sign_in;
  Refreshed out;
  out.user = claims.user;
  out.device = claims.device;
  TRY(out.tokens, co_await sign(*account, issued));
  co_return out;
}

Task<Refreshed> Auth::refresh(Address source, std::string token) {
  TRY(auto json, impl_->keys.ring()->verify(KeyUse::refresh, token, impl_->runtime.now(), false,
                                            impl_->set_back(impl_->options.refresh_term)));
  TRY(auto claims, read_claims(json, "refresh", impl_->options));
  co_return co_await impl_->advance(source, std::move(claims));
}

Task<Device> Auth::revoke(std::string token) {
  TRY(auto json, impl_->keys.ring()->verify(KeyUse::refresh, token, impl_->runtime.now(), true,
                                            impl_->set_back(impl_->options.refresh_term)));
  TRY(auto claims, read_claims(json, "refresh", impl_->options));
  Device device;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(auto sign_in, sign_in_repo::get(tx, claims.sign_in));
    TRY_VOID_PLAIN(sign_in_repo::revoke(tx, sign_in.id, impl_->runtime.now()));
    auto revoked = device_repo::revoke(tx, sign_in.device, impl_->runtime.now());
    if (!revoked && revoked.error().code() != errc::conflict) return revoked.error();
    TRY_PLAIN(device, device_repo::get(tx, sign_in.device));
    return {};
  };
  auto done = co_await impl_->users.database.transact(Scope::system().urgent(), body);
  impl_->users.forget(claims.device);
  impl_->adrift.erase(claims.sign_in);
  if (!done) impl_->doubted(claims.device);
  if (!done && done.error().code() == errc::not_found) co_return Error(errc::token_invalid, "unknown sign-in");
  TRY_VOID(done);
  co_return device;
}

}  // namespace tornado::inline v1
