#include "session/journal.hpp"

#include <charconv>

#include "base/try.hpp"
#include "database/rows.hpp"
#include "session/traffic.hpp"

namespace tornado::inline v1 {
namespace {

constexpr const char* schema[] = {
    "CREATE TABLE IF NOT EXISTS session_journal (instance TEXT PRIMARY KEY, user_id TEXT NOT NULL, device_id TEXT NOT "
    "NULL, "
    "public_key TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, client_ip TEXT, opened_ms BIGINT NOT NULL, "
    "activated_ms BIGINT NOT NULL DEFAULT 0, ended_ms BIGINT NOT NULL DEFAULT 0, hard_deadline_ms BIGINT NOT NULL, "
    "bytes_rx BIGINT NOT NULL DEFAULT 0, bytes_tx BIGINT NOT NULL DEFAULT 0, drained INTEGER NOT NULL DEFAULT 0, "
    "addresses TEXT NOT NULL, counters TEXT NOT NULL DEFAULT '', last_client_ip TEXT, roamed BIGINT NOT NULL DEFAULT "
    "0, preshared INTEGER NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX IF NOT EXISTS session_journal_key ON session_journal (public_key) WHERE state <> 'closed'",
    "CREATE UNIQUE INDEX IF NOT EXISTS session_journal_live ON session_journal (device_id) WHERE state IN ('pending', "
    "'active')",
    "CREATE INDEX IF NOT EXISTS session_journal_undrained ON session_journal (ended_ms) WHERE state = 'closed' AND "
    "drained = 0",
    "CREATE TABLE IF NOT EXISTS session_addresses (instance TEXT NOT NULL, device_id TEXT NOT NULL, user_id TEXT NOT "
    "NULL, lane TEXT NOT "
    "NULL, "
    "v4 TEXT NOT NULL, v6 TEXT, released_ms BIGINT NOT NULL DEFAULT 0)",
    "CREATE UNIQUE INDEX IF NOT EXISTS session_addresses_v4 ON session_addresses (lane, v4) WHERE released_ms = 0",
    "CREATE UNIQUE INDEX IF NOT EXISTS session_addresses_v6 ON session_addresses (lane, v6) WHERE released_ms = 0 AND "
    "v6 "
    "IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS session_addresses_instance ON session_addresses (instance)",
    "CREATE INDEX IF NOT EXISTS session_addresses_released ON session_addresses (released_ms) WHERE released_ms > 0",
    // Every key a device ever used: it never becomes another device's (I-28).
    "CREATE TABLE IF NOT EXISTS session_keys (public_key TEXT PRIMARY KEY, device_id TEXT NOT NULL, first_ms BIGINT "
    "NOT NULL)",
};

/// Columns that journals of earlier versions lack. The journal is always SQLite.
Result<void> add_columns(Tx& tx) {
  TRY_PLAIN(auto rows, tx.exec("SELECT name FROM pragma_table_info('session_journal')"));
  for (const auto& [column, type] :
       {std::pair("last_client_ip", "TEXT"), std::pair("roamed", "BIGINT NOT NULL DEFAULT 0"),
        std::pair("preshared", "INTEGER NOT NULL DEFAULT 0")}) {
    bool there =
        std::any_of(rows.rows.begin(), rows.rows.end(), [&](const auto& row) { return text(row[0]) == column; });
    if (!there) TRY_VOID_PLAIN(tx.exec("ALTER TABLE session_journal ADD COLUMN " + std::string(column) + " " + type));
  }
  return {};
}

#define TORNADO_JOURNAL_COLUMNS                                                                             \
  "instance, user_id, device_id, public_key, state, reason, client_ip, opened_ms, activated_ms, ended_ms, " \
  "hard_deadline_ms, "                                                                                      \
  "bytes_rx, bytes_tx, addresses, counters, last_client_ip, roamed, preshared"

template <class Enum>
std::optional<Enum> parse_name(std::string_view text, int count) {
  for (int i = 0; i < count; ++i)
    if (name(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
  return std::nullopt;
}

/// "vpn 10.8.0.2;tor 10.9.0.2 fd00::2": what the instance had, kept after its addresses passed to another.
std::string write_addresses(const LaneAddresses& addresses) {
  std::string out;
  for (const auto& address : addresses)
    out += (out.empty() ? "" : ";") + address.lane.str() + " " + address.v4.str() +
           (address.v6 ? " " + address.v6->str() : "");
  return out;
}

Result<std::vector<LaneAddress>> read_addresses(const std::string& text) {
  std::vector<LaneAddress> out;
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view entry = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    auto first = entry.find(' ');
    if (first == entry.npos) return Error(errc::data_loss, "journal: malformed addresses");
    auto second = entry.find(' ', first + 1);
    auto v4 = Address::parse(entry.substr(first + 1, second == entry.npos ? second : second - first - 1));
    if (!v4) return Error(errc::data_loss, "journal: malformed address");
    LaneAddress& address = out.emplace_back(Lane(std::string(entry.substr(0, first))), *v4);
    if (second == entry.npos) continue;
    auto v6 = Address::parse(entry.substr(second + 1));
    if (!v6) return Error(errc::data_loss, "journal: malformed address");
    address.v6 = *v6;
  }
  return out;
}

/// "vpn 1024 2048 512 96 7;...": lane, received, sent, what both came to before, index of the interface.
std::string write_counters(const std::vector<LaneCounters>& counters) {
  std::string out;
  for (const auto& c : counters) {
    out += (out.empty() ? "" : ";") + c.lane.str();
    for (std::uint64_t number : {c.received, c.sent, c.base_received, c.base_sent, std::uint64_t{c.interface}})
      out += " " + std::to_string(number);
  }
  return out;
}

Result<LaneCounters> read_account(std::string_view entry) {
  LaneCounters out;
  std::uint64_t interface = 0;
  auto space = std::min(entry.find(' '), entry.size());
  out.lane = Lane(std::string(entry.substr(0, space)));
  entry.remove_prefix(space);
  for (std::uint64_t* number : {&out.received, &out.sent, &out.base_received, &out.base_sent, &interface}) {
    // Rows of the first format end after two numbers; what their lanes came to before is in the total of the row.
    if (entry.empty() && number == &out.base_received) return out;
    if (entry.empty()) return Error(errc::data_loss, "journal: malformed counters");
    entry.remove_prefix(1);
    auto [end, ec] = std::from_chars(entry.data(), entry.data() + entry.size(), *number);
    if (ec != std::errc()) return Error(errc::data_loss, "journal: malformed counters");
    entry.remove_prefix(static_cast<std::size_t>(end - entry.data()));
  }
  if (!entry.empty()) return Error(errc::data_loss, "journal: malformed counters");
  out.interface = static_cast<std::uint32_t>(interface);
  return out;
}

Result<std::vector<LaneCounters>> read_counters(const std::string& text) {
  std::vector<LaneCounters> out;
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view entry = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    TRY_PLAIN(auto account, read_account(entry));
    out.push_back(std::move(account));
  }
  return out;
}

/// The accounts of the lanes come to the totals of the row; what they lack is the first one's.
void complete_accounts(Session& session) {
  if (session.counters.empty()) return;
  LaneCounters& first = session.counters.front();
  for (const auto& account : session.counters) {
    session.received -= std::min(session.received, account.total_received());
    session.sent -= std::min(session.sent, account.total_sent());
  }
  first.base_received += session.received;
  first.base_sent += session.sent;
  sum_up(session);
}

Result<Session> read(const std::vector<Value>& row) {
  Session s;
  s.instance = Instance(text(row[0]));
  s.user = UserId(text(row[1]));
  s.device = DeviceId(text(row[2]));
  auto key = PublicKey::parse(text(row[3]));
  auto state = parse_name<SessionState>(text(row[4]), 4);
  if (!key || !state) return Error(errc::data_loss, "journal: malformed row " + s.instance.str());
  s.key = *key;
  s.state = *state;
  if (row[5]) s.reason = parse_name<CloseReason>(*row[5], 8);
  s.first_seen_from = ShownAddress(text(row[6]));
  s.seen_from = ShownAddress(text(row[15]));
  // Only an address that was written in full says where the client is.
  if (auto source = Address::parse(s.seen_from.str())) s.source = *source;
  s.roamed = static_cast<std::uint32_t>(integer(row[16]));
  s.preshared = boolean(row[17]);
  s.opened = instant_ms(row[7]);
  s.activated = instant_ms(row[8]);
  s.ended = instant_ms(row[9]);
  s.hard_deadline = instant_ms(row[10]);
  s.received = static_cast<std::uint64_t>(integer(row[11]));
  s.sent = static_cast<std::uint64_t>(integer(row[12]));
  TRY_PLAIN(s.addresses, read_addresses(text(row[13])));
  TRY_PLAIN(s.counters, read_counters(text(row[14])));
  complete_accounts(s);
  return s;
}

Result<std::vector<Session>> read_all(const Rows& rows) {
  std::vector<Session> out;
  out.reserve(rows.size());
  for (const auto& row : rows.rows) {
    TRY_PLAIN(auto session, read(row));
    out.push_back(std::move(session));
  }
  return out;
}

/// Addresses a session no longer holds are another's now, or free. `sessions` in order of instance, behind `after`.
Result<void> keep_held(Tx& tx, const Instance& after, std::vector<Session>& sessions) {
  TRY_PLAIN(auto rows, tx.exec("SELECT instance, lane FROM session_addresses WHERE released_ms = 0 AND instance > $1 "
                               "AND instance <= $2",
                               {after.str(), sessions.back().instance.str()}));
  std::unordered_map<Instance, std::vector<Lane>> held;
  for (const auto& row : rows.rows) held[Instance(text(row[0]))].emplace_back(text(row[1]));
  for (auto& session : sessions) {
    const auto& lanes = held[session.instance];
    session.addresses = session.addresses.where(
        [&](const LaneAddress& address) { return std::find(lanes.begin(), lanes.end(), address.lane) != lanes.end(); });
  }
  return {};
}

/// A page at a time: as text a row is twice what it becomes.
Result<std::vector<Session>> read_unclosed(Tx& tx) {
  constexpr std::size_t page_size = 1000;
  std::vector<Session> out;
  for (Instance after;;) {
    TRY_PLAIN(auto rows, tx.exec("SELECT " TORNADO_JOURNAL_COLUMNS " FROM session_journal WHERE state <> 'closed' AND "
                                 "instance > $1 ORDER BY instance LIMIT " +
                                     std::to_string(page_size),
                                 {after.str()}));
    if (rows.empty()) return out;
    TRY_PLAIN(auto page, read_all(rows));
    TRY_VOID_PLAIN(keep_held(tx, after, page));
    after = page.back().instance;
    std::move(page.begin(), page.end(), std::back_inserter(out));
    if (page.size() < page_size) return out;
  }
}

Result<std::vector<FreedAddress>> read_freed(Tx& tx, Instant since) {
  // The newest row of each address that nobody holds now.
  TRY_PLAIN(auto rows,
            tx.exec("SELECT a.lane, a.v4, a.v6, a.device_id, max(a.released_ms), a.user_id FROM session_addresses a "
                    "WHERE a.released_ms > 0 AND a.released_ms > $1 "
                    "AND NOT EXISTS (SELECT 1 FROM session_addresses h WHERE h.lane = a.lane AND h.v4 = "
                    "a.v4 AND h.released_ms = 0) "
                    "GROUP BY a.lane, a.v4 ORDER BY 5",
                    {ms(since)}));
  std::vector<FreedAddress> out;
  for (const auto& row : rows.rows) {
    TRY_PLAIN(auto v4, Address::parse(text(row[1])));
    FreedAddress& freed = out.emplace_back();
    freed.address = LaneAddress(Lane(text(row[0])), v4);
    if (row[2])
      if (auto v6 = Address::parse(*row[2])) freed.address.v6 = *v6;
    freed.last = Owner(text(row[3]));
    freed.freed = instant_ms(row[4]);
    freed.user = UserId(text(row[5]));
  }
  return out;
}

Result<std::optional<Instance>> replace_live(Tx& tx, const Session& session, Instant now) {
  TRY_PLAIN(auto live, tx.exec("UPDATE session_journal SET state = 'closing', reason = 'replaced', ended_ms = $2 "
                               "WHERE device_id = $1 AND state IN ('pending', 'active') RETURNING instance",
                               {session.device.str(), ms(now)}));
  if (live.empty()) return std::optional<Instance>();
  std::string former = text(live[0][0]);
  TRY_VOID_PLAIN(tx.exec("UPDATE session_addresses SET instance = $2 WHERE instance = $1 AND released_ms = 0",
                         {former, session.instance.str()}));
  return std::optional(Instance(former));
}

/// One statement for all lanes of a session that took nothing over.
Result<void> hold_addresses(Tx& tx, const Session& session) {
  std::string sql = "INSERT INTO session_addresses (instance, device_id, user_id, lane, v4, v6) VALUES ";
  std::vector<Value> values{session.instance.str(), session.device.str(), session.user.str()};
  for (const auto& address : session.addresses) {
    auto at = [&](int offset) { return "$" + std::to_string(values.size() + static_cast<std::size_t>(offset)); };
    sql += (values.size() > 3 ? ", " : "") + ("($1, $2, $3, " + at(1) + ", " + at(2) + ", " + at(3) + ")");
    values.emplace_back(address.lane.str());
    values.emplace_back(address.v4.str());
    values.push_back(address.v6 ? Value(address.v6->str()) : Value());
  }
  if (session.addresses.empty()) return {};
  TRY_VOID_PLAIN(tx.exec(sql, values));
  return {};
}

/// Of a session that took its device's former one over: what that one did not have.
Result<void> hold_missing(Tx& tx, Session session) {
  TRY_PLAIN(auto rows, tx.exec("SELECT lane, v4 FROM session_addresses WHERE instance = $1 AND released_ms = 0",
                               {session.instance.str()}));
  session.addresses = session.addresses.where([&](const LaneAddress& address) {
    return std::none_of(rows.rows.begin(), rows.rows.end(), [&](const auto& row) {
      return text(row[0]) == address.lane.str() && text(row[1]) == address.v4.str();
    });
  });
  return hold_addresses(tx, session);
}

Result<void> own_key(Tx& tx, const Session& session, Instant now) {
  TRY_PLAIN(auto rows,
            tx.exec("INSERT INTO session_keys (public_key, device_id, first_ms) VALUES ($1, $2, $3) "
                    "ON CONFLICT (public_key) DO UPDATE SET first_ms = session_keys.first_ms RETURNING device_id",
                    {session.key.str(), session.device.str(), ms(now)}));
  if (text(rows[0][0]) != session.device.str()) return Error(errc::key_in_use, "another device has used that key");
  return {};
}

/// The index has the last word (I-01): one unclosed session for a key.
Result<void> insert_row(Tx& tx, const Session& s) {
  TRY_PLAIN(
      auto inserted,
      tx.exec(
          "INSERT INTO session_journal (instance, user_id, device_id, public_key, state, client_ip, opened_ms, "
          "hard_deadline_ms, addresses, last_client_ip, preshared) VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, "
          "$5, $9) "
          "ON CONFLICT (public_key) WHERE state <> 'closed' DO NOTHING RETURNING instance",
          {s.instance.str(), s.user.str(), s.device.str(), s.key.str(), s.first_seen_from.str(), ms(s.opened),
           ms(s.hard_deadline), write_addresses(s.addresses), s.preshared ? "1" : "0"}));
  if (inserted.empty()) return Error(errc::key_in_use, "an unclosed session has that key");
  return {};
}

}  // namespace

Task<void> Journal::create_tables() {
  Database::Body body = [](Tx& tx) -> Result<void> {
    for (const char* statement : schema) TRY_VOID_PLAIN(tx.exec(statement));
    return add_columns(tx);
  };
  co_return co_await database_.transact(Scope::system(), body);
}

Task<RestoredSessions> Journal::load(Instant freed_since) {
  RestoredSessions out;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(out.unclosed, read_unclosed(tx));
    TRY_PLAIN(out.freed, read_freed(tx, freed_since));
    // Who had an address longer ago than this is nobody's concern any more.
    TRY_VOID_PLAIN(tx.exec("DELETE FROM session_addresses WHERE released_ms > 0 AND released_ms < $1",
                           {ms(freed_since - std::chrono::hours(24 * 30))}));
    return {};
  };
  TRY_VOID(co_await database_.transact(Scope::system(), body));
  co_return out;
}

Task<std::optional<Instance>> Journal::open(const Session& session, const std::function<Result<void>(Tx&)>& guard,
                                            Instant now) {
  std::optional<Instance> replaced;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    if (guard) TRY_VOID_PLAIN(guard(tx));
    TRY_VOID_PLAIN(own_key(tx, session, now));
    TRY_PLAIN(replaced, replace_live(tx, session, now));
    TRY_VOID_PLAIN(insert_row(tx, session));
    return replaced ? hold_missing(tx, session) : hold_addresses(tx, session);
  };
  TRY_VOID(co_await database_.transact(Scope::system(), body));
  co_return replaced;
}

Task<void> Journal::activate(const Session& session) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(
        auto rows,
        tx.exec(
            "UPDATE session_journal SET state = 'active', activated_ms = $2 WHERE instance = $1 AND state = 'pending'",
            {session.instance.str(), ms(session.activated)}));
    if (rows.changed != 1) return Error(errc::superseded, "the session is no longer pending");
    return {};
  };
  co_return co_await database_.transact(Scope::system(), body);
}

Task<void> Journal::set_preshared(const Instance& instance, bool preshared) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(tx.exec("UPDATE session_journal SET preshared = $2 WHERE instance = $1 AND state <> 'closed'",
                           {instance.str(), preshared ? "1" : "0"}));
    return {};
  };
  co_return co_await database_.transact(Scope::system(), body);
}

Task<void> Journal::begin_close(const Instance& instance, CloseReason reason, Instant now) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(
        tx.exec("UPDATE session_journal SET state = 'closing', reason = $2, ended_ms = $3 "
                "WHERE instance = $1 AND state IN ('pending', 'active')",
                {instance.str(), std::string(name(reason)), ms(now)}));
    return {};
  };
  co_return co_await database_.transact(Scope::system().urgent(), body);
}

Task<void> Journal::revert(const Instance& failed, const Instance& former, Instant now) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(
        tx.exec("UPDATE session_journal SET state = 'closing', reason = 'failed', ended_ms = $2 WHERE instance = $1",
                {failed.str(), ms(now)}));
    TRY_VOID_PLAIN(tx.exec("UPDATE session_addresses SET instance = $2 WHERE instance = $1 AND released_ms = 0",
                           {failed.str(), former.str()}));
    TRY_VOID_PLAIN(
        tx.exec("UPDATE session_journal SET state = 'active', reason = NULL, ended_ms = 0 "
                "WHERE instance = $1 AND state = 'closing' AND reason = 'replaced'",
                {former.str()}));
    return {};
  };
  co_return co_await database_.transact(Scope::system().urgent(), body);
}

namespace {

/// Of one that is closed by now nobody would ever release them.
Result<void> give_back(Tx& tx, const Instance& from, const Instance& to) {
  TRY_VOID_PLAIN(
      tx.exec("UPDATE session_addresses SET instance = $2 WHERE instance = $1 AND released_ms = 0 AND EXISTS "
              "(SELECT 1 FROM session_journal WHERE instance = $2 AND state <> 'closed')",
              {from.str(), to.str()}));
  TRY_VOID_PLAIN(
      tx.exec("UPDATE session_journal SET state = 'active', reason = NULL, ended_ms = 0 "
              "WHERE instance = $1 AND state = 'closing' AND reason = 'replaced'",
              {to.str()}));
  return {};
}

}  // namespace

Task<void> Journal::finish_close(const Session& session, const Instance& former, Instant now) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    // Whatever state the row was left in, and also if an earlier attempt got here already.
    TRY_VOID_PLAIN(tx.exec(
        "UPDATE session_journal SET state = 'closed', reason = $4, ended_ms = $5, bytes_rx = $2, "
        "bytes_tx = $3, counters = $6, client_ip = $7, last_client_ip = $8, roamed = $9 WHERE instance = $1 AND "
        "state <> 'closed'",
        {session.instance.str(), std::to_string(session.received), std::to_string(session.sent),
         std::string(name(session.reason.value_or(CloseReason::failed))), ms(session.ended),
         write_counters(session.counters), session.first_seen_from.str(), session.seen_from.str(),
         std::to_string(session.roamed)}));
    if (!former.empty()) TRY_VOID_PLAIN(give_back(tx, session.instance, former));
    TRY_VOID_PLAIN(tx.exec("UPDATE session_addresses SET released_ms = $2 WHERE instance = $1 AND released_ms = 0",
                           {session.instance.str(), ms(now)}));
    return {};
  };
  co_return co_await database_.transact(Scope::system().urgent(), body);
}

Task<void> Journal::save(const std::vector<Session>& sessions, const std::vector<ClockStep>& steps, Instant now) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    for (const auto& s : sessions)
      TRY_VOID_PLAIN(
          tx.exec("UPDATE session_journal SET bytes_rx = $2, bytes_tx = $3, counters = $4, opened_ms = $5, "
                  "activated_ms = $6, hard_deadline_ms = $7, client_ip = $8, last_client_ip = $9, roamed = $10 WHERE "
                  "instance = $1 AND state <> 'closed'",
                  {s.instance.str(), std::to_string(s.received), std::to_string(s.sent), write_counters(s.counters),
                   ms(s.opened), ms(s.activated), ms(s.hard_deadline), s.first_seen_from.str(), s.seen_from.str(),
                   std::to_string(s.roamed)}));
    // Quarantines too; what was released after the step already has the new time.
    for (const auto& step : steps)
      TRY_VOID_PLAIN(
          tx.exec("UPDATE session_addresses SET released_ms = released_ms + CAST($1 AS BIGINT) WHERE released_ms > 0 "
                  "AND NOT (released_ms >= $2 AND released_ms <= $3)",
                  {std::to_string(step.by.count()), ms(step.since), ms(now)}));
    return {};
  };
  co_return co_await database_.transact(Scope::system(), body);
}

Task<std::vector<Session>> Journal::undrained(int limit) {
  std::vector<Session> out;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(auto rows,
              tx.exec("SELECT " TORNADO_JOURNAL_COLUMNS " FROM session_journal WHERE state = 'closed' AND drained = 0 "
                      "ORDER BY ended_ms, instance LIMIT $1",
                      {std::to_string(limit)}));
    TRY_PLAIN(out, read_all(rows));
    return {};
  };
  TRY_VOID(co_await database_.transact(Scope::system(), body));
  co_return out;
}

Task<void> Journal::drained(const std::vector<Instance>& instances) {
  Database::Body body = [&](Tx& tx) -> Result<void> {
    for (const auto& instance : instances)
      TRY_VOID_PLAIN(tx.exec("DELETE FROM session_journal WHERE instance = $1 AND state = 'closed'", {instance.str()}));
    return {};
  };
  co_return co_await database_.transact(Scope::system(), body);
}

}  // namespace tornado::inline v1
