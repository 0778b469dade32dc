#include "users/user_repo.hpp"

#include "base/try.hpp"
#include "base/uuid.hpp"
#include "database/rows.hpp"

namespace tornado::inline v1::user_repo {
namespace {

#define TORNADO_USER_COLUMNS                                                                                     \
  "id, tenant, username, email, is_active, max_devices, epoch, total_sessions, total_bytes_rx, total_bytes_tx, " \
  "created_at, updated_at, last_login_at, last_seen_at, deleted_at"
constexpr std::size_t user_columns = 15;

User read(const std::vector<Value>& row) {
  User user;
  user.id = UserId(text(row[0]));
  user.tenant = text(row[1]);
  user.username = text(row[2]);
  user.email = text(row[3]);
  user.active = boolean(row[4]);
  user.max_devices = static_cast<int>(integer(row[5]));
  user.epoch = static_cast<std::uint64_t>(integer(row[6]));
  user.total_sessions = static_cast<std::uint64_t>(integer(row[7]));
  user.total_received = static_cast<std::uint64_t>(integer(row[8]));
  user.total_sent = static_cast<std::uint64_t>(integer(row[9]));
  user.created = instant(row[10]);
  user.updated = instant(row[11]);
  user.last_login = instant(row[12]);
  user.last_seen = instant(row[13]);
  user.deleted = instant(row[14]);
  return user;
}

Result<User> one(Result<Rows> rows, std::string_view what) {
  if (!rows) return rows.error();
  if (rows->empty()) return Error(errc::not_found, "no account " + std::string(what));
  return read((*rows)[0]);
}

/// Both names of a live account; whoever has one of them already keeps it.
Result<void> claim_names(Tx& tx, const User& user) {
  TRY_VOID_PLAIN(tx.exec("DELETE FROM user_names WHERE user_id = $1", {user.id.str()}));
  std::vector<std::string> names{fold(user.username)};
  if (fold(user.email) != names[0]) names.push_back(fold(user.email));
  for (const auto& name : names) {
    auto claimed = tx.exec("INSERT INTO user_names (tenant, name, user_id) VALUES ($1, $2, $3)",
                           {user.tenant, name, user.id.str()});
    if (!claimed && claimed.error().code() == errc::already_exists)
      return Error(errc::already_exists, "the name '" + name + "' is taken");
    if (!claimed) return claimed.error();
  }
  return {};
}

std::string literal_pattern(const std::string& search) {
  std::string out = "%";
  for (char c : fold(search)) {
    if (c == '%' || c == '_' || c == '\\') out += '\\';
    out += c;
  }
  return out + "%";
}

}  // namespace

std::string fold(std::string_view name) {
  std::string out(name);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

Result<User> insert(Tx& tx, const NewUser& wanted, const Value& password_hash, Instant now) {
  User user;
  user.id = UserId(uuid4());
  user.username = wanted.username;
  user.email = wanted.email;
  auto inserted = tx.exec(
      "INSERT INTO users (id, username, email, password_hash, is_active, max_devices, created_at, updated_at) "
      "VALUES ($1, $2, $3, $4, TRUE, $5, $6, $6) RETURNING " TORNADO_USER_COLUMNS,
      {user.id.str(), wanted.username, wanted.email, password_hash, std::to_string(wanted.max_devices), iso8601(now)});
  if (!inserted && inserted.error().code() == errc::already_exists)
    return Error(errc::already_exists, "a live account has that name or address");
  if (!inserted) return inserted.error();
  TRY_VOID_PLAIN(claim_names(tx, user));
  return read((*inserted)[0]);
}

Result<User> get(Tx& tx, const UserId& id) {
  return one(tx.exec("SELECT " TORNADO_USER_COLUMNS " FROM users WHERE id = $1", {id.str()}), id.str());
}

Result<User> lock(Tx& tx, const UserId& id) {
  return one(tx.exec("UPDATE users SET epoch = epoch WHERE id = $1 RETURNING " TORNADO_USER_COLUMNS, {id.str()}),
             id.str());
}

Result<User> find(Tx& tx, std::string_view name) {
  TRY_PLAIN(auto found, find_with_hash(tx, name));
  return found.user;
}

Result<WithHash> find_with_hash(Tx& tx, std::string_view name) {
  TRY_PLAIN(auto rows,
            tx.exec("SELECT " TORNADO_USER_COLUMNS ", password_hash FROM users WHERE id = (SELECT user_id FROM "
                    "user_names WHERE tenant = '' AND name = $1) AND deleted_at IS NULL",
                    {fold(name)}));
  if (rows.empty()) return Error(errc::not_found, "no account has that name");
  return WithHash{read(rows[0]), rows[0][user_columns]};
}

Result<std::vector<User>> list(Tx& tx, const UserQuery& query) {
  if (query.limit < 1 || query.limit > 10'000 || query.offset < 0)
    return Error(errc::invalid_argument, "limit: 1 to 10000; offset: not negative");
  std::string sql = "SELECT " TORNADO_USER_COLUMNS
                    " FROM users WHERE (lower(username) LIKE $1 ESCAPE '\\' OR lower(email) LIKE $1 ESCAPE '\\')";
  if (!query.include_deleted) sql += " AND deleted_at IS NULL";
  if (query.active) sql += *query.active ? " AND is_active" : " AND NOT is_active";
  sql += " ORDER BY created_at DESC, id LIMIT $2 OFFSET $3";
  TRY_PLAIN(auto rows,
            tx.exec(sql, {literal_pattern(query.search), std::to_string(query.limit), std::to_string(query.offset)}));
  std::vector<User> users;
  users.reserve(rows.size());
  for (const auto& row : rows.rows) users.push_back(read(row));
  return users;
}

Result<User> update(Tx& tx, const User& user, const Value& new_hash, bool bump, Instant now) {
  auto updated = tx.exec(
      "UPDATE users SET username = $2, email = $3, password_hash = coalesce($4, password_hash), is_active = $5, "
      "max_devices = $6, epoch = epoch + $7, updated_at = $8 WHERE id = $1 RETURNING " TORNADO_USER_COLUMNS,
      {user.id.str(), user.username, user.email, new_hash, user.active ? "1" : "0", std::to_string(user.max_devices),
       bump ? "1" : "0", iso8601(now)});
  if (!updated && updated.error().code() == errc::already_exists)
    return Error(errc::already_exists, "a live account has that name or address");
  TRY_PLAIN(auto written, one(std::move(updated), user.id.str()));
  if (written.deleted == Instant()) TRY_VOID_PLAIN(claim_names(tx, written));
  return written;
}

Result<User> mark_deleted(Tx& tx, const UserId& id, Instant now) {
  TRY_VOID_PLAIN(tx.exec("DELETE FROM user_names WHERE user_id = $1", {id.str()}));
  return one(tx.exec("UPDATE users SET deleted_at = $2, is_active = FALSE, epoch = epoch + 1, updated_at = $2 "
                     "WHERE id = $1 AND deleted_at IS NULL RETURNING " TORNADO_USER_COLUMNS,
                     {id.str(), iso8601(now)}),
             id.str());
}

Result<void> touch_login(Tx& tx, const UserId& id, const DeviceId& device, std::string_view address, Instant now) {
  TRY_VOID_PLAIN(
      tx.exec("UPDATE users SET last_login_at = $2, last_device_id = $3, last_client_ip = $4 WHERE id = $1",
              {id.str(), iso8601(now), device.str(), address.empty() ? Value() : Value(std::string(address))}));
  return {};
}

Result<void> link(Tx& tx, const UserId& id, std::string_view issuer, std::string_view subject, Instant now) {
  TRY_PLAIN(auto rows, tx.exec("SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2",
                               {std::string(issuer), std::string(subject)}));
  if (!rows.empty() && text(rows[0][0]) == id.str()) return {};
  if (!rows.empty()) return Error(errc::already_exists, "the identity belongs to another account");
  TRY_VOID_PLAIN(tx.exec("INSERT INTO identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4)",
                         {std::string(issuer), std::string(subject), id.str(), iso8601(now)}));
  return {};
}

}  // namespace tornado::inline v1::user_repo
