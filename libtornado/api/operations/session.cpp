#include "api/operations.hpp"
#include "api/to_json.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

/// By session id ("user-device"), instance or device id.
Result<Session> session_named(Gateway& gateway, const std::string& text) {
  if (auto session = gateway.sessions().find(Instance(text))) return *session;
  if (auto session = gateway.sessions().find(DeviceId(text))) return *session;
  constexpr std::size_t uuid_size = 36;
  if (text.size() == 2 * uuid_size + 1)
    if (auto session = gateway.sessions().find(DeviceId(text.substr(uuid_size + 1))); session && session->id() == text)
      return *session;
  return Error(errc::not_found, "no live session " + text);
}

json::object with_quota(Gateway& gateway, const Session& session) {
  json::object out = shown(session);
  out["quota"] = nullptr;
  if (auto standing = gateway.standing(session.user)) add_quota(out, *standing);
  return out;
}

Task<json::value> list(Gateway& gateway, Caller, Arguments) {
  json::array out;
  std::string after;
  do {
    auto page = gateway.sessions().list(after, 10'000);
    for (const auto& session : page.sessions) out.push_back(with_quota(gateway, session));
    after = page.next;
  } while (!after.empty());
  co_return json::value(std::move(out));
}

Task<json::value> history(Gateway& gateway, Caller, Arguments arguments) {
  HistoryQuery query;
  if (auto name = arguments.maybe_text("user")) {
    query.user = UserId(*name);
    if (!is_uuid(*name)) {
      TRY(auto user, co_await gateway.users().find(*name));
      query.user = user.id;
    }
  }
  query.limit = static_cast<int>(std::clamp<std::int64_t>(arguments.maybe_integer("limit").value_or(100), 0, 20'000));
  query.offset =
      static_cast<int>(std::clamp<std::int64_t>(arguments.maybe_integer("offset").value_or(0), -1, INT32_MAX));
  TRY(auto rows, co_await gateway.history(std::move(query)));
  json::array out;
  for (const auto& row : rows) out.push_back(shown(row));
  co_return json::value(std::move(out));
}

Task<json::value> show(Gateway& gateway, Caller, Arguments arguments) {
  TRY(auto session, session_named(gateway, arguments.text("session")));
  co_return json::value(with_quota(gateway, session));
}

Task<json::value> close(Gateway& gateway, Caller caller, Arguments arguments) {
  TRY(auto session, session_named(gateway, arguments.text("session")));
  TRY(auto revocation, co_await gateway.close(std::move(caller), session.instance, CloseReason::killed));
  json::object out = shown(revocation.sessions.empty() ? session : revocation.sessions.front());
  add_cut(out, revocation);
  co_return json::value(std::move(out));
}

Task<json::value> confirm_ends(Gateway& gateway, Caller caller, Arguments) {
  TRY(auto held, co_await gateway.confirm_ends(std::move(caller)));
  json::object out;
  out["held"] = held;
  co_return json::value(std::move(out));
}

const Parameter session_parameter{"session", ParameterKind::text, true, true, "session id, instance or device id"};

}  // namespace

void add_session_operations(std::vector<Operation>& table) {
  table.push_back({"session.list",
                   Permission::read,
                   "List live sessions",
                   "tornadoctl session list",
                   {},
                   {"session_id", "state", "reason", "lane", "vpn_ip", "tor_ip", "started_at", "last_seen_at",
                    "bytes_rx", "bytes_tx", "rate_rx", "rate_tx"},
                   false,
                   list});
  table.push_back({"session.history",
                   Permission::read,
                   "List ended sessions, newest first",
                   "tornadoctl session history --user alice",
                   {{"user", ParameterKind::text, false, false, "of one account"},
                    {"limit", ParameterKind::integer, false, false, "at most so many (100)"},
                    {"offset", ParameterKind::integer, false, false, "skip so many"}},
                   {"session_id", "vpn_ip", "tor_ip", "started_at", "ended_at", "bytes_rx", "bytes_tx", "roamed",
                    "last_client_ip", "close_reason"},
                   false,
                   history});
  table.push_back({"session.show",
                   Permission::read,
                   "Show a live session",
                   "tornadoctl session show 6b1f...",
                   {session_parameter},
                   {},
                   false,
                   show});
  table.push_back({"session.close",
                   Permission::write,
                   "End a session; the device may connect again",
                   "tornadoctl session close 6b1f...",
                   {session_parameter},
                   {},
                   false,
                   close});
  table.push_back({"session.confirm_ends",
                   Permission::write,
                   "End the sessions whose deadlines came all at once, and which were held for you to look",
                   "tornadoctl session confirm-ends --yes",
                   {},
                   {},
                   true,
                   confirm_ends});
}

}  // namespace tornado::inline v1
