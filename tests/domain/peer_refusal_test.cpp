// Peers that an interface does not take: tried again, parked, taken away all the same.
#include <gtest/gtest.h>

#include "support/peer_programmer_lab.hpp"

using namespace tornado;
using namespace tornado::test;

namespace {

TEST_F(PeerProgrammerTest, parks_what_is_refused_three_times) {
  std::vector<WantedPeer> list;
  for (std::uint32_t i = 1; i <= 40; ++i) list.push_back(peer("d" + std::to_string(i), i, i));
  peers_.want(list);
  wireguard_.refused = {test_key(5)};
  std::vector<std::string> told;
  peers_.on_parked([&](const Lane& lane, const PublicKey&, const std::string&) { told.push_back(lane.str()); });
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_TRUE(told.empty());
    EXPECT_EQ(reconcile().refused, std::vector{test_key(5)});
    int sets = wireguard_.sets;
    EXPECT_EQ(reconcile().refused, std::vector{test_key(5)}) << "it is tried again after a while only";
    EXPECT_EQ(wireguard_.sets, sets);
    if (pass < 2) clock_.advance(Seconds(30));
  }
  EXPECT_EQ(on("wg0").size(), 39u) << "the rest of the chunk is driven peer by peer";
  EXPECT_EQ(log_.lines["peer_parked"], 2);
  EXPECT_EQ(told.size(), 2U) << "each lane for itself";
  int sets = wireguard_.sets;
  clock_.advance(Seconds(3599));
  EXPECT_EQ(reconcile().parked, std::vector{test_key(5)});
  EXPECT_EQ(wireguard_.sets, sets);
  clock_.advance(Seconds(1));
  EXPECT_EQ(reconcile().parked, std::vector{test_key(5)});
  EXPECT_EQ(told.size(), 4U);
  wireguard_.refused.clear();
  EXPECT_TRUE(add(list[4]));
  EXPECT_TRUE(reconcile().empty());
}

TEST_F(PeerProgrammerTest, tries_what_is_parked_when_it_is_asked_to) {
  peers_.want({peer("a", 1, 7)});
  wireguard_.refused = {test_key(1)};
  park();
  EXPECT_EQ(peers_.refused_until(), clock_.now() + Seconds(3600));
  wireguard_.refused.clear();
  peers_.try_refused();
  EXPECT_TRUE(reconcile().refused.empty());
  expect_up(peer("a", 1, 7));
  EXPECT_TRUE(reconcile().empty());
  EXPECT_FALSE(peers_.refused_until());
}

TEST_F(PeerProgrammerTest, removes_and_strips_what_is_parked) {
  peers_.want({peer("a", 1, 7)});
  wireguard_.refused = {test_key(1)};
  park();
  put("wg0", 1, "10.8.0.9/32");
  wireguard_.refused.clear();
  ASSERT_TRUE(strip("a", 1));
  put("wg0", 1, "10.8.0.9/32");
  (void)reconcile();
  EXPECT_TRUE(allowed("wg0", 1).empty());
  peers_.want({});
  (void)reconcile();
  EXPECT_TRUE(on("wg0").empty());
}

TEST_F(PeerProgrammerTest, tries_a_removal_that_is_refused_again_and_again) {
  ASSERT_TRUE(add(peer("a", 1, 7)));
  ASSERT_TRUE(add(peer("b", 2, 8)));
  peers_.want({});
  wireguard_.refused = {test_key(1)};
  for (int pass = 0; pass < 5; ++pass)
    EXPECT_EQ(runtime_.wait(peers_.reconcile()).error().code(), errc::backend_failed);
  EXPECT_FALSE(on("wg0").contains(test_key(2)));
  wireguard_.refused.clear();
  (void)reconcile();
  EXPECT_TRUE(on("wg0").empty());
}

TEST_F(PeerProgrammerTest, leaves_a_parked_peer_parked_while_an_interface_cannot_be_read) {
  std::vector<WantedPeer> list{peer("a", 1, 7)};
  peers_.want(list);
  wireguard_.refused = {test_key(1)};
  park();
  ASSERT_EQ(log_.lines["peer_parked"], 2);
  wireguard_.unreadable = errc::deadline_exceeded;
  EXPECT_FALSE(runtime_.wait(peers_.reconcile()));
  wireguard_.unreadable.reset();
  int sets = wireguard_.sets;
  EXPECT_EQ(reconcile().parked, std::vector{test_key(1)});
  EXPECT_EQ(wireguard_.sets, sets);
  EXPECT_EQ(log_.lines["peer_parked"], 2);
}

TEST_F(PeerProgrammerTest, counts_refusals_in_a_row_though_another_lane_is_away) {
  std::vector<WantedPeer> list{on_vpn("a", 1, 7)};
  peers_.want(list);
  wireguard_.inner.drop("wg1");
  wireguard_.refused = {test_key(1)};
  for (int pass = 0; pass < 2; ++pass) {
    (void)runtime_.wait(peers_.reconcile());
    clock_.advance(Seconds(30));
  }
  wireguard_.refused.clear();
  EXPECT_EQ(reconcile().missing.size(), 1u);
  EXPECT_TRUE(reconcile().missing.empty());
  take_away("wg0", 1);
  wireguard_.refused = {test_key(1)};
  (void)runtime_.wait(peers_.reconcile());
  EXPECT_EQ(log_.lines["peer_parked"], 0);
}

TEST_F(PeerProgrammerTest, parks_what_is_swallowed) {
  std::vector<WantedPeer> list;
  for (std::uint32_t i = 1; i <= 4; ++i) list.push_back(peer("d" + std::to_string(i), i, i));
  peers_.want(list);
  wireguard_.swallowed = {test_key(2)};
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_EQ(log_.lines["peer_parked"], 0);
    (void)reconcile();
    EXPECT_EQ(reconcile().refused, std::vector{test_key(2)});
    clock_.advance(Seconds(30));
  }
  EXPECT_EQ(log_.lines["peer_parked"], 2);
  int sets = wireguard_.sets;
  (void)reconcile();
  EXPECT_EQ(wireguard_.sets, sets);
}

}  // namespace
