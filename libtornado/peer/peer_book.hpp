#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/hashed.hpp"
#include "base/slab.hpp"
#include "tornado/peer_programmer.hpp"

namespace tornado::inline v1 {

/// What a key of ours is to be on the interfaces.
enum class KeyState : std::uint8_t {
  wanted,   ///< there, with the addresses of its owner's wanted peer
  retired,  ///< there without allowed IPs, until its counters were read
  doomed,   ///< not there; nobody reads it
  adopted,  ///< somebody else's, kept as it is
};

/// A key of ours, or one that was adopted.
class Holding {
 public:
  Holding(Owner owner, const PublicKey& key, KeyState state_) : state(state_), self_(std::move(owner), key, {}) {}
  const Owner& owner() const noexcept { return self_.owner; }
  const PublicKey& key() const noexcept { return self_.key; }
  /// While wanted: what is wanted of it. Else null.
  const WantedPeer* peer() const noexcept { return state == KeyState::wanted ? &self_ : nullptr; }

  KeyState state;
  bool stripped = false;  // retired, and every lane has confirmed that its allowed IPs are gone
  /// Counters read before a removal that was not confirmed everywhere; null: none.
  std::unique_ptr<std::vector<PeerSample>> final;

 private:
  friend class PeerBook;
  WantedPeer self_;  // without addresses unless it is wanted
  HashedLink by_key_, by_owner_;
};

/// Who holds which key, and which keys were touched while the interfaces were being compared. Plain memory.
class PeerBook {
 public:
  using Keys = std::vector<PublicKey>;

  ~PeerBook();

  /// A key belongs to its owner until it is forgotten, whatever its state. Null: nobody's.
  Holding* find(const PublicKey& key);
  const Holding* find(const PublicKey& key) const;
  const WantedPeer* wanted(const Owner& owner) const;
  /// The wanted peer that a key stands for; null for any other state.
  const WantedPeer* wanted(const PublicKey& key) const;
  std::size_t wanted_count() const noexcept { return wanted_.size(); }
  /// Keys in any state: an interface holds at most as many peers of ours.
  std::size_t held_count() const noexcept { return held_.size(); }
  /// Those that are held all the while, and some that come or go meanwhile, in slices of the loop.
  boost::asio::awaitable<Keys> keys(Runtime& runtime) const;

  /// Reserves a key before it is programmed. False: it is another owner's.
  bool reserve(const Owner& owner, const PublicKey& key);
  /// The owner's peer is this one from now on; its former key is retired.
  void want(WantedPeer peer);
  void retire(const PublicKey& key);
  void doom(const PublicKey& key);
  /// False: it is somebody's.
  bool adopt(const PublicKey& key);
  void forget(const PublicKey& key);
  /// Replaces everything wanted; returns the keys that two owners claim (the first one keeps it). Former keys that are
  /// in neither list are doomed, adopted ones stay.
  Keys replace(std::vector<WantedPeer> peers, std::vector<std::pair<Owner, PublicKey>> retired);

 private:
  struct KeyOf {
    using type = PublicKey;
    const PublicKey& operator()(const Holding& holding) const { return holding.key(); }
  };
  struct OwnerOf {
    using type = Owner;
    const Owner& operator()(const Holding& holding) const { return holding.owner(); }
  };
  using Held = Hashed<Holding, &Holding::by_key_, KeyOf>;
  using Wanted = Hashed<Holding, &Holding::by_owner_, OwnerOf>;

  /// The holding of a key; made if there is none.
  std::pair<Holding&, bool> hold(const Owner& owner, const PublicKey& key, KeyState state);
  void set_state(const PublicKey& key, KeyState state);

  Slab<Holding> slab_;
  Held held_;
  Wanted wanted_;
};

/// Keeps a comparison of the interfaces away from keys that change under it: what was busy or was touched since the
/// comparison began is judged by the next one.
class KeyGuard {
 public:
  /// While it lives, an operation works on these keys.
  class Busy {
   public:
    Busy(KeyGuard& guard, std::vector<PublicKey> keys);
    ~Busy();
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    KeyGuard& guard_;
    std::vector<PublicKey> keys_;
  };
  /// While it lives, touched keys are remembered.
  class Pass {
   public:
    explicit Pass(KeyGuard& guard) : guard_(guard) { ++guard_.passes_; }
    ~Pass();
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    KeyGuard& guard_;
  };

  bool off_limits(const PublicKey& key) const { return busy_.contains(key) || touched_.contains(key); }

 private:
  std::unordered_map<PublicKey, int> busy_;
  std::unordered_set<PublicKey> touched_;
  int passes_ = 0;
};

/// Under which adopted keys stand.
inline const Owner adopted_owner{"adopted"};

/// The allowed IPs that an address stands for.
std::vector<Prefix> allowed_of(const LaneAddress& address);
const LaneAddress* address_on(const WantedPeer& peer, const Lane& lane);

}  // namespace tornado::inline v1
