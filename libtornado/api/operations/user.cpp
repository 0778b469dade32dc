#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

/// By id, name or e-mail address.
Task<User> user_named(Gateway& gateway, std::string text) {
  if (is_uuid(text)) co_return co_await gateway.users().get(UserId(std::move(text)));
  co_return co_await gateway.users().find(std::move(text));
}

Task<json::value> add(Gateway& gateway, Caller, Arguments arguments) {
  NewUser user(arguments.text("name"), arguments.text("email"));
  user.password = Secret(arguments.text("password"));
  user.max_devices =
      static_cast<int>(std::clamp<std::int64_t>(arguments.maybe_integer("max-devices").value_or(1), 0, INT32_MAX));
  TRY(auto created, co_await gateway.users().create(std::move(user)));
  co_return json::value(shown(created));
}

Task<json::value> list(Gateway& gateway, Caller, Arguments arguments) {
  UserQuery query;
  query.search = arguments.text("search");
  query.include_deleted = arguments.flag("deleted");
  query.limit = static_cast<int>(std::clamp<std::int64_t>(arguments.maybe_integer("limit").value_or(1000), 0, 20'000));
  query.offset =
      static_cast<int>(std::clamp<std::int64_t>(arguments.maybe_integer("offset").value_or(0), -1, INT32_MAX));
  TRY(auto users, co_await gateway.accounts(std::move(query)));
  co_return json::value(shown_list(users));
}

Task<json::value> show(Gateway& gateway, Caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  TRY(auto devices, co_await gateway.users().devices(user.id));
  TRY(auto account, co_await gateway.account(user.id));
  json::object out = shown(account);
  out["devices"] = shown_list(devices);
  out["sessions"] = shown_list(gateway.sessions().of(user.id));
  co_return json::value(std::move(out));
}

json::object shown_revocation(const Revocation& cut) {
  json::object out = shown(cut.user);
  add_cut(out, cut);
  return out;
}

Task<json::value> set(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  UserChanges changes;
  changes.username = arguments.maybe_text("username");
  changes.email = arguments.maybe_text("email");
  if (auto count = arguments.maybe_integer("max-devices"))
    changes.max_devices = static_cast<int>(std::clamp<std::int64_t>(*count, 0, INT32_MAX));
  TRY(auto cut, co_await gateway.update_user(std::move(caller), user.id, std::move(changes)));
  co_return json::value(shown(cut.user));
}

Task<json::value> suspend(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  TRY(auto cut, co_await gateway.suspend(std::move(caller), user.id));
  co_return json::value(shown_revocation(cut));
}

Task<json::value> reinstate(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  TRY(auto back, co_await gateway.reinstate(std::move(caller), user.id));
  co_return json::value(shown(back));
}

Task<json::value> remove(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  TRY(auto cut, co_await gateway.remove_user(std::move(caller), user.id));
  co_return json::value(shown_revocation(cut));
}

Task<json::value> password(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto user, co_await user_named(gateway, arguments.text("name")));
  UserChanges changes;
  changes.password = Secret(arguments.text("password"));
  TRY(auto cut, co_await gateway.update_user(std::move(caller), user.id, std::move(changes)));
  co_return json::value(shown_revocation(cut));
}

const Parameter name_parameter{"name", ParameterKind::text, true, true, "user name, e-mail address or id"};

}  // namespace

void add_user_operations(std::vector<Operation>& table) {
  const std::vector<std::string_view> columns{"username",       "email",          "is_active",
                                              "max_devices",    "total_sessions", "total_bytes_rx",
                                              "total_bytes_tx", "last_login_at",  "id"};
  table.push_back({"user.add",
                   Permission::write,
                   "Create an account",
                   "tornadoctl user add alice --email alice@example.org --password-stdin < password.txt",
                   {{"name", ParameterKind::text, true, true, "user name, 3 to 50 characters"},
                    {"email", ParameterKind::text, false, true, "e-mail address, also good for signing in"},
                    {"max-devices", ParameterKind::integer, false, false, "devices that may be signed in at once (1)"},
                    {"password", ParameterKind::secret, false, true, "8 to 1024 bytes"}},
                   {},
                   false,
                   add});
  table.push_back({"user.list",
                   Permission::read,
                   "List accounts",
                   "tornadoctl user list --search example.org",
                   {{"search", ParameterKind::text, false, false, "part of a name or address"},
                    {"deleted", ParameterKind::flag, false, false, "deleted accounts too"},
                    {"limit", ParameterKind::integer, false, false, "at most so many (1000)"},
                    {"offset", ParameterKind::integer, false, false, "skip so many"}},
                   columns,
                   false,
                   list});
  table.push_back({"user.show",
                   Permission::read,
                   "Show an account with its devices and sessions; totals are of all sessions, ended or not",
                   "tornadoctl user show alice",
                   {name_parameter},
                   {},
                   false,
                   show});
  table.push_back({"user.set",
                   Permission::write,
                   "Change an account",
                   "tornadoctl user set alice --max-devices 3",
                   {name_parameter,
                    {"username", ParameterKind::text, false, false, "new user name"},
                    {"email", ParameterKind::text, false, false, "new e-mail address"},
                    {"max-devices", ParameterKind::integer, false, false, "devices that may be signed in at once"}},
                   {},
                   false,
                   set});
  table.push_back({"user.suspend",
                   Permission::write,
                   "Suspend an account and cut its sessions and tokens",
                   "tornadoctl user suspend alice",
                   {name_parameter},
                   {},
                   false,
                   suspend});
  table.push_back({"user.reinstate",
                   Permission::write,
                   "End a suspension",
                   "tornadoctl user reinstate alice",
                   {name_parameter},
                   {},
                   false,
                   reinstate});
  table.push_back({"user.delete",
                   Permission::write,
                   "Delete an account; its history stays",
                   "tornadoctl user delete alice --yes",
                   {name_parameter},
                   {},
                   true,
                   remove});
  table.push_back({"user.password",
                   Permission::write,
                   "Set a new password and cut sessions and tokens",
                   "tornadoctl user password alice --password-stdin < password.txt",
                   {name_parameter, {"password", ParameterKind::secret, false, true, "8 to 1024 bytes"}},
                   {},
                   false,
                   password});
}

}  // namespace tornado::inline v1
