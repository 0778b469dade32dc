#include "seam/live_store_suite.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

class MemoryLiveFactory {
 public:
  MemoryLiveFactory() : runtime_(RuntimeOptions().clock(clock_)), live_(memory_live_store(runtime_)) {}
  Runtime& runtime() { return runtime_; }
  LiveStore& live() { return *live_; }
  void pass(Seconds time) { clock_.advance(time); }

 private:
  ManualClock clock_;
  Runtime runtime_;
  std::unique_ptr<LiveStore> live_;
};

}  // namespace

namespace tornado::inline v1 {
INSTANTIATE_TYPED_TEST_SUITE_P(Memory, LiveStoreSuite, MemoryLiveFactory);
}
