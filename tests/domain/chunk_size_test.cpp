#include "wireguard/chunk_size.hpp"

#include <gtest/gtest.h>

namespace tornado {
namespace {

using std::chrono::microseconds;

/// The size after many full chunks of peers that take so long each.
std::size_t settled(ChunkSize& size, microseconds each) {
  for (int i = 0; i < 100; ++i) size.took(size.get(), each * size.get());
  return size.get();
}

TEST(ChunkSize, BeginsWithOnePeerAndGrowsWhileThereIsTime) {
  ChunkSize size;
  EXPECT_EQ(size.get(), 1U);
  size.took(1, microseconds(10));
  EXPECT_EQ(size.get(), 2U);
  EXPECT_EQ(settled(size, microseconds(10)), ChunkSize::most);
}

TEST(ChunkSize, NeverHoldsTheLoopLongerThanItsLimitOnceItKnowsTheHost) {
  for (int each : {5, 40, 95, 350, 900, 1'500, 2'000}) {
    ChunkSize size;
    for (int i = 0; i < 100; ++i) {
      ASSERT_LE(size.get() * each, 2'000U) << each << " us a peer";
      size.took(size.get(), microseconds(each) * size.get());
    }
    EXPECT_GE(size.get() * each * 4, std::min<std::size_t>(2'000, ChunkSize::most * each * 4)) << each << ": too timid";
  }
}

TEST(ChunkSize, OnePeerIsTheFloor) {
  ChunkSize size;
  (void)settled(size, microseconds(10));
  size.took(32, microseconds(1'000'000));
  EXPECT_EQ(size.get(), 1U);
  EXPECT_EQ(settled(size, microseconds(30'000)), 1U);
  EXPECT_EQ(settled(size, microseconds(10)), ChunkSize::most) << "it was an accident, and is over";
}

TEST(ChunkSize, AHostThatBecomesSlowerIsBelievedAtOnce) {
  ChunkSize size;
  (void)settled(size, microseconds(10));
  size.took(32, microseconds(8'000));
  EXPECT_EQ(size.get(), 8U);
}

TEST(ChunkSize, AChunkThatWasNotFullSaysNothingAboutALargerOne) {
  ChunkSize size;
  EXPECT_EQ(settled(size, microseconds(350)), 4U);
  for (int i = 0; i < 10; ++i) size.took(1, microseconds(350));
  EXPECT_EQ(size.get(), 4U);
  size.took(0, microseconds(0));
  EXPECT_EQ(size.get(), 4U);
}

TEST(ChunkSizes, EachActHasItsOwnSizeAndItsOwnChunks) {
  std::vector<Peer> peers(10);
  peers[3].remove = peers[4].remove = true;
  for (std::size_t i = 5; i < 10; ++i) peers[i].update_only = true;
  peers[9].allowed.emplace_back(Address::from_v4(0x0a000001), 32);
  ChunkSizes sizes;
  EXPECT_EQ(sizes.next(peers, 0), 1U);
  (void)settled(sizes.of(PeerAct::set), microseconds(1));
  EXPECT_EQ(sizes.next(peers, 0), 3U) << "those that are removed cost something else";
  EXPECT_EQ(sizes.next(peers, 3), 1U);
  EXPECT_EQ(sizes.next(peers, 5), 1U);
  (void)settled(sizes.of(PeerAct::strip), microseconds(1));
  EXPECT_EQ(sizes.next(peers, 5), 4U);
  EXPECT_EQ(act_of(peers[9]), PeerAct::set) << "it gets allowed IPs";
  EXPECT_EQ(sizes.next(peers, 10), 0U);
}

}  // namespace
}  // namespace tornado
