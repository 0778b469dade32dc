#pragma once

#include <algorithm>
#include <memory>
#include <unordered_set>

#include "base/batcher.hpp"
#include "base/key_index.hpp"
#include "base/notifier.hpp"
#include "peer/refusals.hpp"
#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// An interface as it was read, with an index by key. Immutable and shared by those who asked in time.
class Snapshot {
 public:
  const Peer* find(const PublicKey& key) const {
    auto position = index.find(key, [this](std::size_t at) -> const PublicKey& { return interface.peers[at].key; });
    return position ? &interface.peers[*position] : nullptr;
  }
  Interface interface;
  KeyIndex index;
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

/// Gives up a snapshot; if nobody else has it, in slices: each of its peers has memory of its own.
boost::asio::awaitable<void> give_up(Runtime& runtime, SnapshotPtr snapshot);

/// The interface of one lane: reads that are shared, changes in chunks, and whether anything about it is in doubt.
class LaneInterface {
 public:
  static constexpr std::size_t chunk = 32;

  LaneInterface(Runtime& runtime, WireGuard& wireguard, Lane lane, std::string interface);

  const Lane& lane() const noexcept { return lane_; }
  const std::string& interface() const noexcept { return interface_; }
  /// The interface's own key as last read; zero before.
  const PublicKey& own_key() const noexcept { return own_key_; }

  /// A read that began after this call; calls that wait for the same one share it.
  Task<SnapshotPtr> read();
  /// One change of at most `chunk` peers. Any failure marks the lane dirty.
  Task<void> put(std::vector<Peer> peers);
  /// `put` of one peer, together with those that others want at the same time; each has its own result, and a lost
  /// answer is replaced by reading back (I-27, I-28).
  Task<void> confirm(Peer peer);

  /// Grows with every failed change; a comparison that began later and went well clears it.
  std::uint64_t doubt() const noexcept { return doubt_; }
  bool dirty() const noexcept { return doubt_ > cleared_; }
  void clear_doubt(std::uint64_t seen) noexcept { cleared_ = std::max(cleared_, seen); }

  Refusals refusals;
  std::unordered_set<PublicKey> fixed;  // what the last comparison set with success

 private:
  struct Change {
    explicit Change(const Peer& peer_) : peer(peer_) {}
    const Peer& peer;
    Result<void> result;
  };
  boost::asio::awaitable<void> put_together(std::vector<Change*>& batch);
  Task<void> put_one(const Peer& peer);
  Task<SnapshotPtr> lead_read();
  Task<SnapshotPtr> fetch();

  Runtime& runtime_;
  WireGuard& wireguard_;
  Lane lane_;
  std::string interface_;
  PublicKey own_key_;
  bool reading_ = false;
  int waiting_ = 0;
  std::uint64_t begun_ = 0, ended_ = 0;
  Result<SnapshotPtr> last_;
  Notifier read_ended_;
  std::uint64_t doubt_ = 0, cleared_ = 0;
  Batcher<Change> changes_;
};

/// Whether a peer has exactly these allowed IPs, in any order.
bool allows(const Peer& peer, const std::vector<Prefix>& allowed);
/// Whether a peer is what was to be set: allowed IPs and preshared key, which are compared in constant time.
bool is_like(const Peer& found, const Peer& wanted);

}  // namespace tornado::inline v1
