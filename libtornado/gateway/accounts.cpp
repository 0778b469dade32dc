// Accounts with what they have moved by now: the history's totals, and the sessions that are not in it.
#include "base/pace.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr int visited_at_once = 500;

}  // namespace

void Gateway::Impl::note_unrecorded(const Session& session, Unrecorded& out) {
  Moved& moved = out[session.user][session.instance];
  moved.received = session.received;
  moved.sent = session.sent;
}

/// A session may end and be recorded while this reads. So which ones the history has is asked in the transaction that
/// reads the totals: those are in there, and the others are added as they were before.
Task<void> Gateway::Impl::read_accounts(const AccountsReader& read, Unrecorded unrecorded, std::vector<User>& out) {
  Unrecorded left;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(out, read(tx));
    left.clear();
    for (const User& user : out) {
      auto sessions_of = unrecorded.find(user.id);
      if (sessions_of == unrecorded.end()) continue;
      for (const auto& [instance, moved] : sessions_of->second) {
        TRY_PLAIN(bool recorded, history_repo::has(tx, instance));
        if (!recorded) left[user.id][instance] = moved;
      }
    }
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  for (User& user : out)
    for (const auto& [instance, moved] : left[user.id]) {
      ++user.total_sessions;
      user.total_received += moved.received;
      user.total_sent += moved.sent;
    }
  co_return Result<void>();
}

Task<User> Gateway::Impl::account(UserId id) {
  Unrecorded unrecorded;
  sessions.visit_of(id, [&](const Session& session) { note_unrecorded(session, unrecorded); });
  for (const auto& [instance, session] : undrained)
    if (session.user == id) note_unrecorded(session, unrecorded);
  AccountsReader read = [&id](Tx& tx) -> Result<std::vector<User>> {
    TRY_PLAIN(auto user, user_repo::get(tx, id));
    return std::vector<User>(1, std::move(user));
  };
  std::vector<User> out;
  TRY_VOID(co_await read_accounts(read, std::move(unrecorded), out));
  co_return std::move(out.front());
}

Task<User> Gateway::account(UserId user) {
  return impl_->account(std::move(user));
}

Task<std::vector<User>> Gateway::accounts(UserQuery query) {
  Impl::Unrecorded unrecorded;
  Pace pace(impl_->runtime);
  auto note = [&](const Session& session) { Impl::note_unrecorded(session, unrecorded); };
  std::optional<Instance> next = Instance();
  while (next) {
    next = impl_->sessions.visit(*next, visited_at_once, note);
    if (pace.due()) co_await pace.yield();
  }
  // Last: what has ended since it was visited is there with its final numbers.
  for (const auto& [instance, session] : impl_->undrained) note(session);
  Impl::AccountsReader read = [&query](Tx& tx) -> Result<std::vector<User>> { return user_repo::list(tx, query); };
  std::vector<User> out;
  TRY_VOID(co_await impl_->read_accounts(read, std::move(unrecorded), out));
  co_return out;
}

}  // namespace tornado::inline v1
