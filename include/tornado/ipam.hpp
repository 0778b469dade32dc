#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

class Clock;

/// The addresses of one lane. `v4` is /8 to /30. With `v6` (/64 to /126) every lease has an address of both families.
class Pool {
 public:
  Pool(Lane lane_, Prefix v4_, std::optional<Prefix> v6_ = std::nullopt) : lane(std::move(lane_)), v4(v4_), v6(v6_) {}
  /// The gateway's own address: the first host of the block.
  Address gateway() const { return v4.at(1); }
  std::optional<Address> gateway6() const { return v6 ? std::optional(v6->at(1)) : std::nullopt; }

  Lane lane;
  Prefix v4;
  std::optional<Prefix> v6;
};

/// Identifies one lease for ever; a number is never used twice by one Ipam.
class LeaseId {
 public:
  LeaseId() = default;
  explicit LeaseId(std::uint64_t number) : number_(number) {}
  std::uint64_t number() const noexcept { return number_; }
  auto operator<=>(const LeaseId&) const = default;
  bool operator==(const LeaseId&) const = default;

 private:
  std::uint64_t number_ = 0;
};

/// The addresses of one owner on a set of lanes until an instant.
class Lease {
 public:
  Lease() {}
  const LaneAddress* on(const Lane& lane) const noexcept {
    for (const auto& address : addresses)
      if (address.lane == lane) return &address;
    return nullptr;
  }

  LeaseId id;
  Owner owner;
  Owner group;  ///< whom the owner belongs to: a user; addresses pass freely within a group
  LaneAddresses addresses;
  Instant expires;     ///< default: never, a session holds it
  bool dirty = false;  ///< removal unconfirmed: the addresses are not reused
};

/// How full a pool is, counted in IPv4 addresses.
class PoolUsage {
 public:
  PoolUsage() {}
  std::uint64_t size = 0;     ///< addresses that can be leased
  std::uint64_t leased = 0;   ///< dirty ones included
  std::uint64_t resting = 0;  ///< freed, in quarantine
  std::uint64_t dirty = 0;
  /// What a new owner could get now.
  std::uint64_t available() const noexcept { return size > leased + resting ? size - leased - resting : 0; }
};

/// Hands out addresses: one lease covers all lanes asked for, or none.
///
/// An owner gets its former addresses back while nobody else has them, and addresses pass at once within a group of
/// owners: the devices of one user. Freed addresses rest for the quarantine before anybody else gets them (I-08), and
/// the one that has been free longest goes first. No address ending in .1, no network and no broadcast address is ever
/// leased (K-05). Every operation takes constant time, amortised, whatever the size of the pool; a pool is never
/// listed. No Boost, no Runtime: one thread at a time.
class TORNADO_API Ipam {
 public:
  explicit Ipam(const Clock& clock, Seconds quarantine = Seconds(900));
  ~Ipam();
  Ipam(Ipam&&) noexcept;

  /// Errors: invalid_argument (impossible prefix), already_exists (the lane is there, or ranges overlap).
  Result<void> add(Pool pool);
  /// Errors: not_found; failed_precondition while something is leased.
  Result<void> remove(const Lane& lane);

  /// The owner's lease, new or extended. Errors: invalid_argument (no lanes), not_found (unknown lane),
  /// pool_exhausted naming the lane; nothing is leased then. failed_precondition: the owner's lease is on other lanes.
  /// Without a group the owner is its own.
  Result<Lease> lease(const Owner& owner, const std::vector<Lane>& lanes, Seconds term, const Owner& group = Owner());
  /// not_found for a stale id.
  Result<Lease> extend(LeaseId id, Seconds term);
  /// Keeps the lease until it is released: a session is bound to it.
  Result<Lease> bind(LeaseId id);
  /// Frees the addresses; quarantine starts. not_found: a stale id, nothing is freed.
  Result<void> release(LeaseId id);
  /// Removal of peers could not be confirmed: never reused until `release` says so (I-06).
  Result<void> mark_dirty(LeaseId id);
  /// Once released, its addresses rest for everybody but their owner, its group included: circuits of its may be left.
  Result<void> keep_apart(LeaseId id);
  /// Releases what has expired and returns it.
  std::vector<Lease> lapse();

  /// At start: an owner's addresses as the journal knows them; the id of the lease is new. already_exists: two owners
  /// claim one address; invalid_argument: outside the pools.
  Result<Lease> restore(const Owner& owner, const LaneAddresses& addresses, const Owner& group = Owner());
  /// At start: an address that rests since `freed`, or the last address of an owner. Leased addresses are left alone.
  Result<void> rest(const LaneAddress& address, const Owner& last, Instant freed, const Owner& group = Owner());
  /// Quarantines keep what is left of them, and no term ends for the step.
  void clock_stepped(const ClockStep& step);
  /// Takes an address out of circulation: a foreign peer uses it. A leased one stays with its owner.
  void avoid(const Lane& lane, const Address& address);
  /// Back into circulation, after the quarantine.
  void readmit(const Lane& lane, const Address& address);

  std::optional<Lease> find(const Owner& owner) const;
  std::optional<Lease> find(const Address& address) const;
  std::vector<Lease> list() const;
  PoolUsage usage(const Lane& lane) const;
  std::vector<Pool> pools() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
