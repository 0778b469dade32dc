#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Positions of keys in somebody else's vector. One flat block of memory: made, grown and given up quickly, where the
/// nodes of a hash map would hold up the loop. `key_at(position)` returns the key at a position.
class KeyIndex {
 public:
  void reserve(std::size_t count) {
    std::size_t size = 16;
    while (size < count * 2) size *= 2;
    if (size > slots_.size()) rehash(size);
  }

  template <class KeyAt>
  std::optional<std::size_t> find(const PublicKey& key, const KeyAt& key_at) const {
    if (slots_.empty()) return std::nullopt;
    const std::uint32_t hash = hash_of(key);
    for (std::size_t i = hash & (slots_.size() - 1); slots_[i].position != 0; i = (i + 1) & (slots_.size() - 1))
      if (slots_[i].hash == hash && key_at(slots_[i].position - 1) == key) return slots_[i].position - 1;
    return std::nullopt;
  }

  /// The key must not be there yet; positions are below 2^32 - 1.
  void insert(const PublicKey& key, std::size_t position) {
    reserve(++count_);
    place(Slot(hash_of(key), static_cast<std::uint32_t>(position + 1)));
  }

 private:
  class Slot {
   public:
    Slot() = default;
    Slot(std::uint32_t hash_, std::uint32_t position_) : hash(hash_), position(position_) {}
    std::uint32_t hash = 0;
    std::uint32_t position = 0;  // plus one; 0: free
  };

  static std::uint32_t hash_of(const PublicKey& key) { return static_cast<std::uint32_t>(std::hash<PublicKey>()(key)); }
  void place(Slot slot) {
    std::size_t i = slot.hash & (slots_.size() - 1);
    while (slots_[i].position != 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
  void rehash(std::size_t size) {
    std::vector<Slot> former(size);
    former.swap(slots_);
    for (const Slot& slot : former)
      if (slot.position != 0) place(slot);
  }

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

}  // namespace tornado::inline v1
