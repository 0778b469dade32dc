#pragma once

#include "base/hashed.hpp"
#include "base/slab.hpp"
#include "crypto/password_hasher.hpp"
#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// What Users keeps; Auth, its friend, shares the database, the hasher and the account cache.
struct Users::Impl {
  Impl(Runtime& runtime_, Database& database_, PasswordPolicy policy)
      : runtime(runtime_), database(database_), hasher(runtime_, policy) {}
  ~Impl() { forget_all(); }

  struct Seen : Account {
    Seen(const Account& account, Instant at_, std::uint32_t revision_)
        : Account(account), revision(revision_), at(at_) {}
    std::uint32_t revision;
    Instant at;
    HashedLink by_device, by_user;
  };
  struct DeviceOf {
    using type = DeviceId;
    const DeviceId& operator()(const Seen& seen) const { return seen.device; }
  };
  struct UserOf {
    using type = UserId;
    const UserId& operator()(const Seen& seen) const { return seen.user; }
  };

  /// Whatever ends or changes access calls this after its commit: nothing older is believed any more.
  void forget(const UserId& user);
  void forget(const DeviceId& device);
  void forget_all();
  void remember(const Account& account);
  Task<Account> read(DeviceId device);
  /// Drops all that is remembered if somebody else has written to the database; asked at most once a second.
  Task<void> watch();

  Runtime& runtime;
  Database& database;
  PasswordHasher hasher;
  Slab<Seen> slab;
  Hashed<Seen, &Seen::by_device, DeviceOf> seen;
  Hashed<Seen, &Seen::by_user, UserOf> seen_of;
  std::uint32_t revision = 1;
  Instant watched;
  bool watching = false;
};

}  // namespace tornado::inline v1
