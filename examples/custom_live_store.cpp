// A live store of one's own, here one that counts what is published, and the suite that says whether it is a good one.
#include <gtest/gtest.h>
#include <tornado/manual_clock.hpp>

#include "seam/live_store_suite.hpp"

using namespace tornado;

class CountingStore final : public LiveStore {
 public:
  explicit CountingStore(Runtime& runtime) : inner_(memory_live_store(runtime)) {}
  Task<std::string> generation() override { return inner_->generation(); }
  Task<void> put(SessionRecord r) override { return ++puts, inner_->put(std::move(r)); }
  Task<void> erase(std::string id, Instance i) override { return inner_->erase(std::move(id), std::move(i)); }
  Task<std::vector<SessionRecord>> list(std::string a, int n) override { return inner_->list(std::move(a), n); }
  Task<Verdict> hit(std::string k, ThrottleRule rule) override { return inner_->hit(std::move(k), rule); }
  Task<Verdict> peek(std::string k) override { return inner_->peek(std::move(k)); }
  Task<void> clear(std::string k) override { return inner_->clear(std::move(k)); }
  Task<std::vector<ThrottleState>> throttled() override { return inner_->throttled(); }
  Task<bool> claim(std::string k, Seconds ttl) override { return inner_->claim(std::move(k), ttl); }
  Task<void> keep(std::string k, std::string v, Seconds ttl) override {
    return inner_->keep(std::move(k), std::move(v), ttl);
  }
  Task<std::string> take(std::string k) override { return inner_->take(std::move(k)); }
  Task<void> publish(std::string c, std::string json) override {
    return inner_->publish(std::move(c), std::move(json));
  }
  Task<void> send(std::string g, std::string json) override { return inner_->send(std::move(g), std::move(json)); }
  Task<std::vector<Command>> receive(std::string g, std::string upto) override {
    return inner_->receive(std::move(g), std::move(upto));
  }
  int puts = 0;

 private:
  std::unique_ptr<LiveStore> inner_;
};

class CountingFactory {
 public:
  Runtime& runtime() { return runtime_; }
  CountingStore& live() { return store_; }
  void pass(Seconds time) { clock_.advance(time); }

 private:
  ManualClock clock_;
  Runtime runtime_{RuntimeOptions().clock(clock_)};
  CountingStore store_{runtime_};
};

namespace tornado::inline v1 {
INSTANTIATE_TYPED_TEST_SUITE_P(Counting, LiveStoreSuite, CountingFactory);
}
