#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Task<json::value> list(Gateway& gateway, Caller, Arguments arguments) {
  auto name = arguments.maybe_text("user");
  if (!name) {
    TRY(auto devices, co_await gateway.users().all_devices(10'000, 0));
    co_return json::value(shown_list(devices));
  }
  UserId id(*name);
  if (!is_uuid(*name)) {
    TRY(auto user, co_await gateway.users().find(*name));
    id = user.id;
  }
  TRY(auto devices, co_await gateway.users().devices(id));
  co_return json::value(shown_list(devices));
}

Task<json::value> revoke(Gateway& gateway, Caller caller, Arguments arguments) {
  DeviceId id(arguments.text("device"));
  TRY(auto revocation, co_await gateway.revoke_device(std::move(caller), std::move(id)));
  json::object out = shown(*revocation.device);
  add_cut(out, revocation);
  co_return json::value(std::move(out));
}

}  // namespace

void add_device_operations(std::vector<Operation>& table) {
  table.push_back({"device.list",
                   Permission::read,
                   "List devices; of one account: those signed in",
                   "tornadoctl device list alice",
                   {{"user", ParameterKind::text, true, false, "user name, e-mail address or id"}},
                   {"device_id", "user_id", "label", "created_at", "last_seen_at", "revoked_at"},
                   false,
                   list});
  table.push_back({"device.revoke",
                   Permission::write,
                   "Sign a device out and cut its session",
                   "tornadoctl device revoke 6b1f...",
                   {{"device", ParameterKind::text, true, true, "device id"}},
                   {},
                   false,
                   revoke});
}

}  // namespace tornado::inline v1
