#include "base/task_group.hpp"

#include <gtest/gtest.h>

#include "base/pace.hpp"
#include "tornado/manual_clock.hpp"

namespace tornado {
namespace {

/// Ends some turns of the loop after it was told to.
Task<void> end_slowly(Runtime& runtime, bool& ended) {
  (void)co_await runtime.sleep_until(Instant::max());
  Pace pace(runtime);
  for (int i = 0; i < 20; ++i) co_await pace.yield();
  ended = true;
  co_return Error(errc::cancelled);
}

/// What `run_closing` does when the gateway stops.
Task<void> wait_for_its_own(Runtime& runtime, bool& ended, bool& ended_before) {
  TaskGroup group(runtime);
  group.add("slow", end_slowly(runtime, ended));
  co_await group.settled(1);
  if (group.size() > 0) co_await group.stop_all();
  ended_before = ended;
  co_return Error(errc::cancelled);
}

TEST(TaskGroup, StoppingWaitsForItsTasksThoughItsCallerWasCancelled) {
  ManualClock clock;
  Runtime runtime(RuntimeOptions().clock(clock));
  bool ended = false, ended_before = false;
  {
    Background outer = runtime.spawn(wait_for_its_own(runtime, ended, ended_before));
    runtime.settle();
    EXPECT_FALSE(ended);
  }
  runtime.settle();
  EXPECT_TRUE(ended);
  EXPECT_TRUE(ended_before) << "the group went before its task did";
}

}  // namespace
}  // namespace tornado
