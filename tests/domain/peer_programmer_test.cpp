#include <gtest/gtest.h>

#include "support/peer_programmer_lab.hpp"

using namespace tornado;
using namespace tornado::test;

namespace {

TEST_F(PeerProgrammerTest, adds_strips_and_removes) {
  auto wanted = peer("a", 1, 7);
  ASSERT_TRUE(add(wanted));
  expect_up(wanted);
  EXPECT_TRUE(difference().empty());
  wireguard_.inner.traffic("wg0", test_key(1), 10, 20, Instant(Seconds(5)));
  ASSERT_TRUE(strip("a", 1));
  EXPECT_FALSE(peers_.wanted(Owner("a")));
  EXPECT_EQ(peers_.owner_of(test_key(1)), Owner("a"));
  EXPECT_TRUE(allowed("wg0", 1).empty());
  EXPECT_TRUE(reconcile().empty()) << "a retired key stays until it was read";
  EXPECT_TRUE(allowed("wg0", 1).empty());
  auto samples = remove({test_key(1)});
  ASSERT_TRUE(samples);
  ASSERT_EQ(samples->size(), 2u);
  std::uint64_t received = 0, sent = 0;
  for (const PeerSample& sample : *samples) received += sample.received, sent += sample.sent;
  EXPECT_EQ(received, 10u);
  EXPECT_EQ(sent, 20u);
  EXPECT_TRUE(on("wg0").empty());
  EXPECT_TRUE(on("wg1").empty());
  EXPECT_FALSE(peers_.owner_of(test_key(1)));
  EXPECT_TRUE(remove({test_key(1)})->empty());
}

TEST_F(PeerProgrammerTest, refuses_impossible_peers) {
  EXPECT_EQ(add(WantedPeer(Owner("a"), PublicKey(), peer("a", 1, 1).addresses)).error().code(), errc::key_invalid);
  EXPECT_EQ(add(WantedPeer(Owner("a"), test_key(1), {})).error().code(), errc::invalid_argument);
  auto second_on = [](const WantedPeer& from, const char* lane) {
    std::vector<LaneAddress> addresses(from.addresses.begin(), from.addresses.end());
    addresses[1].lane = Lane(lane);
    return WantedPeer(from.owner, from.key, addresses);
  };
  auto twice = second_on(peer("a", 1, 1), "vpn");
  EXPECT_EQ(add(twice).error().code(), errc::invalid_argument);
  auto nowhere = second_on(peer("a", 1, 1), "nowhere");
  EXPECT_EQ(add(nowhere).error().code(), errc::interface_missing);
  EXPECT_EQ(wireguard_.sets, 0);
}

TEST_F(PeerProgrammerTest, refuses_the_interfaces_own_key_once_it_knows_it) {
  InterfaceChange change("wg0");
  change.private_key = Secret(std::string(32, 'k'));
  ASSERT_TRUE(runtime_.wait(wireguard_.inner.set(change)));
  (void)difference();
  PublicKey own = runtime_.wait(wireguard_.get("wg0")).value().public_key;
  EXPECT_EQ(add(WantedPeer(Owner("a"), own, peer("a", 1, 1).addresses)).error().code(), errc::key_invalid);
}

TEST_F(PeerProgrammerTest, keeps_a_key_with_its_owner) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  EXPECT_EQ(add(peer("mallory", 1, 8)).error().code(), errc::key_in_use);
  ASSERT_TRUE(strip("mallory", 1));
  expect_up(peer("a", 1, 7));
  EXPECT_TRUE(remove({test_key(1)})->empty()) << "not retired";
  expect_up(peer("a", 1, 7));
  ASSERT_TRUE(strip("a", 1));
  EXPECT_EQ(add(peer("mallory", 1, 8)).error().code(), errc::key_in_use) << "not gone yet";
  ASSERT_TRUE(remove({test_key(1)}));
  EXPECT_TRUE(add(peer("mallory", 1, 8)));
}

TEST_F(PeerProgrammerTest, retires_the_former_key_of_an_owner) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  wireguard_.inner.traffic("wg1", test_key(1), 3, 4, Instant());
  ASSERT_TRUE(add(peer("a", 2, 7)));
  expect_up(peer("a", 2, 7));
  EXPECT_TRUE(allowed("wg0", 1).empty());
  EXPECT_TRUE(reconcile().empty());
  auto samples = remove({test_key(1)});
  ASSERT_TRUE(samples);
  EXPECT_EQ(samples->size(), 2u);
  EXPECT_EQ(on("wg0").size(), 1u);
}

TEST_F(PeerProgrammerTest, takes_addresses_back_that_the_new_peer_did_not_get) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  ASSERT_TRUE(add(on_vpn("a", 2, 9)));
  EXPECT_TRUE(allowed("wg0", 1).empty());
  EXPECT_TRUE(allowed("wg1", 1).empty());
  expect_up(on_vpn("a", 2, 9));
  ASSERT_TRUE(add(peer("b", 3, 20)));
  ASSERT_TRUE(add(on_vpn("b", 3, 21)));
  expect_up(on_vpn("b", 3, 21));
  EXPECT_FALSE(on("wg1").contains(test_key(3)));
}

TEST_F(PeerProgrammerTest, drives_the_same_peer_again_without_removing_it) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  wireguard_.inner.traffic("wg0", test_key(1), 5, 5, Instant(Seconds(1)));
  ASSERT_TRUE(add(peer("a", 1, 7)));
  EXPECT_EQ(runtime_.wait(peers_.sample()).value().size(), 2u);
  EXPECT_EQ(runtime_.wait(wireguard_.get("wg0")).value().peers[0].received, 5u);
}

TEST_F(PeerProgrammerTest, the_same_peer_again_sets_only_what_is_wrong) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  const int sets = wireguard_.sets;
  ASSERT_TRUE(add(peer("a", 1, 7)));
  EXPECT_EQ(wireguard_.sets, sets);
  take_away("wg1", 1);
  spoil(1, errc::backend_failed, false);
  EXPECT_FALSE(add(peer("a", 1, 7)));
  EXPECT_EQ(peers_.wanted(Owner("a")), peer("a", 1, 7));
  ASSERT_TRUE(add(peer("a", 1, 7)));
  expect_up(peer("a", 1, 7));
}

TEST_F(PeerProgrammerTest, tells_of_absent_peers_before_they_are_made_anew) {  // I-09
  ASSERT_TRUE(add(peer("a", 1, 7)));
  std::vector<std::string> told;
  peers_.on_absent([&](std::vector<AbsentPeer> absent) -> Task<void> {
    for (const auto& peer : absent) {
      told.push_back(peer.owner.str() + " " + peer.lane.str());
      const std::string name = peer.lane.str() == "vpn" ? "wg0" : "wg1";
      auto interface = co_await wireguard_.inner.get(name);
      EXPECT_TRUE(interface->peers.empty()) << "told before, not after";
    }
    co_return Error(errc::store_unavailable, "nobody listens");
  });
  EXPECT_TRUE(reconcile().empty());
  EXPECT_TRUE(told.empty());
  take_away("wg1", 1);
  EXPECT_FALSE(reconcile().empty());
  EXPECT_EQ(told, std::vector<std::string>{"a tor"});
  take_away("wg0", 1);
  ASSERT_TRUE(add(peer("a", 1, 7)));
  EXPECT_EQ(told.back(), "a vpn");
  // Wrong allowed IPs: the peer and its counters are those of before.
  Peer robbed;
  robbed.key = test_key(1);
  InterfaceChange change("wg0");
  change.peers = {robbed};
  ASSERT_TRUE(runtime_.wait(wireguard_.inner.set(change)));
  EXPECT_FALSE(reconcile().empty());
  EXPECT_EQ(told.size(), 2U);
  expect_up(peer("a", 1, 7));
}

/// What can go wrong with one call: its code, and whether the change was made all the same.
class Failure : public PeerProgrammerTest, public ::testing::WithParamInterface<std::tuple<int, errc, bool>> {
 protected:
  void spoil_one() {
    auto [at, code, applied] = GetParam();
    spoil(at, code, applied);
  }
  /// Whatever happened: after reconciling, exactly what is wanted is there.
  void expect_convergence() {
    wireguard_.spoil_at = 0;
    (void)reconcile();
    EXPECT_TRUE(difference().empty());
    EXPECT_FALSE(peers_.dirty());
  }
};

TEST_P(Failure, adds_on_every_lane_or_on_none) {
  spoil_one();
  auto added = add(peer("a", 1, 7));
  if (added) {
    expect_up(peer("a", 1, 7));
  } else {
    EXPECT_TRUE(on("wg0").empty());
    EXPECT_TRUE(on("wg1").empty());
    EXPECT_FALSE(peers_.wanted(Owner("a")));
    EXPECT_FALSE(peers_.owner_of(test_key(1)));
  }
  expect_convergence();
}

TEST_P(Failure, restores_the_former_key) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  spoil_one();
  auto added = add(peer("a", 2, 7));
  if (added) {
    expect_up(peer("a", 2, 7));
    EXPECT_TRUE(allowed("wg0", 1).empty());
  } else {
    expect_up(peer("a", 1, 7));
    EXPECT_FALSE(on("wg0").contains(test_key(2)));
    EXPECT_FALSE(on("wg1").contains(test_key(2)));
  }
  expect_convergence();
}

TEST_P(Failure, restores_the_former_addresses) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  spoil_one();
  auto added = add(peer("a", 1, 9));
  expect_up(peer("a", 1, added ? 9 : 7));
  expect_convergence();
}

TEST_P(Failure, ends_a_session_in_the_end) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  wireguard_.inner.traffic("wg0", test_key(1), 10, 20, Instant());
  wireguard_.inner.traffic("wg1", test_key(1), 1, 2, Instant());
  spoil_one();
  for (int attempt = 0; attempt < 3 && !strip("a", 1); ++attempt) {
  }
  Result<std::vector<PeerSample>> samples(errc::internal);
  for (int attempt = 0; attempt < 3 && !samples; ++attempt) samples = remove({test_key(1)});
  ASSERT_TRUE(samples);
  std::uint64_t received = 0;
  for (const PeerSample& sample : *samples) received += sample.received;
  EXPECT_EQ(samples->size(), 2u) << "counters of the lane that was done first are not lost";
  EXPECT_EQ(received, 11u);
  EXPECT_TRUE(on("wg0").empty());
  EXPECT_TRUE(on("wg1").empty());
  expect_convergence();
}

TEST_P(Failure, reconciles_in_the_next_pass) {
  std::vector<WantedPeer> list;
  for (std::uint32_t i = 1; i <= 80; ++i) list.push_back(peer("d" + std::to_string(i), i, i));
  for (std::uint32_t i = 200; i < 250; ++i) ASSERT_TRUE(add(peer("old" + std::to_string(i), i, i)));
  peers_.want(list);
  spoil_one();
  (void)runtime_.wait(peers_.reconcile());
  expect_convergence();
  EXPECT_EQ(on("wg0").size(), 80u);
  EXPECT_EQ(on("wg1").size(), 80u);
}

INSTANTIATE_TEST_SUITE_P(EveryStep, Failure,
                         ::testing::Combine(::testing::Range(1, 6),
                                            ::testing::Values(errc::backend_failed, errc::deadline_exceeded,
                                                              errc::protocol_error),
                                            ::testing::Bool()));

TEST_F(PeerProgrammerTest, counts_an_addition_with_a_lost_answer_when_it_reads_it_back) {
  spoil(2, errc::deadline_exceeded, true);
  EXPECT_TRUE(add(peer("a", 1, 7)));
  EXPECT_TRUE(peers_.dirty());
  EXPECT_EQ(wireguard_.gets, 1);
  (void)reconcile();
  EXPECT_FALSE(peers_.dirty());
  spoil(2, errc::deadline_exceeded, false);
  EXPECT_EQ(add(peer("b", 2, 8)).error().code(), errc::deadline_exceeded);
  EXPECT_FALSE(on("wg0").contains(test_key(2)));
}

TEST_F(PeerProgrammerTest, cleans_up_what_it_could_not_take_back) {
  spoil(2, errc::deadline_exceeded, false, 3);
  EXPECT_FALSE(add(peer("a", 1, 7)));
  EXPECT_TRUE(on("wg0").contains(test_key(1)));
  EXPECT_EQ(peers_.owner_of(test_key(1)), Owner("a"));
  EXPECT_FALSE(peers_.wanted(Owner("a")));
  EXPECT_EQ(reconcile().surplus, std::vector{test_key(1)});
  EXPECT_TRUE(on("wg0").empty());
  EXPECT_FALSE(peers_.owner_of(test_key(1)));
}

TEST_F(PeerProgrammerTest, reports_a_vanished_lane_and_comes_back_with_it) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  wireguard_.inner.drop("wg1");
  EXPECT_EQ(add(peer("b", 2, 8)).error().code(), errc::interface_missing);
  EXPECT_FALSE(on("wg0").contains(test_key(2)));
  Difference found = reconcile();
  EXPECT_EQ(found.interfaces_missing, std::vector<std::string>{"wg1"});
  ASSERT_EQ(found.missing.size(), 1u);
  EXPECT_EQ(runtime_.wait(peers_.sample()).value().size(), 1u);
  EXPECT_EQ(strip("a", 1).error().code(), errc::interface_missing);
  EXPECT_EQ(remove({test_key(1)}).error().code(), errc::interface_missing);
  wireguard_.inner.create("wg1");
  EXPECT_TRUE(strip("a", 1));
  EXPECT_EQ(remove({test_key(1)})->size(), 1u);
  wireguard_.inner.drop("wg0");
  wireguard_.inner.drop("wg1");
  EXPECT_EQ(runtime_.wait(peers_.sample()).error().code(), errc::interface_missing);
}

TEST_F(PeerProgrammerTest, brings_all_peers_back_to_an_interface_made_anew) {
  for (std::uint32_t i = 1; i <= 10; ++i) ASSERT_TRUE(add(peer("d" + std::to_string(i), i, i)));
  for (int round = 0; round < 5; ++round) {
    wireguard_.inner.drop("wg0");
    wireguard_.inner.create("wg0");
    EXPECT_EQ(reconcile().missing.size(), 10u);
    EXPECT_EQ(on("wg0").size(), 10u) << round;
  }
  EXPECT_EQ(log_.lines["peer_parked"], 0);
}

TEST_F(PeerProgrammerTest, leaves_foreign_peers_alone_and_reports_them_once) {
  put("wg0", 99, "10.8.0.99/32");
  ASSERT_TRUE(add(peer("a", 1, 7)));
  EXPECT_EQ(reconcile().foreign, std::vector{test_key(99)});
  (void)reconcile();
  EXPECT_TRUE(on("wg0").contains(test_key(99)));
  EXPECT_EQ(log_.lines["foreign_peer"], 1);
  put("wg0", 98, "10.8.0.7/32");
  Difference found = reconcile();
  EXPECT_EQ(found.missing.size(), 1u) << "a foreign peer took our address";
  expect_up(peer("a", 1, 7));
  EXPECT_EQ(log_.lines["foreign_peer"], 2);
}

TEST_F(PeerProgrammerTest, removes_foreign_peers_if_told_to) {
  PeerProgrammer strict(runtime_, wireguard_, ForeignPeers::remove);
  strict.add_lane(Lane("vpn"), "wg0");
  put("wg0", 99, "10.8.0.99/32");
  EXPECT_EQ(runtime_.wait(strict.reconcile()).value().foreign, std::vector{test_key(99)});
  EXPECT_TRUE(on("wg0").empty());
}

TEST_F(PeerProgrammerTest, never_touches_a_peer_that_is_right) {
  std::vector<WantedPeer> list;
  for (std::uint32_t i = 1; i <= 100; ++i) list.push_back(peer("d" + std::to_string(i), i, i));
  peers_.want(list);
  (void)reconcile();
  EXPECT_EQ(wireguard_.peers_set, 200u);
  EXPECT_LE(wireguard_.largest, 32u);
  wireguard_.gets = 0;
  EXPECT_TRUE(reconcile().empty());
  EXPECT_EQ(wireguard_.peers_set, 200u);
  EXPECT_EQ(wireguard_.gets, 2) << "one read per lane";
  put("wg1", 50, "10.9.1.1/32");
  EXPECT_EQ(reconcile().missing.size(), 1u);
  EXPECT_EQ(wireguard_.peers_set, 201u);
}

TEST_F(PeerProgrammerTest, does_not_blame_peers_for_an_interface_in_trouble) {
  std::vector<WantedPeer> list;
  for (std::uint32_t i = 1; i <= 40; ++i) list.push_back(peer("d" + std::to_string(i), i, i));
  peers_.want(list);
  for (int pass = 0; pass < 5; ++pass) {
    spoil(1, errc::deadline_exceeded, false, 100);
    EXPECT_FALSE(runtime_.wait(peers_.reconcile()));
  }
  wireguard_.spoil_at = 0;
  EXPECT_EQ(log_.lines["peer_parked"], 0);
  (void)reconcile();
  EXPECT_EQ(on("wg1").size(), 40u);
}

TEST_F(PeerProgrammerTest, forgets_nobody_while_an_interface_cannot_be_read) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  peers_.want({});
  wireguard_.unreadable = errc::deadline_exceeded;
  EXPECT_EQ(runtime_.wait(peers_.difference()).error().code(), errc::deadline_exceeded);
  EXPECT_EQ(runtime_.wait(peers_.reconcile()).error().code(), errc::deadline_exceeded);
  EXPECT_EQ(peers_.owner_of(test_key(1)), Owner("a"));
  wireguard_.unreadable.reset();
  EXPECT_EQ(reconcile().surplus, std::vector{test_key(1)});
  EXPECT_TRUE(on("wg0").empty());
  EXPECT_FALSE(peers_.owner_of(test_key(1)));
}

TEST_F(PeerProgrammerTest, forgets_nobody_when_it_is_cancelled_while_it_reads) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  peers_.want({});
  // The peer is still on the other interface; on the one that answers nobody is.
  take_away("wg0", 1);
  for (const char* silent : {"wg1", "wg0"}) {
    wireguard_.silent = silent;
    std::optional<Result<void>> outcome;
    auto pass = [](PeerProgrammer& peers, std::optional<Result<void>>& out) -> Task<void> {
      auto found = co_await peers.reconcile();
      out = found ? Result<void>() : Result<void>(found.error());
      co_return Result<void>();
    };
    Background running = runtime_.spawn(pass(peers_, outcome));
    runtime_.settle();
    EXPECT_FALSE(outcome) << "it waits for " << silent;
    running.stop();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->error().code(), errc::cancelled);
    EXPECT_EQ(peers_.owner_of(test_key(1)), Owner("a"));
    EXPECT_EQ(on("wg1").size(), 1U) << "nothing is done about what was not compared";
  }
  wireguard_.silent.clear();
  EXPECT_EQ(reconcile().surplus, std::vector{test_key(1)});
  EXPECT_TRUE(on("wg1").empty());
  EXPECT_FALSE(peers_.owner_of(test_key(1)));
}

TEST_F(PeerProgrammerTest, says_how_many_peers_to_expect_before_it_reads) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  ASSERT_TRUE(add(on_vpn("b", 2, 8)));
  (void)difference();
  EXPECT_EQ(wireguard_.expected, (std::map<std::string, std::size_t>{{"wg0", 2}, {"wg1", 2}}));
}

TEST_F(PeerProgrammerTest, restores_wanted_and_retired_peers_after_a_restart) {
  put("wg0", 1, "10.8.0.7/32");
  put("wg0", 2, "10.8.0.8/32");
  put("wg0", 3, "10.8.0.9/32");
  peers_.want({on_vpn("a", 1, 7)}, {{Owner("b"), test_key(2)}});
  Difference found = difference();
  EXPECT_TRUE(found.missing.empty());
  EXPECT_EQ(found.surplus, std::vector{test_key(2)}) << "retired, with allowed IPs";
  EXPECT_EQ(found.foreign, std::vector{test_key(3)});
  (void)reconcile();
  EXPECT_TRUE(allowed("wg0", 2).empty());
  EXPECT_EQ(remove({test_key(2)})->size(), 1u);
}

TEST_F(PeerProgrammerTest, gives_a_key_that_two_owners_claim_to_the_first) {
  peers_.want({peer("a", 1, 7), peer("b", 1, 8)});
  EXPECT_EQ(peers_.owner_of(test_key(1)), Owner("a"));
  EXPECT_EQ(log_.lines["peer_key_conflict"], 1);
}

TEST_F(PeerProgrammerTest, reads_once_for_many_ended_sessions) {
  std::vector<PublicKey> keys;
  for (std::uint32_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(add(peer("d" + std::to_string(i), i, i)));
    ASSERT_TRUE(strip("d" + std::to_string(i), i));
    keys.push_back(test_key(i));
  }
  wireguard_.gets = wireguard_.sets = 0;
  EXPECT_EQ(remove(keys)->size(), 200u);
  EXPECT_EQ(wireguard_.gets, 2);
  EXPECT_EQ(wireguard_.sets, 8);
}

TEST_F(PeerProgrammerTest, shares_reads_that_are_asked_for_at_once) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  wireguard_.gets = 0;
  auto ask = [](PeerProgrammer& peers, int& done) -> Task<void> {
    auto samples = co_await peers.sample();
    done += samples && samples->size() == 2;
    co_return Result<void>();
  };
  int done = 0;
  std::vector<Background> running;
  for (int i = 0; i < 50; ++i) running.push_back(runtime_.spawn(ask(peers_, done)));
  runtime_.settle();
  EXPECT_EQ(done, 50);
  EXPECT_LE(wireguard_.gets, 6);
}

/// Devices that connect, change keys and leave while reconciling runs all the time.
TEST_F(PeerProgrammerTest, is_not_confused_by_changes_during_a_comparison) {
  auto live = [](PeerProgrammer& peers, std::uint32_t n, bool& failed, int& ended) -> Task<void> {
    std::string owner = "d" + std::to_string(n);
    for (std::uint32_t round = 0; round < 20; ++round) {
      auto first = co_await peers.add(peer(owner, 1000 * n + 2 * round, n));
      auto second = co_await peers.add(peer(owner, 1000 * n + 2 * round + 1, n));
      std::vector<PublicKey> former{test_key(1000 * n + 2 * round)}, last{test_key(1000 * n + 2 * round + 1)};
      auto read = co_await peers.remove(former);
      bool leaves = round < 19;
      if (leaves) {
        auto stripped = co_await peers.strip(Owner(owner), last[0]);
        auto gone = co_await peers.remove(last);
        failed |= !stripped || !gone || gone->size() != 2;
      }
      failed |= !first || !second || !read || read->size() != 2;
    }
    ++ended;
    co_return Result<void>();
  };
  auto compare = [](PeerProgrammer& peers, std::size_t& foreign, bool& stop) -> Task<void> {
    while (!stop) {
      auto difference = co_await peers.reconcile();
      if (difference) foreign += difference->foreign.size();
    }
    co_return Result<void>();
  };
  bool failed = false, stop = false;
  int ended = 0;
  std::size_t foreign = 0;
  {
    Background comparing = runtime_.spawn(compare(peers_, foreign, stop));
    std::vector<Background> running;
    for (std::uint32_t n = 1; n <= 10; ++n) running.push_back(runtime_.spawn(live(peers_, n, failed, ended)));
    for (int turn = 0; turn < 100'000 && ended < 10; ++turn) (void)on("wg0");
    stop = true;
    for (int turn = 0; turn < 100; ++turn) (void)on("wg0");
  }
  EXPECT_EQ(ended, 10);
  EXPECT_FALSE(failed);
  EXPECT_EQ(foreign, 0u);
  (void)reconcile();
  EXPECT_TRUE(difference().empty());
  EXPECT_EQ(on("wg0").size(), 10u);
  EXPECT_EQ(on("wg1").size(), 10u);
}

TEST_F(PeerProgrammerTest, handles_ten_thousand_peers) {
  std::vector<WantedPeer> list;
  std::vector<PublicKey> keys;
  for (std::uint32_t i = 1; i <= 10'000; ++i) {
    list.push_back(peer("d" + std::to_string(i), i, i));
    keys.push_back(test_key(i));
  }
  auto timed = [](const char* what, auto&& body) {
    auto before = std::chrono::steady_clock::now();
    body();
    std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - before;
    std::printf("%s: %.0f ms\n", what, took.count());
  };
  timed("want", [&] { peers_.want(list); });
  timed("reconcile from nothing", [&] { EXPECT_EQ(reconcile().missing.size(), 10'000u); });
  timed("reconcile with nothing to do", [&] { EXPECT_TRUE(reconcile().empty()); });
  timed("sample", [&] { EXPECT_EQ(runtime_.wait(peers_.sample()).value().size(), 20'000u); });
  timed("one more peer", [&] { EXPECT_TRUE(add(peer("late", 20'000, 20'000))); });
  timed("retire and remove all", [&] {
    for (std::uint32_t i = 1; i <= 10'000; ++i) ASSERT_TRUE(strip("d" + std::to_string(i), i));
    EXPECT_EQ(remove(keys)->size(), 20'000u);
  });
  EXPECT_EQ(on("wg0").size(), 1u);
}

}  // namespace
