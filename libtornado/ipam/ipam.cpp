#include "tornado/ipam.hpp"

#include <array>
#include <cassert>
#include <list>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/hashed.hpp"
#include "base/slab.hpp"
#include "base/try.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {
namespace {

enum class SlotState : std::uint8_t { unused, leased, resting, avoided };

struct Rest {
  Owner owner, group;  ///< of the last holder
  Instant freed;
  std::list<std::uint64_t>::iterator queued, in_group;
};

/// What is known about one address.
class Slot {
 public:
  Slot() = default;
  explicit Slot(SlotState state) : bits_(static_cast<std::uint64_t>(state)) {}
  explicit Slot(LeaseId lease) : bits_(lease.number() << 2 | static_cast<std::uint64_t>(SlotState::leased)) {}
  SlotState state() const noexcept { return static_cast<SlotState>(bits_ & 3); }
  /// Of a leased one.
  LeaseId lease() const noexcept { return LeaseId(bits_ >> 2); }

 private:
  std::uint64_t bits_ = 0;
};

/// Slots by the offset of their address. Neighbours are stored together: addresses are given away one after the other.
class SlotTable {
 public:
  Slot at(std::uint64_t offset) const {
    auto page = pages_.find(offset / page_size);
    return page == pages_.end() ? Slot() : page->second[offset % page_size];
  }
  void set(std::uint64_t offset, Slot slot) { pages_[offset / page_size][offset % page_size] = slot; }

 private:
  static constexpr std::uint64_t page_size = 32;
  std::unordered_map<std::uint64_t, std::array<Slot, page_size>> pages_;
};

/// One address family of one lane.
class Range {
 public:
  explicit Range(const Prefix& prefix) : prefix_(prefix) {}

  /// Whether `take` would find an address.
  bool has_for(const Owner& owner, const Owner& group, Instant rested_before) {
    return former(owner) || of_group(group) || unused() ||
           (!queue_.empty() && rests_.at(queue_.front()).freed <= rested_before);
  }

  /// The owner's former address if it is still free, else one of its group, else one nobody ever had, else the one
  /// that has rested longest. Only after `has_for`.
  std::uint64_t take(const Owner& owner, const Owner& group, LeaseId lease) {
    auto offset = former(owner);
    if (!offset) offset = of_group(group);
    if (!offset) offset = unused();
    return claim(offset.value_or(queue_.empty() ? 0 : queue_.front()), lease);
  }

  void take_exactly(std::uint64_t offset, LeaseId lease) { claim(offset, lease); }

  /// Nothing: it is not leased.
  std::optional<LeaseId> leased_at(std::uint64_t offset) const {
    const Slot slot = slots_.at(offset);
    return slot.state() == SlotState::leased ? std::optional(slot.lease()) : std::nullopt;
  }

  void free(std::uint64_t offset, const Owner& last, const Owner& group, Instant now) {
    assert(slots_.at(offset).state() == SlotState::leased);
    --leased_;
    // A journal may know addresses that this pool would not give away: they end with their holder (K-05).
    if (!usable(offset)) {
      slots_.set(offset, Slot());
      return;
    }
    enqueue(offset, queue_.end(), last, group, now);
    last_[last] = offset;
  }

  void shift(const ClockStep& step) {
    for (auto& [offset, rest] : rests_)
      if (!step.is_after(rest.freed)) rest.freed += step.by;
  }

  void rest(std::uint64_t offset, const Owner& last, const Owner& group, Instant freed) {
    if (!usable(offset)) return;
    if (slots_.at(offset).state() != SlotState::unused) return;
    auto at = queue_.end();
    while (at != queue_.begin() && rests_.at(*std::prev(at)).freed > freed) --at;
    enqueue(offset, at, last, group, freed);
    last_[last] = offset;
  }

  void avoid(std::uint64_t offset) {
    if (!usable(offset)) return;
    const SlotState state = slots_.at(offset).state();
    if (state != SlotState::unused && state != SlotState::resting) return;
    if (state == SlotState::resting) dequeue(offset);
    slots_.set(offset, Slot(SlotState::avoided));
    ++avoided_;
  }

  void readmit(std::uint64_t offset, Instant now) {
    if (slots_.at(offset).state() != SlotState::avoided) return;
    --avoided_;
    enqueue(offset, queue_.end(), Owner(), Owner(), now);
  }

  /// Addresses that can be leased at all. One in 256 ends in .1; the first of these is the gateway's.
  std::uint64_t capacity() const {
    std::uint64_t reserved = prefix_.base().is_v4() ? std::max<std::uint64_t>(prefix_.size() / 256, 1) : 1;
    return prefix_.size() - 2 - reserved - avoided_;
  }

  std::uint64_t leased() const noexcept { return leased_; }
  std::uint64_t resting(Instant rested_before) const {
    std::uint64_t count = 0;
    for (auto it = queue_.rbegin(); it != queue_.rend() && rests_.at(*it).freed > rested_before; ++it) ++count;
    return count;
  }

 private:
  std::uint64_t claim(std::uint64_t offset, LeaseId lease) {
    const SlotState state = slots_.at(offset).state();
    assert(state != SlotState::leased);
    if (state == SlotState::avoided) --avoided_;
    if (state == SlotState::resting) {
      auto last = last_.find(rests_.at(offset).owner);
      if (last != last_.end() && last->second == offset) last_.erase(last);
      dequeue(offset);
    }
    slots_.set(offset, Slot(lease));
    ++leased_;
    return offset;
  }

  void enqueue(std::uint64_t offset, std::list<std::uint64_t>::iterator before, const Owner& last, const Owner& group,
               Instant freed) {
    Rest& rest = rests_[offset];
    rest.owner = last;
    rest.group = group;
    rest.freed = freed;
    rest.queued = queue_.insert(before, offset);
    auto& of_group = groups_[group];
    rest.in_group = of_group.insert(of_group.end(), offset);
    slots_.set(offset, Slot(SlotState::resting));
  }

  void dequeue(std::uint64_t offset) {
    auto rest = rests_.find(offset);
    queue_.erase(rest->second.queued);
    auto group = groups_.find(rest->second.group);
    group->second.erase(rest->second.in_group);
    if (group->second.empty()) groups_.erase(group);
    rests_.erase(rest);
  }

  bool usable(std::uint64_t offset) const {
    if (offset < 2 || offset + 1 >= prefix_.size()) return false;
    return !prefix_.base().is_v4() || (prefix_.base().v4() + offset) % 256 != 1;
  }

  std::optional<std::uint64_t> former(const Owner& owner) const {
    auto last = last_.find(owner);
    if (last == last_.end()) return std::nullopt;
    auto rest = rests_.find(last->second);
    bool free = rest != rests_.end() && rest->second.owner == owner;
    return free ? std::optional(last->second) : std::nullopt;
  }

  std::optional<std::uint64_t> of_group(const Owner& group) const {
    auto it = groups_.find(group);
    return it == groups_.end() ? std::nullopt : std::optional(it->second.front());
  }

  /// The next address nobody ever had; it stays the next one until it is claimed.
  std::optional<std::uint64_t> unused() {
    auto known = [this] { return slots_.at(cursor_).state() != SlotState::unused; };
    while (cursor_ < prefix_.size() && (!usable(cursor_) || known())) ++cursor_;
    return cursor_ < prefix_.size() ? std::optional(cursor_) : std::nullopt;
  }

  Prefix prefix_;
  std::uint64_t cursor_ = 2;
  SlotTable slots_;
  std::unordered_map<std::uint64_t, Rest> rests_;               ///< by the offset of the address
  std::unordered_map<Owner, std::uint64_t> last_;               ///< who may have the address back
  std::unordered_map<Owner, std::list<std::uint64_t>> groups_;  ///< resting addresses of each group
  std::list<std::uint64_t> queue_;                              ///< resting, longest-free first
  std::uint64_t leased_ = 0;
  std::uint64_t avoided_ = 0;
};

struct LaneRanges {
  explicit LaneRanges(Pool pool_) : pool(std::move(pool_)), v4(pool.v4) {
    if (pool.v6) v6.emplace(*pool.v6);
  }
  Pool pool;
  Range v4;
  std::optional<Range> v6;
  std::uint64_t dirty = 0;
};

template <class Lanes>
bool distinct(const Lanes& lanes) {
  std::set<Lane> seen(lanes.begin(), lanes.end());
  return seen.size() == lanes.size();
}

std::optional<std::string> impossible(const Pool& pool) {
  if (pool.lane.empty()) return "a pool needs a lane";
  if (!pool.v4.base().is_v4() || pool.v4.length() < 8 || pool.v4.length() > 30)
    return "an IPv4 pool is /8 to /30, not " + pool.v4.str();
  if (pool.v6 && (pool.v6->base().is_v4() || pool.v6->length() < 64 || pool.v6->length() > 126))
    return "an IPv6 pool is /64 to /126, not " + pool.v6->str();
  return std::nullopt;
}

/// A lease and its places in the indexes.
struct Held {
  explicit Held(Lease lease_) : lease(std::move(lease_)) {}
  Lease lease;
  HashedLink by_id, by_owner;
};

struct IdOf {
  using type = LeaseId;
  const LeaseId& operator()(const Held& held) const { return held.lease.id; }
};

struct OwnerOf {
  using type = Owner;
  const Owner& operator()(const Held& held) const { return held.lease.owner; }
};

}  // namespace
}  // namespace tornado::inline v1

template <>
struct std::hash<tornado::LeaseId> {
  /// Numbers follow each other: each has a bucket of its own.
  std::size_t operator()(const tornado::LeaseId& id) const noexcept { return id.number(); }
};

namespace tornado::inline v1 {

struct Ipam::Impl {
  Impl(const Clock& clock_, Seconds quarantine_) : clock(clock_), quarantine(quarantine_) {}
  ~Impl() {
    by_owner.clear([](Held*) {});
    leases.clear([this](Held* held) { slab.give_up(*held); });
  }

  Instant rested_before() const { return clock.now() - quarantine; }

  Lease* at(LeaseId id) const {
    Held* held = leases.find(id);
    return held == nullptr ? nullptr : &held->lease;
  }

  Lease take(Held& held) {
    if (held.lease.expires != Instant()) expiries.erase({held.lease.expires, held.lease.id});
    leases.erase(held);
    by_owner.erase(held);
    Lease lease = std::move(held.lease);
    slab.give_up(held);
    return lease;
  }

  Lease& keep(Lease lease) {
    Held& held = slab.make(std::move(lease));
    leases.insert(held);
    by_owner.insert(held);
    Lease& kept = held.lease;
    if (kept.expires != Instant()) expiries.emplace(kept.expires, kept.id);
    return kept;
  }

  void set_expiry(Lease& lease, Instant expires) {
    if (lease.expires != Instant()) expiries.erase({lease.expires, lease.id});
    lease.expires = expires;
    if (expires != Instant()) expiries.emplace(expires, lease.id);
  }

  bool has_for(LaneRanges& ranges, const Owner& owner, const Owner& group) const {
    return ranges.v4.has_for(owner, group, rested_before()) &&
           (!ranges.v6 || ranges.v6->has_for(owner, group, rested_before()));
  }

  static LaneAddress take(LaneRanges& ranges, const Lease& lease) {
    LaneAddress out(ranges.pool.lane, ranges.pool.v4.at(ranges.v4.take(lease.owner, lease.group, lease.id)));
    if (ranges.v6) out.v6 = ranges.pool.v6->at(ranges.v6->take(lease.owner, lease.group, lease.id));
    return out;
  }

  std::optional<LeaseId> leased(const Address& address) const {
    for (const auto& [lane, ranges] : lanes) {
      if (ranges.pool.v4.contains(address)) return ranges.v4.leased_at(ranges.pool.v4.offset_of(address));
      if (ranges.v6 && ranges.pool.v6->contains(address))
        return ranges.v6->leased_at(ranges.pool.v6->offset_of(address));
    }
    return std::nullopt;
  }

  void free(const Lease& lease, const LaneAddress& address) {
    Instant freed = clock.now();
    auto it = lanes.find(address.lane);
    if (it == lanes.end()) return;
    it->second.v4.free(it->second.pool.v4.offset_of(address.v4), lease.owner, lease.group, freed);
    if (address.v6 && it->second.v6)
      it->second.v6->free(it->second.pool.v6->offset_of(*address.v6), lease.owner, lease.group, freed);
  }

  const Clock& clock;
  Seconds quarantine;
  std::map<Lane, LaneRanges> lanes;
  Slab<Held> slab;
  Hashed<Held, &Held::by_id, IdOf> leases;
  Hashed<Held, &Held::by_owner, OwnerOf> by_owner;
  std::set<std::pair<Instant, LeaseId>> expiries;
  std::uint64_t next_id = 1;
};

Ipam::Ipam(const Clock& clock, Seconds quarantine) : impl_(std::make_unique<Impl>(clock, quarantine)) {}
Ipam::~Ipam() = default;
Ipam::Ipam(Ipam&&) noexcept = default;

Result<void> Ipam::add(Pool pool) {
  if (auto why = impossible(pool)) return Error(errc::invalid_argument, *why);
  for (const auto& [lane, other] : impl_->lanes) {
    if (lane == pool.lane) return Error(errc::already_exists, "lane " + lane.str() + " has a pool");
    bool overlap6 = pool.v6 && other.pool.v6 && pool.v6->overlaps(*other.pool.v6);
    if (pool.v4.overlaps(other.pool.v4) || overlap6)
      return Error(errc::already_exists, "pool of " + pool.lane.str() + " overlaps that of " + lane.str());
  }
  Lane lane = pool.lane;
  impl_->lanes.emplace(lane, LaneRanges(std::move(pool)));
  return {};
}

Result<void> Ipam::remove(const Lane& lane) {
  auto it = impl_->lanes.find(lane);
  if (it == impl_->lanes.end()) return Error(errc::not_found, "no pool for lane " + lane.str());
  if (it->second.v4.leased() > 0) return Error(errc::failed_precondition, "addresses of " + lane.str() + " are leased");
  impl_->lanes.erase(it);
  return {};
}

Result<Lease> Ipam::lease(const Owner& owner, const std::vector<Lane>& wanted, Seconds term, const Owner& of) {
  const Owner& group = of.empty() ? owner : of;
  if (wanted.empty() || owner.empty()) return Error(errc::invalid_argument, "a lease needs an owner and a lane");
  if (!distinct(wanted)) return Error(errc::invalid_argument, "a lane is named twice");
  if (Held* existing = impl_->by_owner.find(owner)) {
    Lease& lease = existing->lease;
    auto covered = [&](const Lane& lane) { return lease.on(lane) != nullptr; };
    if (lease.addresses.size() != wanted.size() || !std::all_of(wanted.begin(), wanted.end(), covered))
      return Error(errc::failed_precondition, "the owner's lease is on other lanes");
    if (lease.expires != Instant()) impl_->set_expiry(lease, impl_->clock.now() + term);
    return lease;
  }
  for (const Lane& lane : wanted) {
    auto ranges = impl_->lanes.find(lane);
    if (ranges == impl_->lanes.end()) return Error(errc::not_found, "no pool for lane " + lane.str());
    if (!impl_->has_for(ranges->second, owner, group))
      return Error(errc::pool_exhausted, "no address is left for lane " + lane.str());
  }

  Lease lease;
  lease.id = LeaseId(impl_->next_id++);
  lease.owner = owner;
  lease.group = group;
  std::vector<LaneAddress> addresses;
  for (const Lane& lane : wanted) addresses.push_back(Impl::take(impl_->lanes.at(lane), lease));
  lease.addresses = std::move(addresses);
  lease.expires = impl_->clock.now() + term;
  return impl_->keep(std::move(lease));
}

Result<Lease> Ipam::extend(LeaseId id, Seconds term) {
  Lease* lease = impl_->at(id);
  if (lease == nullptr) return Error(errc::not_found, "no such lease");
  impl_->set_expiry(*lease, impl_->clock.now() + term);
  return *lease;
}

Result<Lease> Ipam::bind(LeaseId id) {
  Lease* lease = impl_->at(id);
  if (lease == nullptr) return Error(errc::not_found, "no such lease");
  impl_->set_expiry(*lease, Instant());
  return *lease;
}

Result<void> Ipam::release(LeaseId id) {
  Held* held = impl_->leases.find(id);
  if (held == nullptr) return Error(errc::not_found, "no such lease");
  const Lease lease = impl_->take(*held);
  for (const auto& address : lease.addresses) {
    impl_->free(lease, address);
    if (lease.dirty) --impl_->lanes.at(address.lane).dirty;
  }
  return {};
}

Result<void> Ipam::mark_dirty(LeaseId id) {
  Lease* lease = impl_->at(id);
  if (lease == nullptr) return Error(errc::not_found, "no such lease");
  if (lease->dirty) return {};
  lease->dirty = true;
  impl_->set_expiry(*lease, Instant());
  for (const auto& address : lease->addresses) ++impl_->lanes.at(address.lane).dirty;
  return {};
}

Result<void> Ipam::keep_apart(LeaseId id) {
  Lease* lease = impl_->at(id);
  if (lease == nullptr) return Error(errc::not_found, "no such lease");
  lease->group = lease->owner;
  return {};
}

std::vector<Lease> Ipam::lapse() {
  std::vector<Lease> lapsed;
  while (!impl_->expiries.empty() && impl_->expiries.begin()->first <= impl_->clock.now()) {
    const LeaseId id = impl_->expiries.begin()->second;
    lapsed.push_back(*impl_->at(id));
    if (!release(id)) break;
  }
  return lapsed;
}

Result<Lease> Ipam::restore(const Owner& owner, const LaneAddresses& addresses, const Owner& of) {
  const Owner& group = of.empty() ? owner : of;
  if (impl_->by_owner.contains(owner)) return Error(errc::already_exists, "the owner has a lease");
  std::vector<Lane> named;
  for (const auto& address : addresses) named.push_back(address.lane);
  if (!distinct(named)) return Error(errc::invalid_argument, "a lane is named twice");
  for (const auto& address : addresses) {
    auto it = impl_->lanes.find(address.lane);
    bool inside = it != impl_->lanes.end() && it->second.pool.v4.contains(address.v4) &&
                  (!address.v6 || (it->second.v6 && it->second.pool.v6->contains(*address.v6)));
    if (!inside)
      return Error(errc::invalid_argument, address.v4.str() + " is in no pool of lane " + address.lane.str());
    if (impl_->leased(address.v4) || (address.v6 && impl_->leased(*address.v6)))
      return Error(errc::already_exists, address.v4.str() + " is leased to another owner");
  }
  Lease lease;
  lease.id = LeaseId(impl_->next_id++);
  lease.owner = owner;
  lease.group = group;
  lease.addresses = addresses;
  for (const auto& address : addresses) {
    LaneRanges& ranges = impl_->lanes.at(address.lane);
    ranges.v4.take_exactly(ranges.pool.v4.offset_of(address.v4), lease.id);
    if (address.v6) ranges.v6->take_exactly(ranges.pool.v6->offset_of(*address.v6), lease.id);
  }
  return impl_->keep(std::move(lease));
}

Result<void> Ipam::rest(const LaneAddress& address, const Owner& last, Instant freed, const Owner& of) {
  const Owner& group = of.empty() ? last : of;
  auto it = impl_->lanes.find(address.lane);
  if (it == impl_->lanes.end() || !it->second.pool.v4.contains(address.v4))
    return Error(errc::invalid_argument, address.v4.str() + " is in no pool of lane " + address.lane.str());
  it->second.v4.rest(it->second.pool.v4.offset_of(address.v4), last, group, freed);
  if (address.v6 && it->second.v6 && it->second.pool.v6->contains(*address.v6))
    it->second.v6->rest(it->second.pool.v6->offset_of(*address.v6), last, group, freed);
  return {};
}

void Ipam::clock_stepped(const ClockStep& step) {
  for (auto& [lane, ranges] : impl_->lanes) {
    ranges.v4.shift(step);
    if (ranges.v6) ranges.v6->shift(step);
  }
  if (step.by < std::chrono::milliseconds(0)) return;
  std::set<std::pair<Instant, LeaseId>> former;
  former.swap(impl_->expiries);
  for (const auto& [expires, id] : former) {
    Lease& lease = *impl_->at(id);
    lease.expires += step.by;
    impl_->expiries.emplace(lease.expires, id);
  }
}

void Ipam::avoid(const Lane& lane, const Address& address) {
  auto it = impl_->lanes.find(lane);
  if (it == impl_->lanes.end()) return;
  LaneRanges& ranges = it->second;
  if (ranges.pool.v4.contains(address)) ranges.v4.avoid(ranges.pool.v4.offset_of(address));
  if (ranges.v6 && ranges.pool.v6->contains(address)) ranges.v6->avoid(ranges.pool.v6->offset_of(address));
}

void Ipam::readmit(const Lane& lane, const Address& address) {
  auto it = impl_->lanes.find(lane);
  if (it == impl_->lanes.end()) return;
  LaneRanges& ranges = it->second;
  const Instant now = impl_->clock.now();
  if (ranges.pool.v4.contains(address)) ranges.v4.readmit(ranges.pool.v4.offset_of(address), now);
  if (ranges.v6 && ranges.pool.v6->contains(address)) ranges.v6->readmit(ranges.pool.v6->offset_of(address), now);
}

std::optional<Lease> Ipam::find(const Owner& owner) const {
  const Held* held = impl_->by_owner.find(owner);
  return held == nullptr ? std::nullopt : std::optional(held->lease);
}

std::optional<Lease> Ipam::find(const Address& address) const {
  auto id = impl_->leased(address);
  return id ? std::optional(*impl_->at(*id)) : std::nullopt;
}

std::vector<Lease> Ipam::list() const {
  std::vector<Lease> all;
  all.reserve(impl_->leases.size());
  impl_->leases.visit([&](const Held& held) { all.push_back(held.lease); });
  std::sort(all.begin(), all.end(), [](const Lease& a, const Lease& b) { return a.id < b.id; });
  return all;
}

PoolUsage Ipam::usage(const Lane& lane) const {
  PoolUsage usage;
  auto it = impl_->lanes.find(lane);
  if (it == impl_->lanes.end()) return usage;
  usage.size = it->second.v4.capacity();
  usage.leased = it->second.v4.leased();
  usage.resting = it->second.v4.resting(impl_->rested_before());
  usage.dirty = it->second.dirty;
  return usage;
}

std::vector<Pool> Ipam::pools() const {
  std::vector<Pool> all;
  for (const auto& [lane, ranges] : impl_->lanes) all.push_back(ranges.pool);
  return all;
}

}  // namespace tornado::inline v1
