#pragma once

#include "crypto/password_hasher.hpp"
#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// What Users keeps; Auth, its friend, shares the database, the hasher and the account cache.
struct Users::Impl {
  Impl(Runtime& runtime_, Database& database_, PasswordPolicy policy)
      : runtime(runtime_), database(database_), hasher(runtime_, policy) {}

  struct Seen {
    Account account;
    Instant at;
    std::uint64_t revision;
  };

  /// Whatever ends or changes access calls this after its commit: nothing older is believed any more.
  void forget(const UserId& user);
  void remember(const Account& account);
  Task<Account> read(DeviceId device);
  /// Drops all that is remembered if somebody else has written to the database; asked at most once a second.
  Task<void> watch();

  Runtime& runtime;
  Database& database;
  PasswordHasher hasher;
  std::unordered_map<DeviceId, Seen> seen;
  std::unordered_map<UserId, std::vector<DeviceId>> seen_of;
  std::uint64_t revision = 1;
  Instant watched;
  bool watching = false;
};

}  // namespace tornado::inline v1
