#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/uuid.hpp"
#include "tornado/types.hpp"

namespace tornado {
namespace {

const std::vector<std::string> texts{
    "",
    "vpn",
    "tor",
    "exactly",
    "eight888",
    "nine99999",
    "fifteen bytes..",
    "sixteen bytes...",
    std::string("with\0zero", 9),
    std::string(15, '\0'),
    "verify-a-lane-with-a-long-name",
    std::string(128, 'x'),
    std::string(36, '-'),
    "0190f3a0-0000-7000-8000-000000000000",
    "0190f3a0-0000-7000-bfff-ffffffffffff",
    "0190F3A0-0000-7000-8000-000000000000",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "0190f3a0-0000-7000-7fff-ffffffffffff",
    "0190f3a0-0000-7000-c000-000000000000",
    "0190f3a000000-7000-8000-000000000000",
    "0190f3a0-0000-7000-8000-00000000000g",
    "0190f3a0-0000-7000-8000-0000000000001",
    "0190f3a0-0000-7000-8000-00000000000",
};

TEST(Name, is_its_text) {
  for (const auto& text : texts) {
    const Owner name(text);
    EXPECT_EQ(name.str(), text);
    EXPECT_EQ(name.empty(), text.empty());
    Owner copy = name;
    EXPECT_EQ(copy.str(), text);
    EXPECT_EQ(copy.hash(), name.hash());
    const Owner moved = std::move(copy);
    EXPECT_EQ(moved.str(), text);
    copy = moved;
    EXPECT_EQ(copy, name);
  }
  EXPECT_EQ(sizeof(Owner), 16U);
}

TEST(Name, compares_as_text) {
  for (const auto& a : texts)
    for (const auto& b : texts) {
      EXPECT_EQ(Owner(a) == Owner(b), a == b) << a << " and " << b;
      EXPECT_EQ(Owner(a) < Owner(b), a < b) << a << " and " << b;
      EXPECT_EQ(Owner(a) > Owner(b), a > b) << a << " and " << b;
    }
}

TEST(Name, sorts_many_as_text) {
  std::mt19937 random(7);
  std::vector<std::string> sorted = texts;
  for (int i = 0; i < 500; ++i) {
    std::string text = i % 2 == 0 ? uuid4() : std::string();
    while (i % 2 == 1 && random() % 20 != 0) text += static_cast<char>(random() % 256);
    sorted.push_back(text);
  }
  std::vector<Owner> names;
  for (const auto& text : sorted) names.emplace_back(text);
  std::sort(sorted.begin(), sorted.end());
  std::sort(names.begin(), names.end());
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(names[i].str(), sorted[i]);
}

TEST(Name, assigns_over_any_other) {
  for (const auto& a : texts)
    for (const auto& b : texts) {
      Owner name(a);
      const Owner other(b);
      name = other;
      EXPECT_EQ(name.str(), b);
      auto& same = name;
      name = same;
      EXPECT_EQ(name.str(), b);
    }
}

TEST(LaneAddresses, are_shared_by_copies) {
  const LaneAddress vpn(Lane("vpn"), Address::from_v4(1)), tor(Lane("tor"), Address::from_v4(2));
  const LaneAddresses both{vpn, tor};
  const LaneAddresses copy = both;
  EXPECT_EQ(copy.all().data(), both.all().data());
  EXPECT_EQ(both.where([](const LaneAddress&) { return true; }).all().data(), both.all().data());
  const auto one = both.where([](const LaneAddress& address) { return address.lane.str() == "tor"; });
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one.front(), tor);
  EXPECT_EQ(both[1], tor);
  EXPECT_TRUE(LaneAddresses().empty());
  EXPECT_EQ(LaneAddresses(), LaneAddresses(std::vector<LaneAddress>()));
  EXPECT_FALSE(one == both);
}

TEST(Lane, is_one_for_each_text_and_ordered_as_text) {
  // Made in another order than that of their texts.
  const std::vector<std::string> made{"vpn", "tor", "", "a", "vpn2", "VPN"};
  for (const auto& a : made)
    for (const auto& b : made) {
      EXPECT_EQ(Lane(a) == Lane(b), a == b) << a << " and " << b;
      EXPECT_EQ(Lane(a) < Lane(b), a < b) << a << " and " << b;
      EXPECT_EQ(Lane(a) > Lane(b), a > b) << a << " and " << b;
      if (a == b) {
        EXPECT_EQ(Lane(a).hash(), Lane(b).hash());
      }
    }
  EXPECT_EQ(Lane("vpn").str(), "vpn");
  EXPECT_EQ(Lane().str(), "");
  EXPECT_TRUE(Lane("").empty());
  EXPECT_EQ(Lane(""), Lane());
}

TEST(LaneAddressesTest, copies_share_and_outlive_what_they_were_made_from) {
  LaneAddresses none, copy;
  EXPECT_TRUE(none.empty());
  {
    LaneAddresses made{LaneAddress(Lane("vpn"), Address::from_v4(1)), LaneAddress(Lane("tor"), Address::from_v4(2))};
    copy = made;
    EXPECT_EQ(copy.all().data(), made.all().data());
    LaneAddresses moved = std::move(made);
    copy = copy.where([](const LaneAddress&) { return true; });
    EXPECT_EQ(copy.all().data(), moved.all().data()) << "all of them are those";
    none = moved.where([](const LaneAddress&) { return false; });
  }
  EXPECT_TRUE(none.empty());
  ASSERT_EQ(copy.size(), 2U);
  EXPECT_EQ(copy[1].v4, Address::from_v4(2));
  EXPECT_EQ(copy.where([](const LaneAddress& on) { return on.lane == Lane("tor"); }).front(), copy[1]);
}

}  // namespace
}  // namespace tornado
