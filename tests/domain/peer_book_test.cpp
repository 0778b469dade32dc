#include "peer/peer_book.hpp"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <set>

#include "base/pace.hpp"
#include "support/keys.hpp"

namespace tornado {
namespace {

WantedPeer peer_of(std::uint32_t number) {
  std::vector<LaneAddress> addresses{LaneAddress(Lane("vpn"), Address::from_v4(0x0a000000 + number))};
  return WantedPeer(Owner("device-" + std::to_string(number)), test_key(number), std::move(addresses));
}

/// Lists them while others come, so many that the book is arranged anew, and some go.
Task<PeerBook::Keys> list_amid_changes(Runtime& runtime, PeerBook& book, std::uint32_t present, int& turns) {
  auto disturb = [](Runtime& on, PeerBook& of, std::uint32_t from, int& count) -> Task<void> {
    Pace pace(on);
    for (std::uint32_t i = 0; i < 100; ++i, ++count) {
      for (std::uint32_t j = 0; j < 2'000; ++j) of.want(peer_of(from + i * 2'000 + j));
      of.forget(test_key(i));
      co_await pace.yield();
    }
    co_return Result<void>();
  };
  Background disturbing = runtime.spawn(disturb(runtime, book, present, turns));
  auto listing = book.keys(runtime);
  PeerBook::Keys keys = co_await std::move(listing);
  co_return keys;
}

TEST(PeerBook, ListsItsKeysInSlicesAndLosesNoneMeanwhile) {
  constexpr std::uint32_t present = 100'000;
  Runtime runtime;
  PeerBook book;
  for (std::uint32_t i = 0; i < present; ++i) book.want(peer_of(i));
  int turns = 0;
  const auto keys = runtime.wait(list_amid_changes(runtime, book, present, turns)).value();
  EXPECT_GT(turns, 0) << "nobody else had a turn";
  const std::set<PublicKey> distinct(keys.begin(), keys.end());
  EXPECT_EQ(distinct.size(), keys.size()) << "a key twice";
  for (std::uint32_t i = 100; i < present; ++i) ASSERT_TRUE(distinct.contains(test_key(i))) << i;
}

}  // namespace
}  // namespace tornado
