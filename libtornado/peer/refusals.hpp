#pragma once

#include <array>
#include <optional>
#include <unordered_map>

#include "tornado/runtime.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Wanted peers that one lane refused, each in a row, and when they are tried again (I-28).
class Refusals {
 public:
  /// True: it is parked from now on, or was tried once more and is parked again.
  bool note(const PublicKey& key, Instant now) {
    Refusal& refusal = of_[key];
    const bool parks = ++refusal.count > std::ssize(waits_);
    refusal.again = now + (parks ? parked_for_ : waits_[static_cast<std::size_t>(refusal.count - 1)]);
    return parks;
  }
  void settle(const PublicKey& key) { of_.erase(key); }
  void clear() { of_.clear(); }
  template <class Pred>
  void keep_if(Pred&& wanted) {
    std::erase_if(of_, [&](const auto& entry) { return !wanted(entry.first); });
  }
  void try_again() {
    for (auto& [key, refusal] : of_) refusal.again = Instant();
  }

  bool empty() const noexcept { return of_.empty(); }
  /// Not to be tried yet.
  bool waits(const PublicKey& key, Instant now) const {
    auto it = of_.find(key);
    return it != of_.end() && now < it->second.again;
  }
  bool parked(const PublicKey& key) const {
    auto it = of_.find(key);
    return it != of_.end() && it->second.count > std::ssize(waits_);
  }
  /// When the first of them is to be tried again.
  std::optional<Instant> next() const {
    std::optional<Instant> out;
    for (const auto& [key, refusal] : of_)
      if (!out || refusal.again < *out) out = refusal.again;
    return out;
  }

 private:
  class Refusal {
   public:
    int count = 0;
    Instant again;
  };
  static constexpr std::array<Seconds, 2> waits_{Seconds(5), Seconds(30)};
  static constexpr Seconds parked_for_{3600};
  std::unordered_map<PublicKey, Refusal> of_;
};

}  // namespace tornado::inline v1
