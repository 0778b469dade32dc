#pragma once

#include <string>
#include <vector>

#include "tornado/users.hpp"

namespace tornado::inline v1::device_repo {

Result<Device> insert(Tx& tx, const UserId& user, std::string_view label, Instant now);
Result<Device> get(Tx& tx, const DeviceId& id);
/// Devices of an account that are not revoked and have a live sign-in, most recently seen first.
Result<std::vector<Device>> live(Tx& tx, const UserId& user, Instant now);
Result<int> count_live(Tx& tx, const UserId& user, Instant now);
Result<std::vector<Device>> all(Tx& tx, int limit, int offset);
/// Revokes the device and its sign-ins; its epoch grows. not_found; conflict if it was revoked before.
Result<Device> revoke(Tx& tx, const DeviceId& id, Instant now);
/// Every device of the account there is, in the same way.
Result<void> revoke_all(Tx& tx, const UserId& user, Instant now);
Result<void> touch(Tx& tx, const DeviceId& id, Instant now);

}  // namespace tornado::inline v1::device_repo
