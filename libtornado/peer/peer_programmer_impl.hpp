#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "peer/lane_interface.hpp"
#include "peer/peer_book.hpp"
#include "tornado/peer_programmer.hpp"

namespace tornado::inline v1 {

using LanePtr = std::shared_ptr<LaneInterface>;

/// The insides of PeerProgrammer, shared by the operations on one owner and by reconciling.
struct PeerWork {
  PeerWork(Runtime& runtime_, WireGuard& wireguard_, ForeignPeers foreign_)
      : runtime(runtime_), wireguard(wireguard_), foreign(foreign_), pass_ended(runtime_) {}

  LanePtr lane(const Lane& name) const;
  std::vector<LanePtr> all_lanes() const;
  /// Null: that key is not adopted there.
  const ForeignPeer* adopted_on(const PublicKey& key, const Lane& lane) const;

  Result<void> check(const WantedPeer& peer) const;
  /// Tells of lanes that have lost the peer, and sets it where it is missing or wrong.
  Task<void> bring_back(const WantedPeer& peer);
  Task<void> tell_absent(std::vector<AbsentPeer> absent);
  Task<void> bring_up(const WantedPeer& peer, std::size_t& tried);
  Task<void> put_back(const WantedPeer& failed, KeyState state, std::optional<WantedPeer> former, std::size_t tried);
  boost::asio::awaitable<void> take_back(WantedPeer former, WantedPeer now);

  Task<void> collect(LanePtr lane, std::vector<PublicKey>& keys);
  Task<void> collect_all(std::vector<PublicKey>& keys);
  Task<void> remove_from(LanePtr lane, std::vector<PublicKey>& keys);

  /// It is wanted anew: no lane waits with it.
  void settle_refusals(const PublicKey& key);

  void log_lane(LogLevel level, std::string_view id, const LaneInterface& lane, const Error& error);

  Runtime& runtime;
  WireGuard& wireguard;
  ForeignPeers foreign;
  PeerBook book;
  KeyGuard guard;
  std::map<Lane, LanePtr> lanes;
  std::function<Task<void>(std::vector<AbsentPeer>)> absent_told;
  std::function<void(const Lane&, const PublicKey&, const std::string&)> parked_told;
  std::map<std::pair<PublicKey, Lane>, ForeignPeer> adopted;
  std::map<Lane, std::vector<ForeignPeer>> foreign_found;  // where a lane was read last
  std::unordered_set<PublicKey> reported;                  // foreign keys that were logged
  std::size_t removals_held = 0;
  Instant removals_confirmed_until;
  bool pass_running = false;
  Notifier pass_ended;
};

struct PeerProgrammer::Impl : PeerWork {
  using PeerWork::PeerWork;
};

/// A wanted peer on the lane of an address, and an adopted one, as they are to be set.
Peer programmed(const WantedPeer& peer, const LaneAddress& address);
Peer programmed(const ForeignPeer& peer);
/// Whether it is there as it would be set; preshared keys are compared in constant time.
bool is_right(const Peer& found, const WantedPeer& peer, const LaneAddress& address);
/// The peer that removes a key, or that takes its allowed IPs without making it.
Peer removal(const PublicKey& key);
Peer stripped(const PublicKey& key);

}  // namespace tornado::inline v1
