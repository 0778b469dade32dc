// Accounts and devices that may not connect any more, and their sessions (I-05).
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

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
  if (session.live()) access_doubts.of.insert(session.instance);
}

void Gateway::Impl::doubt_access(const UserId& user) {
  sessions.visit_of(user, [&](const Session& session) { doubt_access(session); });
}

/// In memory: a start asks for the account of every session anyway.
void Gateway::Impl::look_at_doubts() {
  AccessDoubts& doubts = access_doubts;
  const Instant now = runtime.now();
  const bool rests = now < doubts.again && doubts.again - now <= doubts.wait;
  if (doubts.of.empty() || doubts.asking || rests) return;
  doubts.asking = true;
  background.add("settle_access", settle_access());
}

Task<void> Gateway::Impl::settle_access() {
  AccessDoubts& doubts = access_doubts;
  // What comes into doubt from now on is asked for anew.
  const auto instances = std::exchange(doubts.of, {});
  std::vector<DeviceId> devices;
  for (const Instance& instance : instances)
    if (auto session = sessions.find(instance); session && session->live()) devices.push_back(session->device);
  const auto asked = co_await users.recall(std::move(devices));
  Result<void> outcome;
  for (const Instance& instance : instances) {
    Result<void> settled = asked;
    if (asked) settled = co_await close_if_ended(instance);
    if (settled) continue;
    doubts.of.insert(instance);
    outcome = settled;
  }
  doubts.wait = outcome ? Seconds(1) : std::min(doubts.wait * 2, longest_wait);
  doubts.again = runtime.now() + doubts.wait;
  doubts.asking = false;
  co_return outcome;
}

/// By what was recalled of its account.
Task<void> Gateway::Impl::close_if_ended(Instance instance) {
  auto session = sessions.find(instance);
  if (!session || !session->live()) co_return Result<void>();
  auto account = users.last_known(session->device);
  if (account && account->may_connect()) co_return Result<void>();
  auto closed = co_await close_in_gate(instance, CloseReason::revoked);
  if (closed || closed.error().code() == errc::not_found) co_return Result<void>();
  co_return closed.error();
}

}  // namespace tornado::inline v1
