#include "base/cancellation.hpp"

#include <gtest/gtest.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>

#include "tornado/manual_clock.hpp"

namespace asio = boost::asio;

namespace tornado {
namespace {

/// A sleeper for three seconds beside one for five; cancelled while it runs, if it is to be.
class FirstOf : public ::testing::Test {
 protected:
  enum class Cancelled { no, before, meanwhile };

  static Task<void> sleep(Runtime& runtime, Seconds time, bool& begun, bool& slept) {
    begun = true;
    slept = co_await runtime.sleep_until(runtime.now() + time);
    co_return Result<void>();
  }
  asio::awaitable<void> race(Cancelled when) {
    co_await asio::this_coro::throw_if_cancelled(false);
    if (when == Cancelled::before) signal_.emit(asio::cancellation_type::terminal);
    auto three = sleep(runtime_, Seconds(3), three_begun_, three_slept_);
    auto five = sleep(runtime_, Seconds(5), five_begun_, five_slept_);
    auto first = co_await first_of(std::move(three), std::move(five));
    if (first) index_ = first->index();
    cancelled_ = co_await is_cancelled();
  }
  void begin(Cancelled when) {
    asio::co_spawn(runtime_.loop(), race(when),
                   asio::bind_cancellation_slot(signal_.slot(), [this](std::exception_ptr) { ended_ = true; }));
    runtime_.settle();
  }

  ManualClock clock_;
  Runtime runtime_{RuntimeOptions().clock(clock_)};
  asio::cancellation_signal signal_;
  bool three_begun_ = false, five_begun_ = false, three_slept_ = false, five_slept_ = false;
  bool ended_ = false, cancelled_ = false;
  std::optional<std::size_t> index_;
};

TEST_F(FirstOf, EndsWithTheFirstAndCancelsTheOther) {
  begin(Cancelled::no);
  clock_.advance(Seconds(2));
  runtime_.settle();
  EXPECT_TRUE(three_begun_ && five_begun_);
  EXPECT_FALSE(ended_);
  clock_.advance(Seconds(1));
  runtime_.settle();
  EXPECT_TRUE(ended_);
  EXPECT_EQ(index_, 0u);
  EXPECT_TRUE(three_slept_);
  EXPECT_FALSE(five_slept_);
  EXPECT_FALSE(cancelled_);
}

TEST_F(FirstOf, BeginsNothingForWhoWasCancelledBefore) {
  begin(Cancelled::before);
  EXPECT_TRUE(ended_) << "it waits for what nobody ends";
  EXPECT_FALSE(index_);
  EXPECT_FALSE(three_begun_ || five_begun_);
  EXPECT_TRUE(cancelled_);
  // Should it wait after all.
  clock_.advance(Seconds(5));
  runtime_.settle();
}

TEST_F(FirstOf, IsCancelledMeanwhile) {
  begin(Cancelled::meanwhile);
  EXPECT_FALSE(ended_);
  signal_.emit(asio::cancellation_type::terminal);
  runtime_.settle();
  EXPECT_TRUE(ended_);
  EXPECT_FALSE(three_slept_ || five_slept_);
  EXPECT_TRUE(cancelled_);
}

}  // namespace
}  // namespace tornado
