#include "base/slab.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace tornado {
namespace {

class Element {
 public:
  Element(int& alive, std::string text) : text_(std::move(text)), alive_(alive) {
    if (text_.empty()) throw std::invalid_argument("empty");
    ++alive_;
  }
  Element(const Element&) = delete;
  Element& operator=(const Element&) = delete;
  ~Element() { --alive_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int& alive_;
};

TEST(SlabTest, keeps_elements_whole_while_others_come_and_go) {
  int alive = 0;
  Slab<Element> slab;
  std::mt19937 random(3);
  std::vector<std::pair<Element*, std::string>> elements;
  for (int step = 0; step < 20000; ++step) {
    if (!elements.empty() && random() % 3 == 0) {
      std::swap(elements[random() % elements.size()], elements.back());
      slab.give_up(*elements.back().first);
      elements.pop_back();
    } else {
      std::string text = "an element that is longer than its own room " + std::to_string(step);
      Element& made = slab.make(alive, text);
      elements.emplace_back(&made, std::move(text));
    }
    ASSERT_EQ(static_cast<std::size_t>(alive), elements.size());
  }
  std::set<const Element*> places;
  for (const auto& [element, text] : elements) {
    EXPECT_EQ(element->text(), text);
    places.insert(element);
  }
  EXPECT_EQ(places.size(), elements.size());
  for (const auto& [element, text] : elements) slab.give_up(*element);
  EXPECT_EQ(alive, 0);
}

TEST(SlabTest, what_cannot_be_made_takes_no_room) {
  int alive = 0;
  Slab<Element> slab;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_THROW(slab.make(alive, ""), std::invalid_argument);
  }
  Element& made = slab.make(alive, "made");
  EXPECT_EQ(made.text(), "made");
  slab.give_up(made);
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace tornado
