#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tornado/database.hpp"
#include "tornado/runtime.hpp"
#include "tornado/secret.hpp"

namespace tornado::inline v1 {

/// An account to be made. Names are 3 to 50 characters without control characters, e-mail addresses at most 254;
/// both are folded (NFC is not applied, ASCII case is) and live in one name space (D-024, D-031).
class NewUser {
 public:
  NewUser(std::string username_, std::string email_) : username(std::move(username_)), email(std::move(email_)) {}
  std::string username, email;
  std::optional<Secret> password;  ///< 8 to 1024 bytes; without one the account signs in by other proofs
  int max_devices = 1;             ///< 1 to 100,000
};

/// An account.
class User {
 public:
  User() {}
  UserId id;
  std::string tenant, username, email;
  bool active = true;
  int max_devices = 1;
  std::uint64_t epoch = 0;  ///< tokens with a smaller one are void (I-05)
  /// Of the sessions in the history; `Gateway::account` adds those that are not there yet.
  std::uint64_t total_sessions = 0, total_received = 0, total_sent = 0;
  Instant created, updated, last_login, last_seen, deleted;
};

/// Changes of an account; what is empty stays.
class UserChanges {
 public:
  UserChanges() {}
  std::optional<std::string> username, email;
  std::optional<Secret> password;
  std::optional<int> max_devices;
  std::optional<bool> active;
};

/// Which accounts `list` returns.
class UserQuery {
 public:
  UserQuery() {}
  std::optional<bool> active;
  std::string search;  ///< part of a name or address, any case; wildcards are literal
  bool include_deleted = false;
  int limit = 100;  ///< 1 to 10,000
  int offset = 0;
};

/// A registered client installation.
class Device {
 public:
  Device() {}
  DeviceId id;
  UserId user;
  std::string label;
  std::uint64_t epoch = 0;
  Instant created, last_seen, revoked;
};

using Username = Name<struct UsernameTag>;

/// What decides about a device and its account, as they are now. It is remembered for every device that has been seen,
/// and small for that.
class Account {
 public:
  Account() {}
  Account(const User& user_, const Device& device_);
  bool may_connect() const noexcept { return active && !revoked; }

  UserId user;
  DeviceId device;
  Username username;
  std::uint32_t user_epoch = 0, device_epoch = 0;
  bool active = false;   ///< the account is neither suspended nor deleted
  bool revoked = false;  ///< the device is
};

/// Argon2id parameters (RFC 9106) for new hashes, and the most that stored ones may ask for (I-16).
class PasswordPolicy {
 public:
  PasswordPolicy() {}
  std::uint32_t passes = 3, memory_kib = 65536, lanes = 4;
  std::uint32_t most_passes = 10, most_memory_kib = 262144, most_lanes = 16;
};

/// Accounts, their devices and their identities.
///
/// Loop thread. Whatever ends access (suspend, delete, a new password, a revoked device) bumps the epoch and revokes
/// devices and sign-ins in the same transaction; closing sessions is the gateway's part. Errors of all tasks besides
/// those named: store_unavailable, disk_full, overloaded.
class TORNADO_API Users {
 public:
  Users(Runtime& runtime, Database& database, PasswordPolicy policy = PasswordPolicy());
  ~Users();

  /// Errors: invalid_argument naming the field; already_exists (a live account has that name or address).
  Task<User> create(NewUser user);
  /// Errors: not_found, invalid_argument, already_exists.
  Task<User> update(UserId user, UserChanges changes);
  /// conflict: already suspended.
  Task<User> suspend(UserId user);
  /// conflict: already active.
  Task<User> reinstate(UserId user);
  /// The row stays for its history; the names are free again (D-032).
  Task<User> remove(UserId user);

  Task<User> get(UserId user);
  /// By name or e-mail address, any case. not_found.
  Task<User> find(std::string username_or_email);
  Task<std::vector<User>> list(UserQuery query);

  /// Binds an outside identity to an account. already_exists: it belongs to another one.
  Task<void> link(UserId user, std::string issuer, std::string subject);

  /// Devices with a live sign-in, most recently seen first.
  Task<std::vector<Device>> devices(UserId user);
  Task<std::vector<Device>> all_devices(int limit, int offset);
  /// Revoked or not. not_found.
  Task<Device> device(DeviceId device);
  /// Bumps the device's epoch, revokes its sign-ins, frees its slot. not_found; conflict: revoked already.
  Task<Device> revoke(DeviceId device);

  /// Account and device as they are now, from memory if nothing can have changed since. not_found.
  Task<Account> account(DeviceId device);
  /// Reads the accounts of many devices in few transactions, so that `account` need not ask for each. Returns
  /// those that may not connect or do not exist.
  Task<std::vector<DeviceId>> recall(std::vector<DeviceId> devices);
  /// The same without waiting, if it is in memory and at most one second old.
  std::optional<Account> known(const DeviceId& device) const;
  /// The last state seen, however old; for answering while the store is away (I-11).
  std::optional<Account> last_known(const DeviceId& device) const;

  /// What password hashing has cost since the start: KiB filled times passes. A gauge. Any thread.
  std::uint64_t hashing_work() const noexcept;

 private:
  friend class Auth;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
