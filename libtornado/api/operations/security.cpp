#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Task<json::value> throttles(Gateway& gateway, Caller, Arguments) {
  TRY(auto all, co_await gateway.live().throttled());
  json::array out;
  for (const auto& state : all) {
    json::object entry;
    entry["key"] = state.key;
    entry["failures"] = state.failures;
    entry["banned_until"] = shown_time(state.banned_until);
    out.push_back(std::move(entry));
  }
  co_return json::value(std::move(out));
}

Task<json::value> clear_throttle(Gateway& gateway, Caller, Arguments arguments) {
  TRY_VOID(co_await gateway.live().clear(arguments.text("key")));
  json::object out;
  out["cleared"] = arguments.text("key");
  co_return json::value(std::move(out));
}

Task<json::value> keys(Gateway& gateway, Caller, Arguments) {
  co_return json::value(shown_list(gateway.keys().list()));
}

Task<json::value> rotate_key(Gateway& gateway, Caller, Arguments arguments) {
  std::string wanted = arguments.text("use");
  bool known = false;
  for (KeyUse use : {KeyUse::access, KeyUse::refresh, KeyUse::login}) {
    if (wanted != "all" && wanted != name(use)) continue;
    known = true;
    TRY_VOID(co_await gateway.keys().rotate(use));
  }
  if (!known) co_return Error(errc::invalid_argument, "use: access, refresh, login or all");
  co_return json::value(shown_list(gateway.keys().list()));
}

}  // namespace

void add_security_operations(std::vector<Operation>& table) {
  table.push_back({"throttle.list",
                   Permission::read,
                   "List addresses and accounts with failed logins",
                   "tornadoctl throttle list",
                   {},
                   {"key", "failures", "banned_until"},
                   false,
                   throttles});
  table.push_back({"throttle.clear",
                   Permission::write,
                   "Forget the failed logins of an address or account",
                   "tornadoctl throttle clear address:192.0.2.7",
                   {{"key", ParameterKind::text, true, true, "as `throttle list` shows it"}},
                   {},
                   false,
                   clear_throttle});
  const std::vector<std::string_view> columns{"use", "id", "signs", "created_at", "signs_from", "verifies_until"};
  table.push_back(
      {"key.list", Permission::read, "List signing and login keys", "tornadoctl key list", {}, columns, false, keys});
  table.push_back({"key.rotate",
                   Permission::write,
                   "Make a new key; it signs after the lead",
                   "tornadoctl key rotate access",
                   {{"use", ParameterKind::text, true, true, "access, refresh, login or all"}},
                   columns,
                   false,
                   rotate_key});
}

}  // namespace tornado::inline v1
