#pragma once

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A clock that moves only when told to. Sleepers that have become due wake in order at the next `Runtime::settle` or
/// `Runtime::wait`. One thread at a time.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(Instant start = Instant(std::chrono::milliseconds(1'700'000'000'000))) : now_(start) {}
  Instant now() const override { return now_; }
  void advance(std::chrono::milliseconds by) { now_ += by; }
  void set(Instant now) { now_ = now; }

 private:
  Instant now_;
};

}  // namespace tornado::inline v1
