#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <functional>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::test {

/// Every durable or kernel-side step of a gateway passes here, so that a test can make one of them fail, pull the plug
/// at one of them, or decide in which order the steps of concurrent requests happen.
class Steps {
 public:
  enum class Fault { none, fail_before, fail_after, crash_before, crash_after };

  explicit Steps(Runtime& runtime) : runtime_(runtime) {}

  /// Counts from now on; step `at` (from 0) gets the fault, and so do those after it, `many` in all.
  void arm(int at, Fault fault, int many = 1) {
    count_ = 0;
    at_ = at;
    many_ = many;
    fault_ = fault;
    fired_ = false;
  }
  void disarm() { fault_ = Fault::none; }
  int count() const { return count_; }
  /// Something that is no step was done: the gateway has not come to rest.
  void note() { ++noted_; }
  int done() const { return count_ + noted_; }
  bool fired() const { return fired_; }

  /// A dead daemon reaches neither disk nor kernel.
  void power(bool on) { power_ = on; }
  bool power() const { return power_; }

  /// From now on steps wait until `release` lets one through.
  void hold(bool on) { holding_ = on; }
  std::size_t held() const { return waiting_.size(); }
  void release(std::size_t index) {
    Waiter* waiter = waiting_.at(index);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(index));
    waiter->go = true;
    waiter->wake.cancel();
  }

  /// Called before and after every step.
  std::function<void()> watch;

  template <class T>
  Task<T> pass(Task<T> step) {
    if (holding_) co_await wait();
    if (!power_) co_return Error(errc::store_unavailable, "the daemon is dead");
    bool here = fault_ != Fault::none && count_ >= at_ && count_ < at_ + many_;
    ++count_;
    if (watch) watch();
    if (here) fired_ = true;
    if (here && (fault_ == Fault::fail_before || fault_ == Fault::crash_before)) {
      power_ = fault_ == Fault::fail_before;
      co_return Error(errc::store_unavailable, "injected before the step");
    }
    auto done = co_await std::move(step);
    if (watch) watch();
    if (here) {
      power_ = fault_ == Fault::fail_after;
      co_return Error(errc::deadline_exceeded, "injected after the step");
    }
    co_return done;
  }

 private:
  struct Waiter {
    explicit Waiter(boost::asio::io_context& io) : wake(io, boost::asio::steady_timer::time_point::max()) {}
    boost::asio::steady_timer wake;
    bool go = false;
  };

  boost::asio::awaitable<void> wait() {
    Waiter self(runtime_.loop());
    waiting_.push_back(&self);
    while (!self.go) co_await self.wake.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  }

  Runtime& runtime_;
  std::vector<Waiter*> waiting_;
  int count_ = 0, noted_ = 0, at_ = -1, many_ = 1;
  Fault fault_ = Fault::none;
  bool fired_ = false, power_ = true, holding_ = false;
};

/// Explores every order of the steps of concurrent tasks: run after run, the last decision that still has an
/// alternative takes it.
class Schedule {
 public:
  /// Which of `options` goes next in this run. A run that is replayed has the choices it had before.
  std::size_t choose(std::size_t options) {
    if (at_ == choices_.size()) choices_.push_back({0, options});
    EXPECT_EQ(choices_[at_].second, options) << "decision " << at_ << " of a run that was replayed";
    return std::min(choices_[at_++].first, options - 1);
  }
  /// Prepares the next run; false: every order was seen.
  bool next() {
    at_ = 0;
    while (!choices_.empty() && choices_.back().first + 1 >= choices_.back().second) choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().first;
    return true;
  }

 private:
  std::vector<std::pair<std::size_t, std::size_t>> choices_;
  std::size_t at_ = 0;
};

}  // namespace tornado::test
