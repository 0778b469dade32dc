#include "tornado/key_rotator.hpp"

#include <mutex>
#include <stdexcept>

#include "base/encoding.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/notifier.hpp"
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "crypto/jwt_codec.hpp"
#include "crypto/seal.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr Seconds clock_leeway{60};

struct SigningKey {
  RsaKey key;
  KeyUse use;
  Instant created, signs_from, verifies_until;
};

struct LoginKey {
  X25519Key key;
  Instant created, good_until;
};

class Ring final : public KeyRing {
 public:
  std::vector<SigningKey> keys;
  const RsaKey* access_signer = nullptr;
  const RsaKey* refresh_signer = nullptr;
  std::vector<LoginKey> login_keys;  ///< the current one first

  Result<std::string> sign(KeyUse use, std::string_view claims_json) const override {
    const RsaKey* key = use == KeyUse::access ? access_signer : use == KeyUse::refresh ? refresh_signer : nullptr;
    if (key == nullptr) return Error(errc::failed_precondition, "no key signs for " + std::string(name(use)));
    std::string header = R"({"alg":"RS256","typ":"JWT","kid":")" + key->thumbprint() + "\"}";
    std::string input = base64url(header) + "." + base64url(claims_json);
    TRY_PLAIN(auto signature, key->sign(input));
    return input + "." + base64url(signature);
  }

  Result<std::string> verify(KeyUse use, std::string_view token, Instant now, bool ignore_expiry,
                             Seconds set_back) const override {
    TRY_PLAIN(auto jws, parse_jws(token));
    if (jws.algorithm != "RS256") return Error(errc::token_invalid, "algorithm is not RS256");
    const SigningKey* key = find(use, jws.key_id);
    if (key == nullptr) return Error(errc::token_invalid, "unknown key id");
    auto signature = from_base64url(jws.signature);
    if (!signature || !key->key.verify(jws.signing_input, *signature))
      return Error(errc::token_invalid, "signature does not match");
    auto claims = from_base64url(jws.payload);
    if (!claims) return Error(errc::token_invalid, "claims are not base64url");
    TRY_VOID_PLAIN(check_times(*claims, now, ignore_expiry, clock_leeway + set_back));
    return std::move(*claims);
  }

  PublicKey login_key() const override { return login_keys.front().key.public_key(); }

  std::vector<Secret> agree(const PublicKey& ephemeral, Instant now) const override {
    std::vector<Secret> secrets;
    for (const auto& candidate : login_keys) {
      if (candidate.good_until != Instant() && candidate.good_until < now) continue;
      if (auto shared = candidate.key.agree(ephemeral)) secrets.push_back(std::move(*shared));
    }
    return secrets;
  }

  std::string jwks() const override {
    std::string out = R"({"keys":[)";
    for (const auto& key : keys)
      out += (out.ends_with('[') ? "" : ",") + std::string("{") + key.key.jwk_members() +
             R"(,"alg":"RS256","use":"sig","kid":")" + key.key.thumbprint() + "\"}";
    return out + "]}";
  }

 private:
  const SigningKey* find(KeyUse use, std::string_view id) const {
    for (const auto& key : keys)
      if (key.use == use && key.key.thumbprint() == id) return &key;
    return nullptr;
  }

  static Result<void> check_times(const std::string& claims, Instant now, bool ignore_expiry, Seconds leeway) {
    auto parsed = parse_json(claims);
    if (!parsed || !parsed->is_object()) return Error(errc::token_invalid, "claims are not a JSON object");
    auto at = [&](const char* key) { return integer_at(parsed->get_object(), key); };
    auto seconds = std::chrono::duration_cast<Seconds>(now.time_since_epoch());
    if (!at("exp") || !at("iat")) return Error(errc::token_invalid, "exp or iat is missing");
    if (*at("iat") > (seconds + leeway).count()) return Error(errc::token_invalid, "iat is in the future");
    if (at("nbf").value_or(0) > (seconds + leeway).count()) return Error(errc::token_invalid, "nbf is in the future");
    if (!ignore_expiry && *at("exp") <= seconds.count()) return Error(errc::token_expired, "exp has passed");
    return {};
  }
};

json::value to_value(const SigningKey& key) {
  json::object out;
  out["use"] = name(key.use);
  out["id"] = key.key.thumbprint();
  out["created_ms"] = key.created.time_since_epoch().count();
  out["signs_from_ms"] = key.signs_from.time_since_epoch().count();
  out["verifies_until_ms"] = key.verifies_until.time_since_epoch().count();
  out["public"] = key.key.public_pem();
  if (key.key.can_sign()) out["private"] = key.key.private_pem().reveal();
  return out;
}

Result<SigningKey> from_value(const json::value& value) {
  Error damaged(errc::data_loss, "the key file is damaged");
  if (!value.is_object()) return damaged;
  const auto& object = value.get_object();
  auto instant = [&](const char* key) {
    return Instant(std::chrono::milliseconds(integer_at(object, key).value_or(0)));
  };
  auto use = text_at(object, "use");
  auto pub = text_at(object, "public");
  if (!pub || (use != "access" && use != "refresh")) return damaged;
  TRY_PLAIN(auto public_key, RsaKey::from_public_pem(*pub));
  SigningKey out{public_key, use == "access" ? KeyUse::access : KeyUse::refresh, instant("created_ms"),
                 instant("signs_from_ms"), instant("verifies_until_ms")};
  if (auto pem = text_at(object, "private")) {
    TRY_PLAIN(auto private_key, RsaKey::from_private_pem(Secret(*pem)));
    if (private_key.thumbprint() != public_key.thumbprint())
      return Error(errc::data_loss, "the halves of the key " + public_key.thumbprint() + " differ");
    out.key = private_key;
  }
  return out;
}

}  // namespace

std::string_view name(KeyUse use) noexcept {
  return use == KeyUse::access ? "access" : use == KeyUse::refresh ? "refresh" : "login";
}

struct KeyRotator::Impl {
  Impl(Runtime& runtime_, KeyOptions options_) : runtime(runtime_), options(std::move(options_)) {}

  std::string path() const { return options.directory + "/signing-keys.json"; }

  Seconds term(KeyUse use) const { return use == KeyUse::access ? options.access_term : options.refresh_term; }

  /// The key that signs now: the newest whose time has come. After the clock was set back it may be nobody's time yet:
  /// then the one whose time comes first.
  SigningKey* signer(std::vector<SigningKey>& keys, KeyUse use) const {
    SigningKey *best = nullptr, *first = nullptr;
    for (auto& key : keys) {
      if (key.use != use || !key.key.can_sign()) continue;
      if (first == nullptr || key.signs_from < first->signs_from) first = &key;
      if (key.signs_from <= runtime.now() && (best == nullptr || key.signs_from >= best->signs_from)) best = &key;
    }
    return best != nullptr ? best : first;
  }

  /// Retires signers that were followed by another and drops what verifies nothing any more.
  void settle(std::vector<SigningKey>& keys) const {
    for (KeyUse use : {KeyUse::access, KeyUse::refresh}) {
      SigningKey* current = signer(keys, use);
      for (auto& key : keys) {
        if (key.use != use || &key == current || !key.key.can_sign() || key.signs_from > runtime.now()) continue;
        key.verifies_until = runtime.now() + term(use) + clock_leeway;
        if (auto public_half = RsaKey::from_public_pem(key.key.public_pem())) key.key = *public_half;
      }
    }
    std::erase_if(keys, [&](const SigningKey& key) {
      return key.verifies_until != Instant() && key.verifies_until < runtime.now();
    });
  }

  Result<void> load() {
    TRY_VOID_PLAIN(make_directory(options.directory, 0700));
    auto text = read_file(path());
    if (!text && text.error().code() == errc::not_found) return {};
    if (!text) return text.error();
    Secret content(std::move(*text));
    auto parsed = parse_json(content.reveal());
    if (!parsed || !parsed->is_object() || !parsed->get_object().contains("keys") ||
        !parsed->get_object().at("keys").is_array())
      return Error(errc::data_loss, path() + " is damaged");
    for (const auto& value : parsed->get_object().at("keys").get_array()) {
      TRY_PLAIN(auto key, from_value(value));
      keys.push_back(std::move(key));
    }
    version = static_cast<std::uint64_t>(integer_at(parsed->get_object(), "version").value_or(0));
    return {};
  }

  Result<void> store(const std::vector<SigningKey>& wanted, std::uint64_t number) const {
    json::object set;
    set["version"] = number;
    json::array all;
    for (const auto& key : wanted) all.push_back(to_value(key));
    set["keys"] = std::move(all);
    return replace_file(path(), Secret(to_json(set)).reveal(), 0600);
  }

  /// Makes a key, retires what it follows, stores the set; memory changes only when the disk has.
  Task<void> add(std::vector<KeyUse> uses, Seconds lead) {
    std::vector<SigningKey> wanted = keys;
    // Making one takes most of a first start: both at the same time.
    std::vector<std::optional<Result<RsaKey>>> made(uses.size());
    TaskGroup making(runtime);
    for (auto& key : made) making.add("make_key", make_key(key));
    co_await making.settled(1);
    if (making.size() > 0) co_await making.stop_all();
    Instant now = runtime.now();
    for (std::size_t i = 0; i < uses.size(); ++i) {
      if (!made[i]) co_return Error(errc::cancelled);
      TRY(auto key, std::move(*made[i]));
      wanted.push_back(SigningKey{std::move(key), uses[i], now, now + lead, Instant()});
    }
    co_return co_await commit(std::move(wanted));
  }

  Task<void> make_key(std::optional<Result<RsaKey>>& out) {
    auto make = [] { return RsaKey::generate(); };
    out.emplace(co_await runtime.offload(Blocking::signing, make));
    co_return Result<void>();
  }

  Task<void> commit(std::vector<SigningKey> wanted) {
    settle(wanted);
    auto write = [&]() -> Result<void> { return store(wanted, version + 1); };
    TRY_VOID(co_await runtime.offload(Blocking::file, write));
    ++version;
    keys = std::move(wanted);
    publish();
    co_return Result<void>();
  }

  void publish() {
    auto next = std::make_shared<Ring>();
    next->keys = keys;
    auto* access = signer(next->keys, KeyUse::access);
    auto* refresh = signer(next->keys, KeyUse::refresh);
    next->access_signer = access != nullptr ? &access->key : nullptr;
    next->refresh_signer = refresh != nullptr ? &refresh->key : nullptr;
    next->login_keys = login_keys;
    std::shared_ptr<const Ring> former = std::move(next);
    std::lock_guard lock(mutex);
    ring.swap(former);
  }

  void renew_login_key(bool keep_former) {
    Instant now = runtime.now();
    if (!keep_former) login_keys.clear();
    if (!login_keys.empty()) {
      login_keys.resize(1, login_keys.front());
      login_keys.front().good_until = now + options.login_overlap;
    }
    login_keys.insert(login_keys.begin(), LoginKey{X25519Key::generate(), now, Instant()});
    publish();
  }

  bool missing(KeyUse use) {
    return std::none_of(keys.begin(), keys.end(),
                        [&](const SigningKey& key) { return key.use == use && key.key.can_sign(); });
  }

  Instant newest(KeyUse use) const {
    Instant at;
    for (const auto& key : keys)
      if (key.use == use) at = std::max(at, key.created);
    return at;
  }

  /// Everything that is due by the schedule.
  Task<void> step() {
    Instant now = runtime.now();
    // A key from the future is older than it says: the clock was set back.
    Instant login_made = login_keys.front().created;
    if (login_made + options.login_every <= now || login_made > now + clock_leeway) renew_login_key(true);
    std::vector<KeyUse> due;
    for (KeyUse use : {KeyUse::access, KeyUse::refresh})
      if (newest(use) + options.every <= now) due.push_back(use);
    if (!due.empty()) co_return co_await exclusively(due);
    // Not only what became due since the last step: a hand-over during a downtime is finished here (D-026).
    bool hand_over = std::any_of(keys.begin(), keys.end(), [&](const SigningKey& key) {
      return key.key.can_sign() && key.signs_from <= now && signer(keys, key.use) != &key;
    });
    bool expired = std::any_of(keys.begin(), keys.end(), [&](const SigningKey& key) {
      return key.verifies_until != Instant() && key.verifies_until < now;
    });
    std::vector<KeyUse> none;
    if (hand_over || expired) TRY_VOID(co_await exclusively(none));
    last_settled = now;
    co_return Result<void>();
  }

  /// One rotation at a time.
  Task<void> exclusively(std::vector<KeyUse> uses) {
    while (rotating) {
      bool ended = co_await rotated.wait(rotated.revision());
      if (!ended) co_return Error(errc::cancelled);
    }
    rotating = true;
    // Without a use, the set is only settled: keys hand over, retire or go.
    auto result = co_await add(std::move(uses), options.lead);
    rotating = false;
    rotated.notify();
    co_return result;
  }

  Instant next_event() const {
    Instant next = login_keys.front().created + options.login_every;
    for (KeyUse use : {KeyUse::access, KeyUse::refresh}) next = std::min(next, newest(use) + options.every);
    for (const auto& key : keys) {
      if (key.signs_from > last_settled) next = std::min(next, key.signs_from);
      if (key.verifies_until != Instant()) next = std::min(next, key.verifies_until + std::chrono::milliseconds(1));
    }
    return next;
  }

  Runtime& runtime;
  KeyOptions options;
  std::vector<SigningKey> keys;
  std::vector<LoginKey> login_keys;
  std::uint64_t version = 0;
  bool rotating = false;
  Notifier rotated{runtime};
  Instant last_settled;
  // g++ 12's atomic shared_ptr releases its lock relaxed after a load: a store may overtake the reading.
  mutable std::mutex mutex;
  std::shared_ptr<const Ring> ring;
};

KeyRotator::KeyRotator(Runtime& runtime, KeyOptions options) {
  if (options.every < Seconds(60) || options.lead >= options.every || options.login_every < Seconds(1))
    throw std::invalid_argument("keys: period of at least 60 s, longer than the lead");
  impl_ = std::make_unique<Impl>(runtime, std::move(options));
}

KeyRotator::~KeyRotator() = default;

Task<void> KeyRotator::open() {
  auto load = [this]() -> Result<void> { return impl_->load(); };
  TRY_VOID(co_await impl_->runtime.offload(Blocking::file, load));
  impl_->renew_login_key(false);
  std::vector<KeyUse> needed;
  for (KeyUse use : {KeyUse::access, KeyUse::refresh})
    if (impl_->missing(use)) needed.push_back(use);
  // The first keys sign at once: nobody holds an older set.
  if (!needed.empty()) TRY_VOID(co_await impl_->add(needed, Seconds(0)));
  impl_->last_settled = impl_->runtime.now();
  impl_->publish();
  co_return Result<void>();
}

Task<void> KeyRotator::rotate(KeyUse use) {
  if (use == KeyUse::login) {
    impl_->renew_login_key(true);
    co_return Result<void>();
  }
  std::vector<KeyUse> uses(1, use);
  co_return co_await impl_->exclusively(std::move(uses));
}

Task<void> KeyRotator::run() {
  Seconds backoff(1);
  for (;;) {
    auto stepped = co_await impl_->step();
    Instant next = impl_->next_event();
    if (!stepped) {
      impl_->runtime.log().write(LogLevel::error, "key_rotation_failed", {{"detail", stepped.error().detail()}});
      next = impl_->runtime.now() + backoff;
      backoff = std::min(backoff * 2, Seconds(300));
    } else {
      backoff = Seconds(1);
    }
    // A rotation on demand brings the next event nearer while this sleeps.
    next = std::min(next, impl_->runtime.now() + Seconds(15));
    bool slept = co_await impl_->runtime.sleep_until(next);
    if (!slept) co_return Error(errc::cancelled);
  }
}

Task<void> KeyRotator::forget_login_keys() {
  impl_->renew_login_key(false);
  co_return Result<void>();
}

std::shared_ptr<const KeyRing> KeyRotator::ring() const noexcept {
  std::lock_guard lock(impl_->mutex);
  return impl_->ring;
}

std::vector<KeyInfo> KeyRotator::list() const {
  std::vector<KeyInfo> all;
  auto keys = impl_->keys;
  for (const auto& key : keys) {
    KeyInfo& info = all.emplace_back();
    info.id = key.key.thumbprint();
    info.use = key.use;
    info.created = key.created;
    info.signs_from = key.key.can_sign() ? key.signs_from : Instant();
    info.verifies_until = key.verifies_until;
    const SigningKey* current = impl_->signer(keys, key.use);
    info.signs = current != nullptr && current->key.thumbprint() == key.key.thumbprint();
  }
  for (const auto& key : impl_->login_keys) {
    KeyInfo& info = all.emplace_back();
    info.id = key.key.public_key().str();
    info.use = KeyUse::login;
    info.created = info.signs_from = key.created;
    info.verifies_until = key.good_until;
    info.signs = &key == &impl_->login_keys.front();
  }
  return all;
}

}  // namespace tornado::inline v1
