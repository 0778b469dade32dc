#include "base/hashed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <unordered_map>

namespace tornado {
namespace {

struct Element {
  Element(int key_, int number_) : key(key_), number(number_) {}
  int key, number;
  HashedLink by_key;
};
struct KeyOf {
  using type = int;
  const int& operator()(const Element& element) const { return element.key; }
};
using Index = Hashed<Element, &Element::by_key, KeyOf>;

std::vector<int> numbers(std::vector<Element*> elements) {
  std::vector<int> out;
  for (const Element* element : elements) out.push_back(element->number);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(HashedTest, finds_takes_and_counts_like_a_multimap) {
  std::mt19937 random(7);
  std::deque<Element> elements;
  std::unordered_multimap<int, Element*> expected;
  Index index;
  auto take_out = [&](Element& element) {
    auto [from, to] = expected.equal_range(element.key);
    expected.erase(std::find_if(from, to, [&](const auto& entry) { return entry.second == &element; }));
    index.erase(element);
  };
  for (int step = 0; step < 20000; ++step) {
    const int key = static_cast<int>(random() % 300);
    switch (random() % 8) {
      case 0: {
        if (expected.empty()) break;
        Element& any = *expected.begin()->second;
        take_out(any);
        EXPECT_FALSE(Index::has(any));
        break;
      }
      case 1: {
        std::vector<Element*> there;
        auto [from, to] = expected.equal_range(key);
        for (auto it = from; it != to; ++it) there.push_back(it->second);
        expected.erase(from, to);
        EXPECT_EQ(numbers(index.take_all(key)), numbers(there));
        break;
      }
      default:
        Element& made = elements.emplace_back(key, step);
        index.insert(made);
        expected.emplace(key, &made);
        EXPECT_TRUE(Index::has(made));
    }
    ASSERT_EQ(index.size(), expected.size());
    const int asked = static_cast<int>(random() % 300);
    ASSERT_EQ(index.contains(asked), expected.contains(asked));
    const Element* found = index.find(asked);
    ASSERT_EQ(found != nullptr, expected.contains(asked));
    if (found != nullptr) {
      ASSERT_EQ(found->key, asked);
    }
  }
  ASSERT_GT(index.bucket_count(), 16U) << "it has grown";
  std::vector<Element*> visited, walked, cleared, all;
  for (const auto& [key, element] : expected) all.push_back(element);
  index.visit([&](const Element& element) { visited.push_back(const_cast<Element*>(&element)); });
  EXPECT_EQ(numbers(visited), numbers(all));
  for (std::size_t at = 0; at < index.bucket_count(); ++at)
    index.visit_bucket(at, [&](const Element& element) { walked.push_back(const_cast<Element*>(&element)); });
  EXPECT_EQ(numbers(walked), numbers(all));
  index.clear([&](Element* element) { cleared.push_back(element); });
  EXPECT_EQ(numbers(cleared), numbers(all));
  EXPECT_EQ(index.size(), 0U);
}

}  // namespace
}  // namespace tornado
