#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// A peer that should be there: one key, one address set per lane.
class WantedPeer {
 public:
  WantedPeer(Owner owner_, PublicKey key_, LaneAddresses addresses_)
      : owner(std::move(owner_)), key(key_), addresses(std::move(addresses_)) {}
  bool operator==(const WantedPeer&) const = default;

  Owner owner;
  PublicKey key;
  LaneAddresses addresses;
  std::optional<Secret> preshared;  ///< 32 raw bytes; nothing: the peer has none, and one it has is taken away
};

/// A peer on one lane that no session of ours owns.
class ForeignPeer {
 public:
  ForeignPeer(Lane lane_, PublicKey key_) : lane(std::move(lane_)), key(key_) {}
  bool operator==(const ForeignPeer&) const = default;

  Lane lane;
  PublicKey key;
  std::vector<Prefix> allowed;
  std::optional<Secret> preshared;
};

/// A foreign peer that is kept on purpose, and since when.
class AdoptedPeer {
 public:
  AdoptedPeer(ForeignPeer peer_, Instant since_, std::string by_)
      : peer(std::move(peer_)), since(since_), by(std::move(by_)) {}
  ForeignPeer peer;
  Instant since;
  std::string by;  ///< an operator's name, or "policy"
};

/// What to do with peers on our interfaces that nobody here wants.
enum class ForeignPeers : std::uint8_t {
  alert,   ///< report them, leave them alone; somebody else may adopt them
  remove,  ///< take them away; more than five and a tenth of the peers at once wait for a person (I-44)
};

/// What reconciling would change, or has changed.
class Difference {
 public:
  Difference() {}
  bool empty() const noexcept { return missing.empty() && surplus.empty() && adopted_missing.empty(); }

  std::vector<WantedPeer> missing;           ///< wanted, and absent or wrong on at least one lane
  std::vector<PublicKey> surplus;            ///< ours once: to be removed, or retired and still with allowed IPs
  std::vector<PublicKey> foreign;            ///< never ours and not adopted, or adopted and not what it was then
  std::vector<ForeignPeer> foreign_on;       ///< the same by lane, as they are
  std::vector<ForeignPeer> adopted_missing;  ///< adopted, and absent: put back as they were
  std::vector<PublicKey> parked;             ///< refused three times by a lane: tried again every hour
  std::vector<PublicKey> refused;            ///< wanted, and still not there after the pass, parked ones included
  std::vector<std::string> interfaces_missing;
};

/// Counters of one peer on one lane.
class PeerSample {
 public:
  PeerSample() {}
  Owner owner;
  PublicKey key;
  Lane lane;
  std::uint64_t received = 0, sent = 0;  ///< as the interface counts now; see I-09 for sums
  Instant handshake;
  std::uint32_t interface = 0;  ///< its index; 0: unknown
  std::optional<Endpoint> endpoint;
};

/// A wanted peer that a lane does not have.
class AbsentPeer {
 public:
  AbsentPeer(Owner owner_, PublicKey key_, Lane lane_) : owner(std::move(owner_)), key(key_), lane(std::move(lane_)) {}
  Owner owner;
  PublicKey key;
  Lane lane;
};

/// Keeps the peers of all lanes equal to what is wanted. Reconciling is the primary operation; `add`, `strip` and
/// `remove` are its fast path.
///
/// A key belongs to one owner from `add` or `want` until every lane has confirmed that it is gone. Loop thread. `add`
/// and `strip` of one owner must not overlap (the gateway's gate per device sees to it); reconciling may overlap
/// anything, it leaves alone what is being changed meanwhile.
class TORNADO_API PeerProgrammer {
 public:
  PeerProgrammer(Runtime& runtime, WireGuard& wireguard, ForeignPeers foreign = ForeignPeers::alert);
  ~PeerProgrammer();

  void add_lane(Lane lane, std::string interface);
  /// Asked before wanted peers that a lane has lost are made anew there, with counters that begin at zero; the peers
  /// are made when the answer has come, whatever it is. The lanes of one peer follow each other.
  void on_absent(std::function<Task<void>(std::vector<AbsentPeer>)> told);
  /// Told when a lane has refused a wanted peer three times in a row, and again after every later try.
  void on_parked(std::function<void(const Lane&, const PublicKey&, const std::string& detail)> told);
  /// Forgets a lane; its interface is left as it is.
  void remove_lane(const Lane& lane);

  /// Programs the peer on all its lanes or on none: after a failure the former state of the owner, its former key
  /// and that key's allowed IPs included, is restored. A former key of the owner loses its allowed IPs to the new one
  /// and is retired: it stays on the interfaces, counting nothing more, until `remove` has read it (I-04, I-09). The
  /// same peer again: the lanes are read, and only what is wrong there is set. Errors: key_in_use (another owner's),
  /// key_invalid (of low order, or an interface's own), invalid_argument (no address, a lane twice), interface_missing
  /// (a lane without interface, or unknown), backend_failed, deadline_exceeded.
  Task<void> add(WantedPeer peer);
  /// Takes the allowed IPs from an owner's peer on every lane and retires its key: no packet passes any more, and the
  /// counters cannot move. Success only if every lane has confirmed. Nothing happens if the key is not that owner's.
  Task<void> strip(Owner owner, PublicKey key);
  /// Removes retired keys from every lane and returns their final counters (lanes without the peer are absent): one
  /// read per lane for the whole list, then one batch of removals. Success only if every lane has confirmed (I-06);
  /// keys that are not retired are left alone. Errors: as `add`; repeating it is safe.
  Task<std::vector<PeerSample>> remove(std::vector<PublicKey> retired);

  /// Sets the whole wanted list and the keys of sessions that are still being closed; touches no interface.
  void want(std::vector<WantedPeer> peers, std::vector<std::pair<Owner, PublicKey>> retired = {});
  /// Keeps a peer that is nobody's as it is described: put back where it is absent, never set where it is there. Its
  /// key is taken from now on (`owner_of`: "adopted"). Described again: the new description holds. key_in_use: a
  /// session has the key.
  Result<void> adopt(ForeignPeer peer);
  /// Adopted no more, on any lane; touches no interface: it is foreign from now on.
  void release(const PublicKey& key);
  /// In order of lane and key.
  std::vector<ForeignPeer> adopted() const;
  /// Foreign peers as they were found when their lane was read the last time, by `reconcile` or `difference`.
  std::vector<ForeignPeer> foreign() const;
  /// Takes a peer that is nobody's from every lane. key_in_use: it is somebody's, adopted ones included; and the errors
  /// of `add`.
  Task<void> evict(PublicKey key);
  std::optional<WantedPeer> wanted(const Owner& owner) const;
  /// Also for keys that are retired or whose removal is not confirmed.
  std::optional<Owner> owner_of(const PublicKey& key) const;
  std::size_t wanted_count() const noexcept;
  /// Whether `add` would take a peer with this key: one of ours, or one that the interfaces have room for. Errors:
  /// pool_exhausted.
  Result<void> room_for(const PublicKey& key) const;
  /// A change failed or its outcome is unknown, and no `reconcile` has put that right since.
  bool dirty() const noexcept;

  /// What `reconcile` would do now. Errors: those of a read, interface_missing apart.
  Task<Difference> difference();
  /// Makes the interfaces equal to the wanted list, in chunks of at most 32 peers; touches no peer that is right.
  /// Returns what it found. A chunk that is refused is driven peer by peer; a wanted peer that a lane refuses is tried
  /// again there after 5 s, after 30 s, and then every hour: it is parked. Every lane is tried before an error is
  /// returned. Errors: as `difference`; backend_failed also for a removal that was refused.
  Task<Difference> reconcile();
  /// How many foreign peers were to be removed by the last `reconcile`, and are held for a person to look. Once held
  /// they stay so until `confirm_removals`, or until none is left.
  std::size_t held_removals() const noexcept;
  /// Until then foreign peers are removed, however many.
  void confirm_removals(Instant until);
  /// The next `reconcile` tries what was refused, parked or not.
  void try_refused();
  /// When the first of what was refused is to be tried again; nothing: nothing was.
  std::optional<Instant> refused_until() const;
  /// Counters of all wanted peers of a lane, by one read. Errors: interface_missing (also an unknown lane) and those of
  /// the read.
  Task<std::vector<PeerSample>> sample(Lane lane);
  /// The counters of a lane as its interface tells them, foreign peers included and allowed IPs left out.
  Task<Interface> counters(Lane lane);
  /// Whether the peer with that key is to be on that lane.
  bool wants(const PublicKey& key, const Lane& lane) const;
  /// Those of the wanted peers of all lanes. Lanes that cannot be read are absent; an error if none can.
  Task<std::vector<PeerSample>> sample();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
