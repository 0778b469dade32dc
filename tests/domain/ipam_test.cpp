#include "tornado/ipam.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

const Lane vpn("vpn"), tor("tor");
constexpr Seconds quarantine{900};

Owner owner(int number) {
  return Owner("device-" + std::to_string(number));
}
Owner group_of(int number) {
  return Owner("user-" + std::to_string(number / 2));
}
Address v4(const std::string& text) {
  return Address::parse(text).value();
}

/// What may be leased at all, told by listing (K-05).
std::vector<Address> usable(const Prefix& prefix) {
  std::vector<Address> out;
  for (std::uint64_t offset = 2; offset + 1 < prefix.size(); ++offset) {
    Address address = prefix.at(offset);
    if (!address.is_v4() || address.v4() % 256 != 1) out.push_back(address);
  }
  return out;
}

/// The rules of the header over plain maps, one address at a time.
class Model {
 public:
  struct Entry {
    enum class State { leased, resting, avoided } state;
    Owner owner, group;
    Instant freed;
  };

  explicit Model(std::vector<Pool> pools) : pools_(std::move(pools)) {}

  bool available(const Address& address, const Owner& group, Instant now) const {
    auto it = entries.find(address);
    if (it == entries.end()) return true;
    const Entry& e = it->second;
    return e.state == Entry::State::resting && (e.group == group || e.freed + quarantine <= now);
  }
  bool any_available(const Prefix& prefix, const Owner& group, Instant now) const {
    auto all = usable(prefix);
    return std::any_of(all.begin(), all.end(), [&](const Address& a) { return available(a, group, now); });
  }
  bool can_lease(const std::vector<Lane>& lanes, const Owner& group, Instant now) const {
    for (const Pool& pool : pools_) {
      if (std::find(lanes.begin(), lanes.end(), pool.lane) == lanes.end()) continue;
      if (!any_available(pool.v4, group, now) || (pool.v6 && !any_available(*pool.v6, group, now))) return false;
    }
    return true;
  }
  PoolUsage usage(const Pool& pool, Instant now) const {
    PoolUsage out;
    for (const Address& address : usable(pool.v4)) {
      auto it = entries.find(address);
      bool avoided = it != entries.end() && it->second.state == Entry::State::avoided;
      out.size += avoided ? 0 : 1;
      if (it == entries.end() || avoided) continue;
      out.leased += it->second.state == Entry::State::leased ? 1 : 0;
      bool rests = it->second.state == Entry::State::resting && it->second.freed + quarantine > now;
      out.resting += rests ? 1 : 0;
    }
    return out;
  }
  void leased(const Lease& lease) {
    for (const Address& address : all_of(lease))
      entries[address] = Entry{Entry::State::leased, lease.owner, lease.group, Instant()};
  }
  void freed(const Lease& lease, Instant now) {
    for (const Address& address : all_of(lease))
      entries[address] = Entry{Entry::State::resting, lease.owner, lease.group, now};
  }
  static std::vector<Address> all_of(const Lease& lease) {
    std::vector<Address> out;
    for (const auto& on : lease.addresses) {
      out.push_back(on.v4);
      if (on.v6) out.push_back(*on.v6);
    }
    return out;
  }

  std::map<Address, Entry> entries;
  const std::vector<Pool>& pools() const { return pools_; }

 private:
  std::vector<Pool> pools_;
};

/// Random steps on an Ipam and on the model at once.
class Walk {
 public:
  explicit Walk(unsigned seed)
      : random_(seed),
        model_({Pool(vpn, Prefix("10.8.0.16/28"), Prefix("fd00::/124")), Pool(tor, Prefix("10.9.0.0/29"))}) {
    restart();
  }

  void step() {
    switch (pick(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return lease();
      case 4:
      case 5:
        return release();
      case 6:
        return keep();
      case 7:
        return lapse();
      case 8:
        return clock_.advance(Seconds(pick(400)));
      case 9:
        return avoid();
      case 10:
        return pick(10) == 0 ? restart() : lapse();
      default:
        return lease();
    }
  }

  void compare() {
    std::set<Address> held;
    for (const Lease& lease : ipam_->list())
      for (const Address& address : Model::all_of(lease)) {
        ASSERT_TRUE(held.insert(address).second) << address.str() << " has two holders";
        ASSERT_EQ(ipam_->find(address)->owner, lease.owner);
      }
    for (const auto& [address, entry] : model_.entries)
      ASSERT_EQ(held.contains(address), entry.state == Model::Entry::State::leased) << address.str();
    for (const Pool& pool : model_.pools()) {
      PoolUsage expected = model_.usage(pool, clock_.now()), told = ipam_->usage(pool.lane);
      ASSERT_EQ(told.size, expected.size);
      ASSERT_EQ(told.leased, expected.leased);
      ASSERT_EQ(told.resting, expected.resting);
    }
  }

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  void lease() {
    int who = pick(24);
    std::vector<Lane> lanes(1, vpn);
    if (pick(2) == 0) lanes.push_back(tor);
    bool had = ipam_->find(owner(who)).has_value();
    bool possible = model_.can_lease(lanes, group_of(who), clock_.now());
    auto before = ipam_->list().size();
    auto got = ipam_->lease(owner(who), lanes, Seconds(60), group_of(who));
    if (had) {
      ASSERT_EQ(ipam_->list().size(), before);
      return;
    }
    ASSERT_EQ(got.has_value(), possible);
    if (!got) {
      ASSERT_EQ(got.error().code(), errc::pool_exhausted);
      return;
    }
    for (const Address& address : Model::all_of(*got)) {
      ASSERT_TRUE(model_.available(address, group_of(who), clock_.now())) << address.str() << " was not free";
      ASSERT_TRUE(!address.is_v4() || address.v4() % 256 != 1) << "K-05";
    }
    model_.leased(*got);
  }
  std::optional<Lease> any() {
    auto all = ipam_->list();
    if (all.empty()) return std::nullopt;
    return all[static_cast<std::size_t>(pick(static_cast<int>(all.size())))];
  }
  void release() {
    auto lease = any();
    if (!lease) return;
    ASSERT_TRUE(ipam_->release(lease->id));
    ASSERT_EQ(ipam_->release(lease->id).error().code(), errc::not_found) << "a stale id";
    ASSERT_FALSE(ipam_->extend(lease->id, Seconds(1)));
    model_.freed(*lease, clock_.now());
  }
  void keep() {
    auto lease = any();
    if (!lease) return;
    int what = pick(4);
    if (what == 0) {
      ASSERT_TRUE(ipam_->mark_dirty(lease->id));
    }
    if (what == 1) {
      ASSERT_TRUE(ipam_->extend(lease->id, Seconds(pick(300))));
    }
    if (what >= 2) {
      ASSERT_TRUE(ipam_->bind(lease->id));
    }
  }
  void lapse() {
    for (const Lease& lease : ipam_->lapse()) {
      ASSERT_NE(lease.expires, Instant());
      ASSERT_LE(lease.expires, clock_.now());
      model_.freed(lease, clock_.now());
    }
  }
  void avoid() {
    if (pick(20) != 0) return;
    auto all = usable(model_.pools()[0].v4);
    Address address = all[static_cast<std::size_t>(pick(static_cast<int>(all.size())))];
    ipam_->avoid(vpn, address);
    auto it = model_.entries.find(address);
    if (it == model_.entries.end() || it->second.state == Model::Entry::State::resting)
      model_.entries[address] = Model::Entry{Model::Entry::State::avoided, Owner(), Owner(), Instant()};
  }

  /// A crash: bound leases and resting addresses come back from the journal, everything else is lost by design (I-02).
  void restart() {
    auto before = ipam_ ? ipam_->list() : std::vector<Lease>();
    auto known = std::exchange(model_.entries, {});
    ipam_ = std::make_unique<Ipam>(clock_, quarantine);
    for (const Pool& pool : model_.pools()) ASSERT_TRUE(ipam_->add(pool));
    for (const Lease& lease : before) {
      if (lease.expires != Instant()) continue;
      auto restored = ipam_->restore(lease.owner, lease.addresses, lease.group);
      ASSERT_TRUE(restored);
      ASSERT_FALSE(ipam_->restore(lease.owner, lease.addresses, lease.group));
      ASSERT_EQ(ipam_->restore(Owner("other"), lease.addresses).error().code(), errc::already_exists);
      model_.leased(*restored);
    }
    for (const auto& [address, entry] : known) {
      if (entry.state != Model::Entry::State::resting) continue;
      const Pool& pool =
          !address.is_v4() || model_.pools()[0].v4.contains(address) ? model_.pools()[0] : model_.pools()[1];
      LaneAddress on(pool.lane, address.is_v4() ? address : pool.gateway());
      if (!address.is_v4()) on.v6 = address;
      ASSERT_TRUE(ipam_->rest(on, entry.owner, entry.freed, entry.group));
      model_.entries[address] = entry;
    }
  }

  std::mt19937 random_;
  ManualClock clock_;
  Model model_;
  std::unique_ptr<Ipam> ipam_;
};

Ipam with(const Clock& clock, const std::string& pool) {
  Ipam ipam(clock, quarantine);
  EXPECT_TRUE(ipam.add(Pool(vpn, Prefix(pool))));
  return ipam;
}
std::string address_of(const Result<Lease>& lease) {
  return lease ? lease->addresses[0].v4.str() : std::string(name(lease.error().code()));
}
std::string take(Ipam& ipam, int who) {
  return address_of(ipam.lease(owner(who), {vpn}, Seconds(60), group_of(who)));
}

}  // namespace

// Whatever happens in whatever order, the rules of the header hold.
TEST(IpamModel, RandomWalksAgreeWithThePlainRules) {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Walk walk(seed);
    for (int i = 0; i < 1500; ++i) {
      SCOPED_TRACE(i);
      walk.step();
      walk.compare();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(Ipam, CapacityIsWhatCanBeLeased) {
  ManualClock clock;
  std::vector<std::string> pools = {"10.8.0.0/22", "10.8.2.0/23"};
  for (int length = 24; length <= 30; ++length)
    for (int base = 0; base < 256; base += std::max(1 << (32 - length), 64))
      pools.push_back("10.8.0." + std::to_string(base) + "/" + std::to_string(length));
  for (const auto& pool : pools) {
    SCOPED_TRACE(pool);
    Ipam ipam = with(clock, pool);
    std::uint64_t told = ipam.usage(vpn).size;
    EXPECT_EQ(told, usable(Prefix(pool)).size());
    std::set<std::string> got;
    for (std::uint64_t i = 0; i < told; ++i) {
      std::string address = take(ipam, static_cast<int>(2 * i));
      EXPECT_TRUE(got.insert(address).second && Prefix(pool).contains(v4(address))) << address;
      EXPECT_FALSE(address.ends_with(".1")) << "K-05";
    }
    EXPECT_FALSE(got.contains(Prefix(pool).base().str()));
    EXPECT_FALSE(got.contains(Pool(vpn, Prefix(pool)).gateway().str()));
    EXPECT_EQ(ipam.usage(vpn).available(), 0U);
    EXPECT_EQ(take(ipam, 99999), "pool_exhausted");
  }
}

TEST(Ipam, ExhaustionOfOneLaneLeavesNoTraceOnTheOther) {
  ManualClock clock;
  Ipam ipam(clock, quarantine);
  ASSERT_TRUE(ipam.add(Pool(vpn, Prefix("10.8.0.0/24"))));
  ASSERT_TRUE(ipam.add(Pool(tor, Prefix("10.9.0.0/30"))));
  ASSERT_TRUE(ipam.lease(owner(0), {vpn, tor}, Seconds(60)));
  auto refused = ipam.lease(owner(2), {vpn, tor}, Seconds(60));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), errc::pool_exhausted);
  EXPECT_NE(refused.error().detail().find("tor"), std::string::npos);
  EXPECT_EQ(ipam.usage(vpn).leased, 1U);
  EXPECT_EQ(ipam.usage(vpn).resting, 0U);
  EXPECT_FALSE(ipam.find(owner(2)));
  EXPECT_EQ(ipam.lease(owner(4), {vpn}, Seconds(60)).value().addresses[0].v4.str(), "10.8.0.3");
}

TEST(Ipam, QuarantineSeparatesUsersOnly) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  EXPECT_EQ(take(ipam, 0), "10.8.0.2");
  ASSERT_TRUE(ipam.release(ipam.find(owner(0))->id));
  EXPECT_EQ(take(ipam, 2), "pool_exhausted") << "another user waits (I-08)";
  EXPECT_EQ(take(ipam, 1), "10.8.0.2") << "another device of the same user does not";
  ASSERT_TRUE(ipam.release(ipam.find(owner(1))->id));
  clock.advance(quarantine - std::chrono::milliseconds(1));
  EXPECT_EQ(take(ipam, 2), "pool_exhausted");
  clock.advance(std::chrono::milliseconds(1));
  EXPECT_EQ(take(ipam, 2), "10.8.0.2");
}

// I-06: never reused until the removal is confirmed.
TEST(Ipam, WhatIsKeptApartRestsForTheGroupToo) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  EXPECT_EQ(take(ipam, 0), "10.8.0.2");
  const LeaseId id = ipam.find(owner(0))->id;
  ASSERT_TRUE(ipam.keep_apart(id));
  ASSERT_TRUE(ipam.release(id));
  EXPECT_EQ(ipam.keep_apart(id).error().code(), errc::not_found);
  EXPECT_EQ(take(ipam, 1), "pool_exhausted") << "another device of the same user waits (I-06)";
  EXPECT_EQ(take(ipam, 0), "10.8.0.2") << "its own former holder does not";
  ASSERT_TRUE(ipam.release(ipam.find(owner(0))->id));
  EXPECT_EQ(take(ipam, 1), "10.8.0.2") << "this time nothing is left";
}

TEST(Ipam, DirtyLeasesStay) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  take(ipam, 0);
  LeaseId id = ipam.find(owner(0))->id;
  ASSERT_TRUE(ipam.mark_dirty(id));
  ASSERT_TRUE(ipam.mark_dirty(id));
  clock.advance(Seconds(100'000));
  EXPECT_TRUE(ipam.lapse().empty());
  EXPECT_EQ(ipam.usage(vpn).dirty, 1U);
  EXPECT_EQ(take(ipam, 2), "pool_exhausted");
  ASSERT_TRUE(ipam.release(id));
  EXPECT_EQ(ipam.usage(vpn).dirty, 0U);
  clock.advance(quarantine);
  EXPECT_EQ(take(ipam, 2), "10.8.0.2");
}

TEST(Ipam, LargestPoolIsNeverListed) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.0.0.0/8");
  EXPECT_EQ(ipam.usage(vpn).size, (1U << 24) - 2 - (1U << 16));
  ASSERT_TRUE(ipam.restore(owner(1), {LaneAddress(vpn, v4("10.255.255.254"))}));
  for (int i = 2; i < 2000; ++i) EXPECT_FALSE(take(ipam, i * 2).ends_with(".1"));
  EXPECT_EQ(ipam.find(v4("10.255.255.254"))->owner, owner(1));
  EXPECT_EQ(ipam.usage(vpn).leased, 1999U);
}

TEST(Ipam, AfterACrashNobodyGetsWhatOthersHold) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/29");
  ASSERT_TRUE(ipam.restore(owner(0), {LaneAddress(vpn, v4("10.8.0.2"))}, group_of(0)));
  ASSERT_TRUE(ipam.rest(LaneAddress(vpn, v4("10.8.0.3")), owner(2), clock.now() - Seconds(10), group_of(2)));
  ASSERT_TRUE(ipam.rest(LaneAddress(vpn, v4("10.8.0.4")), owner(4), clock.now() - quarantine, group_of(4)));
  ASSERT_TRUE(ipam.rest(LaneAddress(vpn, v4("10.8.0.2")), owner(6), clock.now())) << "leased ones are left alone";
  EXPECT_EQ(take(ipam, 2), "10.8.0.3") << "back to its last owner";
  EXPECT_EQ(take(ipam, 8), "10.8.0.5");
  EXPECT_EQ(take(ipam, 10), "10.8.0.6");
  EXPECT_EQ(take(ipam, 12), "10.8.0.4");
  EXPECT_EQ(take(ipam, 14), "pool_exhausted");
  auto outside = ipam.restore(owner(20), {LaneAddress(vpn, v4("10.9.0.2"))});
  EXPECT_EQ(outside.error().code(), errc::invalid_argument);
}

// K-05 holds for what the journal remembers as well.
TEST(Ipam, UnusableAddressesAreNeverPassedOn) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  for (const char* address : {"10.8.0.0", "10.8.0.1", "10.8.0.3"}) {
    ASSERT_TRUE(ipam.rest(LaneAddress(vpn, v4(address)), owner(8), clock.now() - quarantine * 2));
    ipam.avoid(vpn, v4(address));
  }
  EXPECT_EQ(ipam.usage(vpn).size, 1U);
  ASSERT_TRUE(ipam.restore(owner(0), {LaneAddress(vpn, v4("10.8.0.1"))}, group_of(0)));
  ASSERT_TRUE(ipam.release(ipam.find(owner(0))->id));
  clock.advance(quarantine * 2);
  EXPECT_EQ(take(ipam, 1), "10.8.0.2");
  EXPECT_EQ(take(ipam, 0), "pool_exhausted");
}

TEST(Ipam, AClockThatStepsEndsNoQuarantineAndNoTerm) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  take(ipam, 0);
  ASSERT_TRUE(ipam.release(ipam.find(owner(0))->id));
  for (Seconds step : {Seconds(86400), -Seconds(172800)}) {
    clock.advance(step);
    ipam.clock_stepped(ClockStep(step, clock.now(), clock.now()));
    EXPECT_EQ(take(ipam, 2), "pool_exhausted") << "the address still rests";
    EXPECT_EQ(ipam.usage(vpn).resting, 1U);
  }
  clock.advance(quarantine);
  EXPECT_EQ(take(ipam, 2), "10.8.0.2");
  clock.advance(Seconds(86400));
  ipam.clock_stepped(ClockStep(Seconds(86400), clock.now(), clock.now()));
  EXPECT_TRUE(ipam.lapse().empty());
}

TEST(Ipam, WhatWasFreedAfterAStepButBeforeItWasNoticedRestsItsTime) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  take(ipam, 0);
  clock.advance(-Seconds(86400));
  Instant since = clock.now();
  ASSERT_TRUE(ipam.release(ipam.find(owner(0))->id));
  clock.advance(Seconds(1));
  ipam.clock_stepped(ClockStep(-Seconds(86400), since, clock.now()));
  EXPECT_EQ(take(ipam, 2), "pool_exhausted");
}

TEST(Ipam, AvoidedAddresses) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/29");
  ipam.avoid(vpn, v4("10.8.0.2"));
  ipam.avoid(vpn, v4("10.8.0.2"));
  EXPECT_EQ(ipam.usage(vpn).size, 4U);
  EXPECT_EQ(take(ipam, 0), "10.8.0.3");
  ASSERT_TRUE(ipam.restore(owner(2), {LaneAddress(vpn, v4("10.8.0.2"))})) << "the journal knows better";
  EXPECT_EQ(ipam.usage(vpn).size, 5U);
  EXPECT_EQ(ipam.usage(vpn).leased, 2U);
}

TEST(Ipam, AnAvoidedAddressComesBackAfterItsQuarantine) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/29");
  for (const char* address : {"10.8.0.2", "10.8.0.3", "10.8.0.4"}) ipam.avoid(vpn, v4(address));
  EXPECT_EQ(ipam.usage(vpn).size, 2U);
  ipam.readmit(vpn, v4("10.8.0.2"));
  ipam.readmit(vpn, v4("10.8.0.2"));
  ipam.readmit(vpn, v4("10.8.0.5"));
  EXPECT_EQ(ipam.usage(vpn).size, 3U);
  EXPECT_EQ(ipam.usage(vpn).resting, 1U);
  EXPECT_EQ(take(ipam, 0), "10.8.0.5");
  EXPECT_EQ(take(ipam, 1), "10.8.0.6");
  EXPECT_EQ(ipam.lease(owner(2), {vpn}, Seconds(60)).error().code(), errc::pool_exhausted);
  clock.advance(quarantine);
  EXPECT_EQ(take(ipam, 2), "10.8.0.2");
  ipam.readmit(vpn, v4("10.8.0.2"));
  EXPECT_EQ(ipam.usage(vpn).leased, 3U) << "a leased one stays with its owner";
}

TEST(Ipam, WrongCallsAreRefused) {
  ManualClock clock;
  Ipam ipam = with(clock, "10.8.0.0/30");
  auto code = [](const auto& result) { return result ? errc::internal : result.error().code(); };
  EXPECT_EQ(code(ipam.lease(owner(0), {}, Seconds(1))), errc::invalid_argument);
  EXPECT_EQ(code(ipam.lease(Owner(), {vpn}, Seconds(1))), errc::invalid_argument);
  EXPECT_EQ(code(ipam.lease(owner(0), {vpn, vpn}, Seconds(1))), errc::invalid_argument) << "a lane twice";
  EXPECT_EQ(code(ipam.lease(owner(0), {tor}, Seconds(1))), errc::not_found);
  EXPECT_EQ(code(ipam.restore(owner(0), {LaneAddress(vpn, v4("10.8.0.2")), LaneAddress(vpn, v4("10.8.0.2"))})),
            errc::invalid_argument);
  EXPECT_EQ(code(ipam.add(Pool(vpn, Prefix("10.10.0.0/24")))), errc::already_exists);
  EXPECT_EQ(code(ipam.add(Pool(tor, Prefix("10.8.0.0/24")))), errc::already_exists);
  EXPECT_EQ(code(ipam.add(Pool(tor, Prefix("10.0.0.0/31")))), errc::invalid_argument);
  EXPECT_EQ(code(ipam.add(Pool(tor, Prefix("10.9.0.0/24"), Prefix("fd00::/63")))), errc::invalid_argument);
  EXPECT_EQ(code(ipam.add(Pool(tor, Prefix("fd00::/64")))), errc::invalid_argument);
  take(ipam, 0);
  EXPECT_EQ(code(ipam.remove(vpn)), errc::failed_precondition);
  ASSERT_TRUE(ipam.add(Pool(tor, Prefix("10.9.0.0/24"))));
  EXPECT_EQ(code(ipam.lease(owner(0), {vpn, tor}, Seconds(1))), errc::failed_precondition);
  EXPECT_TRUE(ipam.remove(tor));
  EXPECT_EQ(code(ipam.remove(tor)), errc::not_found);
}
