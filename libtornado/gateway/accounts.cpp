// Accounts with what they have moved by now: the history's totals, and the sessions that are not in it.
#include "base/pace.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {

std::optional<std::uint64_t> Gateway::Impl::settled_drains() const {
  return draining > 0 ? std::nullopt : std::optional(drains);
}

void Gateway::Impl::note_unrecorded(const UserId& user, Unrecorded& out) const {
  sessions.visit_of(user, [&](const Session& session) {
    Moved& moved = out[user][session.instance];
    moved.received = session.received;
    moved.sent = session.sent;
  });
}

void Gateway::Impl::note_ended(Unrecorded& out) const {
  for (const auto& [instance, session] : undrained) {
    auto of_user = out.find(session.user);
    if (of_user == out.end()) continue;
    Moved& moved = of_user->second[instance];
    moved.received = session.received;
    moved.sent = session.sent;
    moved.ended = true;
  }
}

/// What has ended may be on record already: that is asked in the transaction that reads the totals, which those are in.
/// What lives cannot be, unless something was drained since it was noted.
Task<void> Gateway::Impl::read_accounts(const AccountsReader& read, Unrecorded unrecorded,
                                        std::optional<std::uint64_t> since, std::vector<User>& out) {
  Unrecorded left;
  bool all = !since || settled_drains() != since;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(out, read(tx));
    left.clear();
    for (const User& user : out) {
      auto sessions_of = unrecorded.find(user.id);
      if (sessions_of == unrecorded.end()) continue;
      for (const auto& [instance, moved] : sessions_of->second) {
        bool recorded = false;
        if (all || moved.ended) {
          TRY_PLAIN(recorded, history_repo::has(tx, instance));
        }
        if (!recorded) left[user.id][instance] = moved;
      }
    }
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  if (!all && settled_drains() != since) {
    all = true;
    TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  }
  for (User& user : out)
    for (const auto& [instance, moved] : left[user.id]) {
      ++user.total_sessions;
      user.total_received += moved.received;
      user.total_sent += moved.sent;
    }
  co_return Result<void>();
}

Task<User> Gateway::Impl::account(UserId id) {
  const auto since = settled_drains();
  Unrecorded unrecorded{{id, {}}};
  note_unrecorded(id, unrecorded);
  note_ended(unrecorded);
  AccountsReader read = [&id](Tx& tx) -> Result<std::vector<User>> {
    TRY_PLAIN(auto user, user_repo::get(tx, id));
    return std::vector<User>(1, std::move(user));
  };
  std::vector<User> out;
  TRY_VOID(co_await read_accounts(read, std::move(unrecorded), since, out));
  co_return std::move(out.front());
}

Task<User> Gateway::account(UserId user) {
  return impl_->account(std::move(user));
}

/// Read twice: the sessions of those who are on the page are known once it is.
Task<std::vector<User>> Gateway::accounts(UserQuery query) {
  TRY(auto page, co_await impl_->users.list(query));
  const auto since = impl_->settled_drains();
  Impl::Unrecorded unrecorded;
  Pace pace(impl_->runtime);
  for (const User& user : page) {
    if (pace.due()) co_await pace.yield();
    unrecorded.try_emplace(user.id);
    impl_->note_unrecorded(user.id, unrecorded);
  }
  impl_->note_ended(unrecorded);
  Impl::AccountsReader read = [&query](Tx& tx) -> Result<std::vector<User>> { return user_repo::list(tx, query); };
  std::vector<User> out;
  TRY_VOID(co_await impl_->read_accounts(read, std::move(unrecorded), since, out));
  co_return out;
}

}  // namespace tornado::inline v1
