// Accounts and devices that may not connect any more, and their sessions (I-05).
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_settling_at_once = 64;
constexpr Seconds longest_wait{30};

}  // namespace

Task<User> Gateway::Impl::change_user(UserId user, UserChanges changes) {
  const bool renamed = changes.username.has_value();
  TRY(auto changed, co_await users.update(user, std::move(changes)));
  // The account is changed; a firewall that refuses its rights now gets them with the next pass.
  if (renamed) (void)co_await set_rights(access.rename(changed, used(user)), {});
  co_return changed;
}

Task<Revocation> Gateway::Impl::end_access(UserId user, Task<User> change) {
  Cutting cutting;
  // Counted before: the change ends them.
  auto devices = co_await users.devices(user);
  auto made = co_await std::move(change);
  if (!made) {
    // It may be made all the same, or have been made before by somebody who could not close the sessions.
    doubt_access(user);
    co_return made.error();
  }
  cutting.made.user = std::move(*made);
  if (devices) cutting.made.sign_ins = devices->size();
  auto closed = co_await close_all_of(user, CloseReason::revoked, cutting);
  if (!closed) {
    doubt_access(user);
    co_return closed.error();
  }
  // With what its sessions came to; the change is made, whether this can be read or not.
  auto now = co_await account(user);
  if (now) cutting.made.user = std::move(*now);
  co_return cutting.take();
}

Task<Revocation> Gateway::Impl::end_device(DeviceId id) {
  Cutting cutting;
  auto revoked = co_await users.revoke(id);
  auto session = sessions.find(id);
  if (!revoked) {
    if (session) doubt_access(*session);
    co_return revoked.error();
  }
  cutting.made.device = std::move(*revoked);
  cutting.made.sign_ins = 1;
  if (!session) co_return cutting.take();
  auto closed = co_await close_in_gate(session->instance, CloseReason::revoked, &cutting);
  if (closed) co_return cutting.take();
  doubt_access(*session);
  co_return closed.error();
}

Task<void> Gateway::Impl::close_all_of(UserId user, CloseReason reason, Cutting& cutting) {
  // First no packet of any of them passes; then the rest of each, which takes longer.
  const auto all = sessions.of(user);
  TaskGroup stripping(runtime);
  for (const auto& session : all) stripping.add("strip", strip_in_gate(session.instance, reason));
  co_await stripping.settled(1);
  if (stripping.size() > 0) {
    co_await stripping.stop_all();
    co_return Error(errc::cancelled);
  }
  if (!all.empty()) cutting.made.cut.stopped = cutting.elapsed();
  Result<void> outcome;
  for (const auto& session : all) {
    auto done = co_await close_in_gate(session.instance, reason, &cutting);
    if (!done && done.error().code() != errc::not_found) outcome = done.error();
  }
  co_return outcome;
}

void Gateway::Impl::doubt_access(const Session& session) {
  // One that is ending is seen to until it has ended.
  if (session.live()) access_doubts.insert_or_assign(session.instance, AccessDoubt());
}

void Gateway::Impl::doubt_access(const UserId& user) {
  sessions.visit_of(user, [&](const Session& session) { doubt_access(session); });
}

/// In memory: a start asks for the account of every session anyway.
boost::asio::awaitable<void> Gateway::Impl::retry_access() {
  const Instant now = runtime.now();
  std::vector<Instance> due;
  for (auto& [instance, doubt] : access_doubts) {
    if (now < doubt.again && doubt.again - now <= doubt.wait) continue;
    doubt.again = now + doubt.wait;
    doubt.wait = std::min(doubt.wait * 2, longest_wait);
    due.push_back(instance);
  }
  for (const Instance& instance : due) {
    co_await background.settled(most_settling_at_once);
    background.add("settle_access", settle_access(instance));
  }
}

Task<void> Gateway::Impl::settle_access(Instance instance) {
  auto session = sessions.find(instance);
  if (session && session->live()) {
    auto account = co_await users.account(session->device);
    if (!account && account.error().code() != errc::not_found) co_return account.error();
    if (!account || !account->may_connect()) {
      auto closed = co_await close_in_gate(instance, CloseReason::revoked);
      if (!closed && closed.error().code() != errc::not_found) co_return closed.error();
    }
  }
  access_doubts.erase(instance);
  co_return Result<void>();
}

}  // namespace tornado::inline v1
