#include "peer/lane_interface.hpp"

#include <algorithm>

#include "base/cancellation.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {

bool allows(const Peer& peer, const std::vector<Prefix>& allowed) {
  return peer.allowed.size() == allowed.size() &&
         std::all_of(allowed.begin(), allowed.end(), [&](const Prefix& prefix) {
           return std::find(peer.allowed.begin(), peer.allowed.end(), prefix) != peer.allowed.end();
         });
}

bool is_like(const Peer& found, const Peer& wanted) {
  if (!allows(found, wanted.allowed)) return false;
  if (!wanted.preshared) return true;
  bool none = *wanted.preshared == no_preshared_key();
  return none ? !found.preshared : found.preshared && *found.preshared == *wanted.preshared;
}

boost::asio::awaitable<void> give_up(Runtime& runtime, SnapshotPtr snapshot) {
  if (snapshot.use_count() != 1) co_return;
  // Nobody else sees it, and it was not made const.
  auto& peers = std::const_pointer_cast<Snapshot>(snapshot)->interface.peers;
  Pace pace(runtime);
  if (peers.size() > 256) co_await pace.yield();
  while (!peers.empty()) {
    peers.resize(peers.size() - std::min<std::size_t>(peers.size(), 256));
    if (pace.due()) co_await pace.yield();
  }
}

LaneInterface::LaneInterface(Runtime& runtime, WireGuard& wireguard, Lane lane, std::string interface)
    : runtime_(runtime),
      wireguard_(wireguard),
      lane_(std::move(lane)),
      interface_(std::move(interface)),
      read_ended_(runtime),
      changes_(runtime, chunk) {}

Task<SnapshotPtr> LaneInterface::fetch() {
  TRY(auto interface, co_await wireguard_.get(interface_));
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->interface = std::move(interface);
  own_key_ = snapshot->interface.public_key;
  const auto& peers = snapshot->interface.peers;
  snapshot->index.reserve(peers.size());
  Pace pace(runtime_);
  for (std::size_t i = 0; i < peers.size(); ++i) {
    snapshot->index.insert(peers[i].key, i);
    if (i % 256 == 0 && pace.due()) co_await pace.yield();
  }
  if (peers.size() > 256) co_await pace.yield();
  co_return SnapshotPtr(std::move(snapshot));
}

Task<SnapshotPtr> LaneInterface::read() {
  const std::uint64_t wanted = begun_ + 1;
  while (ended_ < wanted) {
    if (!reading_) co_return co_await lead_read();
    ++waiting_;
    bool woken = co_await read_ended_.wait(read_ended_.revision());
    --waiting_;
    if (!woken) co_return Error(errc::cancelled);
  }
  auto shared = last_;
  if (waiting_ == 0) last_ = SnapshotPtr();
  co_return shared;
}

Task<SnapshotPtr> LaneInterface::lead_read() {
  reading_ = true;
  const std::uint64_t mine = ++begun_;
  auto snapshot = co_await fetch();
  reading_ = false;
  // A cancelled read is ours alone: another waiter begins anew.
  if (snapshot || snapshot.error().code() != errc::cancelled) {
    ended_ = mine;
    if (waiting_ > 0) last_ = snapshot;
  }
  read_ended_.notify();
  co_return snapshot;
}

Task<void> LaneInterface::put(std::vector<Peer> peers) {
  InterfaceChange change(interface_);
  change.peers = std::move(peers);
  auto done = co_await wireguard_.set(std::move(change));
  if (!done) ++doubt_;
  co_return done;
}

Task<void> LaneInterface::put_one(const Peer& peer) {
  std::vector<Peer> one{peer};
  co_return co_await put(std::move(one));
}

boost::asio::awaitable<void> LaneInterface::put_together(std::vector<Change*>& batch) {
  std::vector<Peer> peers;
  for (const Change* change : batch) peers.push_back(change->peer);
  auto done = co_await put(std::move(peers));
  const bool alone = batch.size() == 1;
  for (Change* change : batch) {
    bool apart = !alone && !done && done.error().code() == errc::backend_failed;
    change->result = done;
    if (!apart) continue;
    change->result = co_await put_one(change->peer);
    // Whoever does not answer one does not answer the others either.
    bool refused = !change->result && change->result.error().code() == errc::backend_failed;
    if (!change->result && !refused) done = change->result;
  }
}

Task<void> LaneInterface::confirm(Peer peer) {
  Change self(peer);
  auto run = [this](std::vector<Change*>& batch) { return put_together(batch); };
  co_await changes_.join(self, run);
  // The one that led was cancelled, not this.
  bool cancelled = co_await is_cancelled();
  bool again = !self.result && self.result.error().code() == errc::cancelled && !cancelled;
  if (again) self.result = co_await put_one(peer);
  auto done = self.result;
  bool unknown =
      !done && (done.error().code() == errc::deadline_exceeded || done.error().code() == errc::protocol_error);
  if (!unknown) co_return done;
  auto snapshot = co_await read();
  if (!snapshot) co_return done;
  const Peer* found = (*snapshot)->find(peer.key);
  bool absent_is_good = peer.remove || peer.update_only;
  bool good = found == nullptr ? absent_is_good : !peer.remove && is_like(*found, peer);
  if (good) co_return Result<void>();
  co_return done;
}

}  // namespace tornado::inline v1
