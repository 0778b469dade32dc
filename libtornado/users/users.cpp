#include "tornado/users.hpp"

#include "base/try.hpp"
#include "users/device_repo.hpp"
#include "users/user_repo.hpp"
#include "users/users_impl.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_remembered = 200'000;
constexpr Seconds freshness{1};

bool printable(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

Result<void> check_username(const std::string& name) {
  if (name.size() < 3 || name.size() > 50 || !printable(name) || name.front() == ' ' || name.back() == ' ')
    return Error(errc::invalid_argument, "username: 3 to 50 printable characters, no space at either end");
  return {};
}

Result<void> check_email(const std::string& email) {
  auto at = email.find('@');
  bool shape = at != email.npos && at > 0 && email.find('@', at + 1) == email.npos && email.size() <= 254 &&
               email.find('.', at + 2) != email.npos && email.back() != '.' && email.find(' ') == email.npos;
  if (!shape || !printable(email)) return Error(errc::invalid_argument, "email: not an e-mail address");
  return {};
}

Result<void> check_password(const Secret& password) {
  if (password.size() < 8 || password.size() > 1024) return Error(errc::invalid_argument, "password: 8 to 1024 bytes");
  return {};
}

Result<void> check_devices(int count) {
  if (count < 1 || count > 100'000) return Error(errc::invalid_argument, "max_devices: 1 to 100000");
  return {};
}

Result<void> check(const UserChanges& changes) {
  if (changes.username) TRY_VOID_PLAIN(check_username(*changes.username));
  if (changes.email) TRY_VOID_PLAIN(check_email(*changes.email));
  if (changes.password) TRY_VOID_PLAIN(check_password(*changes.password));
  if (changes.max_devices) TRY_VOID_PLAIN(check_devices(*changes.max_devices));
  bool any = changes.username || changes.email || changes.password || changes.max_devices || changes.active;
  if (!any) return Error(errc::invalid_argument, "No fields to update");
  return {};
}

}  // namespace

Account::Account(const User& user_, const Device& device_)
    : user(user_.id),
      device(device_.id),
      username(user_.username),
      user_epoch(static_cast<std::uint32_t>(user_.epoch)),
      device_epoch(static_cast<std::uint32_t>(device_.epoch)),
      active(user_.active && user_.deleted == Instant()),
      revoked(device_.revoked != Instant()) {}

void Users::Impl::forget(const UserId& user) {
  for (Seen* entry : seen_of.take_all(user)) {
    seen.erase(*entry);
    slab.give_up(*entry);
  }
}

void Users::Impl::forget(const DeviceId& device) {
  Seen* entry = seen.find(device);
  if (entry == nullptr) return;
  seen.erase(*entry);
  seen_of.erase(*entry);
  slab.give_up(*entry);
}

void Users::Impl::forget_all() {
  seen_of.clear([](Seen*) {});
  seen.clear([this](Seen* entry) { slab.give_up(*entry); });
}

void Users::Impl::remember(const Account& account) {
  Seen* former = seen.find(account.device);
  if (former != nullptr && former->user == account.user) {
    static_cast<Account&>(*former) = account;
    former->at = runtime.now();
    former->revision = revision;
    return;
  }
  if (seen.size() >= most_remembered) forget_all();
  forget(account.device);
  Seen& entry = slab.make(account, runtime.now(), revision);
  seen.insert(entry);
  seen_of.insert(entry);
}

namespace {

Result<Account> read_account(Tx& tx, const DeviceId& id) {
  TRY_PLAIN(auto device, device_repo::get(tx, id));
  TRY_PLAIN(auto user, user_repo::get(tx, device.user));
  return Account(user, device);
}

}  // namespace

Task<Account> Users::Impl::read(DeviceId id) {
  Account account;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(account, read_account(tx, id));
    return {};
  };
  TRY_VOID(co_await database.transact(Scope::system(), body));
  remember(account);
  co_return account;
}

Task<void> Users::Impl::watch() {
  if (watching || std::chrono::abs(runtime.now() - watched) < freshness) co_return Result<void>();
  watching = true;
  auto changed = co_await database.changed_elsewhere();
  watching = false;
  if (!changed) co_return changed.error();
  watched = runtime.now();
  if (*changed) ++revision;
  co_return Result<void>();
}

Users::Users(Runtime& runtime, Database& database, PasswordPolicy policy)
    : impl_(std::make_unique<Impl>(runtime, database, policy)) {}
Users::~Users() = default;

Task<User> Users::create(NewUser wanted) {
  TRY_VOID(check_username(wanted.username));
  TRY_VOID(check_email(wanted.email));
  TRY_VOID(check_devices(wanted.max_devices));
  Value hash;
  if (wanted.password) {
    TRY_VOID(check_password(*wanted.password));
    TRY(hash, co_await impl_->hasher.hash(*wanted.password));
  }
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::insert(tx, wanted, hash, impl_->runtime.now()));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return user;
}

Task<User> Users::update(UserId id, UserChanges changes) {
  TRY_VOID(check(changes));
  Value hash;
  if (changes.password) {
    TRY(hash, co_await impl_->hasher.hash(*changes.password));
  }
  User written;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(auto user, user_repo::lock(tx, id));
    if (user.deleted != Instant()) return Error(errc::not_found, "the account is deleted");
    bool ends_access = hash.has_value() || (changes.active && !*changes.active && user.active);
    user.username = changes.username.value_or(user.username);
    user.email = changes.email.value_or(user.email);
    user.max_devices = changes.max_devices.value_or(user.max_devices);
    user.active = changes.active.value_or(user.active);
    TRY_PLAIN(written, user_repo::update(tx, user, hash, ends_access, impl_->runtime.now()));
    if (ends_access) TRY_VOID_PLAIN(device_repo::revoke_all(tx, id, impl_->runtime.now()));
    return {};
  };
  auto done = co_await impl_->database.transact(Scope::system(), body);
  impl_->forget(id);
  TRY_VOID(done);
  co_return written;
}

Task<User> Users::suspend(UserId id) {
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::lock(tx, id));
    if (user.deleted != Instant()) return Error(errc::not_found, "the account is deleted");
    if (!user.active) return Error(errc::conflict, "User already suspended");
    user.active = false;
    TRY_PLAIN(user, user_repo::update(tx, user, Value(), true, impl_->runtime.now()));
    return device_repo::revoke_all(tx, id, impl_->runtime.now());
  };
  auto done = co_await impl_->database.transact(Scope::system().urgent(), body);
  impl_->forget(id);
  TRY_VOID(done);
  co_return user;
}

Task<User> Users::reinstate(UserId id) {
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::lock(tx, id));
    if (user.deleted != Instant()) return Error(errc::not_found, "the account is deleted");
    if (user.active) return Error(errc::conflict, "User already active");
    user.active = true;
    TRY_PLAIN(user, user_repo::update(tx, user, Value(), false, impl_->runtime.now()));
    return {};
  };
  auto done = co_await impl_->database.transact(Scope::system(), body);
  impl_->forget(id);
  TRY_VOID(done);
  co_return user;
}

Task<User> Users::remove(UserId id) {
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::mark_deleted(tx, id, impl_->runtime.now()));
    return device_repo::revoke_all(tx, id, impl_->runtime.now());
  };
  auto done = co_await impl_->database.transact(Scope::system().urgent(), body);
  impl_->forget(id);
  TRY_VOID(done);
  co_return user;
}

Task<User> Users::get(UserId id) {
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::get(tx, id));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return user;
}

Task<User> Users::find(std::string name) {
  User user;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(user, user_repo::find(tx, name));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return user;
}

Task<std::vector<User>> Users::list(UserQuery query) {
  std::vector<User> users;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(users, user_repo::list(tx, query));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return users;
}

Task<void> Users::link(UserId id, std::string issuer, std::string subject) {
  if (issuer.empty() || subject.empty())
    co_return Error(errc::invalid_argument, "an identity has an issuer and a subject");
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(user_repo::lock(tx, id));
    return user_repo::link(tx, id, issuer, subject, impl_->runtime.now());
  };
  co_return co_await impl_->database.transact(Scope::system(), body);
}

Task<std::vector<Device>> Users::devices(UserId id) {
  std::vector<Device> devices;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(user_repo::get(tx, id));
    TRY_PLAIN(devices, device_repo::live(tx, id, impl_->runtime.now()));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return devices;
}

Task<std::vector<Device>> Users::all_devices(int limit, int offset) {
  if (limit < 1 || limit > 10'000 || offset < 0)
    co_return Error(errc::invalid_argument, "limit: 1 to 10000; offset: not negative");
  std::vector<Device> devices;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(devices, device_repo::all(tx, limit, offset));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return devices;
}

Task<Device> Users::device(DeviceId id) {
  Device device;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(device, device_repo::get(tx, id));
    return {};
  };
  TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
  co_return device;
}

Task<Device> Users::revoke(DeviceId id) {
  Device device;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(device, device_repo::revoke(tx, id, impl_->runtime.now()));
    return {};
  };
  auto done = co_await impl_->database.transact(Scope::system().urgent(), body);
  impl_->forget(id);
  TRY_VOID(done);
  co_return device;
}

Task<Account> Users::account(DeviceId id) {
  TRY_VOID(co_await impl_->watch());
  if (auto account = known(id)) co_return *account;
  co_return co_await impl_->read(std::move(id));
}

Task<std::vector<DeviceId>> Users::recall(std::vector<DeviceId> devices) {
  constexpr std::size_t at_once = 500;
  std::vector<DeviceId> barred;
  TRY_VOID(co_await impl_->watch());
  for (std::size_t at = 0; at < devices.size(); at += at_once) {
    std::vector<Account> read;
    std::vector<DeviceId> missing;
    Database::Body body = [&](Tx& tx) -> Result<void> {
      read.clear();
      missing.clear();
      for (std::size_t i = at; i < std::min(at + at_once, devices.size()); ++i) {
        auto account = read_account(tx, devices[i]);
        if (!account && account.error().code() != errc::not_found) return account.error();
        if (account)
          read.push_back(std::move(*account));
        else
          missing.push_back(devices[i]);
      }
      return {};
    };
    TRY_VOID(co_await impl_->database.transact(Scope::system(), body));
    for (const Account& account : read) {
      impl_->remember(account);
      if (!account.may_connect()) barred.push_back(account.device);
    }
    barred.insert(barred.end(), missing.begin(), missing.end());
  }
  co_return barred;
}

std::optional<Account> Users::known(const DeviceId& id) const {
  const auto* seen = impl_->seen.find(id);
  bool current = seen != nullptr && seen->revision == impl_->revision &&
                 std::chrono::abs(impl_->runtime.now() - impl_->watched) < freshness;
  return current ? std::optional<Account>(*seen) : std::nullopt;
}

std::uint64_t Users::hashing_work() const noexcept {
  return impl_->hasher.work();
}

std::optional<Account> Users::last_known(const DeviceId& id) const {
  const auto* seen = impl_->seen.find(id);
  return seen == nullptr ? std::nullopt : std::optional<Account>(*seen);
}

}  // namespace tornado::inline v1
