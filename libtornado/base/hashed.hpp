#pragma once

#include <boost/intrusive/unordered_set.hpp>
#include <functional>
#include <memory>
#include <vector>

namespace tornado::inline v1 {

/// The link that an element of a `Hashed` has in itself.
using HashedLink = boost::intrusive::unordered_set_member_hook<>;

/// Somebody's elements by one of their members, which does not change meanwhile; several may have the same. It costs
/// 12 to 16 bytes an element and no memory of its own for each, where a node of std::unordered_map takes 40 and more.
/// Elements stay where they are and belong to whoever made them; they are taken out before they go.
///
/// `KeyOf` names the member: `type`, and `const type& operator()(const Element&) const`.
template <class Element, HashedLink Element::*Link, class KeyOf>
class Hashed {
 public:
  using Key = typename KeyOf::type;

  Hashed() : buckets_(std::make_unique<Bucket[]>(16)), set_(Traits(buckets_.get(), 16)) {}
  Hashed(const Hashed&) = delete;
  Hashed& operator=(const Hashed&) = delete;

  std::size_t size() const noexcept { return set_.size(); }
  bool contains(const Key& key) const { return set_.find(key) != set_.end(); }
  /// One of them; null: there is none.
  Element* find(const Key& key) const {
    auto it = set_.find(key);
    return it == set_.end() ? nullptr : const_cast<Element*>(&*it);
  }
  /// Takes all of them out.
  std::vector<Element*> take_all(const Key& key) {
    std::vector<Element*> out;
    auto [from, to] = set_.equal_range(key);
    set_.erase_and_dispose(from, to, [&](Element* element) { out.push_back(element); });
    return out;
  }
  void insert(Element& element) {
    if (set_.size() >= set_.bucket_count() * most_in_bucket) grow();
    set_.insert(element);
  }
  /// Whether it is in here, or in another one by the same link.
  static bool has(const Element& element) noexcept { return (element.*Link).is_linked(); }
  /// Takes as long as there are elements with its key.
  void erase(Element& element) { set_.erase(set_.iterator_to(element)); }
  /// Takes all of them out, each of which is then given to `done`.
  template <class Done>
  void clear(Done done) {
    set_.clear_and_dispose(done);
  }
  template <class Visit>
  void visit(Visit visit) const {
    for (const Element& element : set_) visit(element);
  }
  /// For walks in slices: an element stays in its bucket while the count of buckets is the same.
  std::size_t bucket_count() const noexcept { return set_.bucket_count(); }
  template <class Visit>
  void visit_bucket(std::size_t at, Visit visit) const {
    for (auto it = set_.begin(at); it != set_.end(at); ++it) visit(*it);
  }

 private:
  using Set = boost::intrusive::unordered_multiset<
      Element, boost::intrusive::member_hook<Element, HashedLink, Link>, boost::intrusive::key_of_value<KeyOf>,
      boost::intrusive::hash<std::hash<Key>>, boost::intrusive::power_2_buckets<true>>;
  static constexpr std::size_t most_in_bucket = 2;  // on average
  using Bucket = typename Set::bucket_type;
  using Traits = typename Set::bucket_traits;

  void grow() {
    const std::size_t count = set_.bucket_count() * 2;
    auto wider = std::make_unique<Bucket[]>(count);
    set_.rehash(Traits(wider.get(), count));
    buckets_ = std::move(wider);
  }

  std::unique_ptr<Bucket[]> buckets_;
  Set set_;
};

}  // namespace tornado::inline v1
