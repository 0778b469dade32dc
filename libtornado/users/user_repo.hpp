#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tornado/users.hpp"

namespace tornado::inline v1::user_repo {

/// Lower-cases ASCII: the form in which names are compared.
std::string fold(std::string_view name);

Result<User> insert(Tx& tx, const NewUser& user, const Value& password_hash, Instant now);
Result<User> get(Tx& tx, const UserId& id);
Result<User> find(Tx& tx, std::string_view username_or_email);
/// Errors: invalid_argument.
Result<std::vector<User>> list(Tx& tx, const UserQuery& query);

/// The account behind a login name with its stored hash; not_found.
struct WithHash {
  User user;
  std::optional<std::string> hash;
};
Result<WithHash> find_with_hash(Tx& tx, std::string_view username_or_email);

/// Writes names, limits and state; `bump` voids every token of the account.
Result<User> update(Tx& tx, const User& user, const Value& new_hash, bool bump, Instant now);
Result<User> mark_deleted(Tx& tx, const UserId& id, Instant now);
Result<void> touch_login(Tx& tx, const UserId& id, const DeviceId& device, std::string_view address, Instant now);
Result<void> link(Tx& tx, const UserId& id, std::string_view issuer, std::string_view subject, Instant now);

/// Locks the account's row for a decision on its devices (I-07, I-40). not_found.
Result<User> lock(Tx& tx, const UserId& id);

}  // namespace tornado::inline v1::user_repo
