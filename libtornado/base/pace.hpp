#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Keeps bulk work on the loop short: `if (pace.due()) co_await pace.yield();` in a loop lets others run every 2 ms.
class Pace {
 public:
  explicit Pace(Runtime& runtime) : runtime_(runtime) {}
  bool due() const noexcept { return std::chrono::steady_clock::now() - since_ > std::chrono::milliseconds(2); }
  /// Resumes after whatever is ready now.
  boost::asio::awaitable<void> yield();

 private:
  Runtime& runtime_;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace tornado::inline v1
