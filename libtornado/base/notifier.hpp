#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A revision that coroutines wait for: `notify` moves it on and wakes every waiter. Loop thread.
class Notifier {
 public:
  explicit Notifier(Runtime& runtime);
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  /// Starts at 1, so that waiting for a revision after 0 returns at once.
  std::uint64_t revision() const noexcept;
  void notify();
  /// Waits until the revision is greater than `since`. False: cancelled, or the Notifier is gone.
  boost::asio::awaitable<bool> wait(std::uint64_t since);

 private:
  struct State;
  static boost::asio::awaitable<bool> wait_on(std::shared_ptr<State> state, std::uint64_t since);
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
