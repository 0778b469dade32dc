#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// How many peers go into one message for the kernel, which executes it while it is sent: so many that it takes no
/// longer than `limit`, and at least one. Begins with one and doubles while there is time to spare.
class ChunkSize {
 public:
  static constexpr std::size_t most = 32;
  /// Two lanes that take turns stay below the 5 ms that nothing on the loop exceeds.
  static constexpr std::chrono::microseconds limit{2000};

  std::size_t get() const noexcept { return size_; }
  /// That many peers were executed in that time. A chunk that was not full says nothing about a larger one.
  void took(std::size_t peers, std::chrono::steady_clock::duration time) noexcept {
    if (peers == 0) return;
    if (time > limit)
      size_ = std::max<std::size_t>(1, peers * limit / time);
    else if (peers >= size_ && time < limit / 2)
      size_ = std::min(size_ * 2, most);
  }

 private:
  std::size_t size_ = 1;
};

/// What the kernel does with a peer; the costs are far apart: to make one it computes an X25519, to remove one it waits
/// for readers on other processors.
enum class PeerAct : std::uint8_t { set, strip, remove };

constexpr std::size_t peer_acts = 3;

inline PeerAct act_of(const Peer& peer) noexcept {
  if (peer.remove) return PeerAct::remove;
  return peer.update_only && peer.allowed.empty() ? PeerAct::strip : PeerAct::set;
}

/// A size for each act. A chunk holds peers of one act only.
class ChunkSizes {
 public:
  ChunkSize& of(PeerAct act) noexcept { return sizes_[static_cast<std::size_t>(act)]; }
  /// How many of the peers from `at` on go into the next chunk.
  std::size_t next(const std::vector<Peer>& peers, std::size_t at) noexcept {
    if (at >= peers.size()) return 0;
    const PeerAct act = act_of(peers[at]);
    const std::size_t end = std::min(peers.size(), at + of(act).get());
    std::size_t last = at + 1;
    while (last < end && act_of(peers[last]) == act) ++last;
    return last - at;
  }

 private:
  std::array<ChunkSize, peer_acts> sizes_;
};

}  // namespace tornado::inline v1
