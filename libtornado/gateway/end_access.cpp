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
  auto changed = co_await users.update(user, std::move(changes));
  // It may have another name all the same.
  if (!changed && renamed) doubt_access(user);
  // The account is changed; a firewall that refuses its rights now gets them with the next pass.
  if (changed && renamed) (void)co_await rename(user, changed->username);
  co_return changed;
}

Task<void> Gateway::Impl::rename(const UserId& user, const std::string& username) {
  if (access.name_of(user) == username) co_return Result<void>();
  co_return co_await set_rights(access.rename(user, username, used(user)), {});
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
  if (!revoked) {
    doubt_access(id);
    co_return revoked.error();
  }
  cutting.made.device = std::move(*revoked);
  cutting.made.sign_ins = 1;
  TRY_VOID(co_await close_ended(id, &cutting));
  co_return cutting.take();
}

/// Of a device that may not connect any more. Inside the gate: what an initiate there fails to replace comes back.
Task<void> Gateway::Impl::close_ended(DeviceId device, Cutting* cutting) {
  auto closed = co_await close_live(device, cutting);
  if (!closed) doubt_access(device);
  co_return closed;
}

Task<void> Gateway::Impl::close_live(DeviceId device, Cutting* cutting) {
  TRY(auto pass, co_await gates.enter(device));
  while (auto session = sessions.find(device)) {
    auto finished = co_await finish(session->instance, CloseReason::revoked, cutting);
    if (!finished) closing.notify();
    if (!finished && finished.error().code() != errc::not_found) co_return finished.error();
  }
  co_return Result<void>();
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

void Gateway::Impl::doubt_access(const DeviceId& device) {
  access_doubts.of.insert(device);
}

void Gateway::Impl::doubt_access(const UserId& user) {
  sessions.visit_of(user, [&](const Session& session) { doubt_access(session.device); });
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
  const auto devices = std::exchange(doubts.of, {});
  std::vector<DeviceId> all(devices.begin(), devices.end());
  auto ended = co_await users.recall(std::move(all));
  Result<void> outcome;
  if (ended) {
    for (const DeviceId& device : *ended) {
      auto closed = co_await close_ended(device);
      if (!closed) outcome = closed;
    }
    for (const DeviceId& device : devices) {
      auto account = users.last_known(device);
      // Forgotten since, because it was changed.
      if (!account && sessions.find(device)) doubt_access(device);
      if (!account || !account->may_connect()) continue;
      const std::string username = account->username.str();
      (void)co_await rename(account->user, username);
    }
  } else {
    doubts.of.insert(devices.begin(), devices.end());
    outcome = ended.error();
  }
  doubts.wait = outcome ? Seconds(1) : std::min(doubts.wait * 2, longest_wait);
  doubts.again = runtime.now() + doubts.wait;
  doubts.asking = false;
  co_return outcome;
}

}  // namespace tornado::inline v1
