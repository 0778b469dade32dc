#include "users/device_repo.hpp"

#include "base/try.hpp"
#include "base/uuid.hpp"
#include "database/rows.hpp"
#include "users/sign_in_repo.hpp"

namespace tornado::inline v1::device_repo {
namespace {

#define TORNADO_DEVICE_COLUMNS "id, user_id, label, epoch, created_at, last_seen_at, revoked_at"
#define TORNADO_LIVE_DEVICE                                                                            \
  "user_id = $1 AND revoked_at IS NULL AND EXISTS (SELECT 1 FROM auth_sessions s WHERE s.device_id = " \
  "devices.id AND s.revoked_at IS NULL AND s.expires_ms > $2)"

Device read(const std::vector<Value>& row) {
  Device device;
  device.id = DeviceId(text(row[0]));
  device.user = UserId(text(row[1]));
  device.label = text(row[2]);
  device.epoch = static_cast<std::uint64_t>(integer(row[3]));
  device.created = instant(row[4]);
  device.last_seen = instant(row[5]);
  device.revoked = instant(row[6]);
  return device;
}

Result<std::vector<Device>> many(Result<Rows> rows) {
  if (!rows) return rows.error();
  std::vector<Device> devices;
  devices.reserve(rows->size());
  for (const auto& row : rows->rows) devices.push_back(read(row));
  return devices;
}

Error missing(const DeviceId& id) {
  return Error(errc::not_found, "no device " + id.str());
}

}  // namespace

Result<Device> insert(Tx& tx, const UserId& user, std::string_view label, Instant now) {
  TRY_PLAIN(auto rows,
            tx.exec("INSERT INTO devices (id, user_id, label, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $4) "
                    "RETURNING " TORNADO_DEVICE_COLUMNS,
                    {uuid4(), user.str(), std::string(label), iso8601(now)}));
  return read(rows[0]);
}

Result<Device> get(Tx& tx, const DeviceId& id) {
  TRY_PLAIN(auto rows, tx.exec("SELECT " TORNADO_DEVICE_COLUMNS " FROM devices WHERE id = $1", {id.str()}));
  if (rows.empty()) return missing(id);
  return read(rows[0]);
}

Result<std::vector<Device>> live(Tx& tx, const UserId& user, Instant now) {
  return many(tx.exec("SELECT " TORNADO_DEVICE_COLUMNS " FROM devices WHERE " TORNADO_LIVE_DEVICE
                      " ORDER BY last_seen_at DESC, id",
                      {user.str(), ms(now)}));
}

Result<int> count_live(Tx& tx, const UserId& user, Instant now) {
  // Counted over the sign-ins' own index: an account may have many devices.
  TRY_PLAIN(auto rows,
            tx.exec("SELECT count(DISTINCT device_id) FROM auth_sessions WHERE user_id = $1 AND revoked_at IS NULL "
                    "AND expires_ms > $2",
                    {user.str(), ms(now)}));
  return static_cast<int>(integer(rows[0][0]));
}

Result<std::vector<Device>> all(Tx& tx, int limit, int offset) {
  return many(tx.exec("SELECT " TORNADO_DEVICE_COLUMNS " FROM devices ORDER BY created_at DESC, id LIMIT $1 OFFSET $2",
                      {std::to_string(limit), std::to_string(offset)}));
}

Result<Device> revoke(Tx& tx, const DeviceId& id, Instant now) {
  TRY_PLAIN(auto rows,
            tx.exec("UPDATE devices SET revoked_at = $2, epoch = epoch + 1 WHERE id = $1 AND revoked_at IS NULL "
                    "RETURNING " TORNADO_DEVICE_COLUMNS,
                    {id.str(), iso8601(now)}));
  TRY_VOID_PLAIN(sign_in_repo::revoke_device(tx, id, now));
  if (!rows.empty()) return read(rows[0]);
  TRY_PLAIN(auto device, get(tx, id));
  return Error(errc::conflict, "device " + device.id.str() + " is revoked already");
}

Result<void> revoke_all(Tx& tx, const UserId& user, Instant now) {
  TRY_VOID_PLAIN(
      tx.exec("UPDATE devices SET revoked_at = $2, epoch = epoch + 1 WHERE user_id = $1 AND revoked_at IS "
              "NULL",
              {user.str(), iso8601(now)}));
  return sign_in_repo::revoke_user(tx, user, now);
}

Result<void> touch(Tx& tx, const DeviceId& id, Instant now) {
  TRY_VOID_PLAIN(tx.exec("UPDATE devices SET last_seen_at = $2 WHERE id = $1", {id.str(), iso8601(now)}));
  return {};
}

}  // namespace tornado::inline v1::device_repo
