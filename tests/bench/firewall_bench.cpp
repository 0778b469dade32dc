#include <benchmark/benchmark.h>
#include <linux/netlink.h>

#include <algorithm>
#include <ctime>
#include <fstream>

#include "base/pace.hpp"
#include "firewall/nft_codec.hpp"
#include "net/netlink_socket.hpp"
#include "support/network_lab.hpp"
#include "support/scratch.hpp"
#include "tornado/firewall.hpp"

/// Small changes execute on the loop, large ones beside it: what both cost there. Needs network namespaces.
namespace tornado {
namespace {

GatewayPolicy policy(int lanes, int endpoints) {
  GatewayPolicy out;
  for (int i = 0; i < lanes; ++i) {
    LanePolicy lane;
    lane.lane = Lane("lane" + std::to_string(i));
    lane.interface = "wg" + std::to_string(i);
    lane.pool = Prefix("10." + std::to_string(i) + ".0.0/16");
    lane.gateway = lane.pool.at(1);
    lane.mode = LaneMode::open;
    out.lanes.push_back(lane);
  }
  for (int i = 0; i < endpoints; ++i)
    out.api.push_back(Endpoint(Address::from_v4(0xc0000201U + static_cast<std::uint32_t>(i)), 4605));
  return out;
}

void BM_compile_and_encode(benchmark::State& state) {
  GatewayPolicy in = policy(static_cast<int>(state.range(0)), 4);
  for (auto _ : state) benchmark::DoNotOptimize(nft::replace_table("tornado", *compile(in)));
}
BENCHMARK(BM_compile_and_encode)->Arg(2)->Arg(20);

class Kernel {
 public:
  Kernel() : inside_(namespace_), firewall_(nft_firewall(runtime_)) {}
  Firewall& firewall() { return *firewall_; }
  Runtime& runtime() { return runtime_; }
  void run(const std::string& command) { lab::sh(namespace_, command); }

 private:
  lab::Namespace namespace_;
  lab::Inside inside_;
  Runtime runtime_;
  std::unique_ptr<Firewall> firewall_;
};

void BM_apply(benchmark::State& state) {
  Kernel kernel;
  auto ruleset = compile(policy(static_cast<int>(state.range(0)), 4));
  for (auto _ : state) kernel.runtime().wait(kernel.firewall().apply(ruleset)).value();
}
BENCHMARK(BM_apply)->Arg(2)->Arg(20);

void BM_mode(benchmark::State& state) {
  Kernel kernel;
  auto ruleset = compile(policy(2, 4));
  kernel.runtime().wait(kernel.firewall().apply(ruleset)).value();
  for (auto _ : state) kernel.runtime().wait(kernel.firewall().mode(ruleset, Lane("lane1"))).value();
}
BENCHMARK(BM_mode);

void BM_api(benchmark::State& state) {
  Kernel kernel;
  GatewayPolicy in = policy(2, static_cast<int>(state.range(0)));
  kernel.runtime().wait(kernel.firewall().apply(compile(in))).value();
  for (auto _ : state) kernel.runtime().wait(kernel.firewall().api(in.api)).value();
}
BENCHMARK(BM_api)->Arg(4)->Arg(1000);

/// The longest turn of the loop: of the clock, and of its thread's processor time, which a busy machine does not
/// lengthen.
class LoopWatch {
 public:
  explicit LoopWatch(Runtime& runtime) : watching_(runtime.spawn(watch(runtime, *this))) {}
  ~LoopWatch() { over_ = true; }
  double longest_ms() const { return longest_; }
  double longest_cpu_ms() const { return longest_cpu_; }

 private:
  static double now_ms(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
  }

  static Task<void> watch(Runtime& runtime, LoopWatch& self) {
    Pace pace(runtime);
    double before = now_ms(CLOCK_MONOTONIC), cpu_before = now_ms(CLOCK_THREAD_CPUTIME_ID);
    while (!self.over_) {
      co_await pace.yield();
      double now = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_THREAD_CPUTIME_ID);
      self.longest_ = std::max(self.longest_, now - before);
      self.longest_cpu_ = std::max(self.longest_cpu_, cpu - cpu_before);
      before = now;
      cpu_before = cpu;
    }
    co_return Result<void>();
  }

  bool over_ = false;
  double longest_ = 0, longest_cpu_ = 0;
  Background watching_;
};

/// How long the loop is held by a table with that many elements, notifications of it included (I-26).
void BM_loop_held_by_apply(benchmark::State& state) {
  Kernel kernel;
  auto ruleset = compile(policy(2, static_cast<int>(state.range(0))));
  double longest = 0, longest_cpu = 0;
  for (auto _ : state) {
    LoopWatch watch(kernel.runtime());
    kernel.runtime().wait(kernel.firewall().apply(ruleset)).value();
    if (!kernel.runtime().wait(kernel.firewall().intact()).value()) state.SkipWithError("not intact");
    longest = std::max(longest, watch.longest_ms());
    longest_cpu = std::max(longest_cpu, watch.longest_cpu_ms());
  }
  state.counters["longest_ms"] = longest;
  state.counters["longest_cpu_ms"] = longest_cpu;
}
BENCHMARK(BM_loop_held_by_apply)->Arg(4)->Arg(999)->Arg(40000)->Unit(benchmark::kMillisecond)->Iterations(20);

/// The same transaction if it is built and sent by the loop.
void BM_loop_held_without_the_pool(benchmark::State& state) {
  lab::Namespace where;
  lab::Inside inside(where);
  Runtime runtime;
  NetlinkSocket socket(runtime, NETLINK_NETFILTER);
  auto ruleset = compile(policy(2, static_cast<int>(state.range(0))));
  double longest = 0, longest_cpu = 0;
  for (auto _ : state) {
    LoopWatch watch(runtime);
    runtime.wait(socket.transact(nft::replace_table("tornado", *ruleset))).value().check("apply").value();
    longest = std::max(longest, watch.longest_ms());
    longest_cpu = std::max(longest_cpu, watch.longest_cpu_ms());
  }
  state.counters["longest_ms"] = longest;
  state.counters["longest_cpu_ms"] = longest_cpu;
}
BENCHMARK(BM_loop_held_without_the_pool)->Arg(40000)->Unit(benchmark::kMillisecond)->Iterations(20);

/// How long the loop is held by looking at somebody else's chain with that many rules (I-26).
void BM_loop_held_by_foreign_drops(benchmark::State& state) {
  Kernel kernel;
  std::string rules;
  for (std::int64_t i = 0; i < state.range(0); ++i)
    rules += "ip saddr " + Address::from_v4(0x0b000001U + static_cast<std::uint32_t>(i)).str() + " counter drop; ";
  test::Scratch scratch;
  std::ofstream(scratch / "list")
      << "table ip blocklist { chain input { type filter hook input priority 0; policy accept; " << rules << "}; }";
  kernel.run("nft -f " + (scratch / "list"));
  double longest = 0, longest_cpu = 0;
  for (auto _ : state) {
    state.PauseTiming();
    kernel.run("nft add table ip other; nft delete table ip other");  // another generation
    state.ResumeTiming();
    LoopWatch watch(kernel.runtime());
    if (!kernel.runtime().wait(kernel.firewall().foreign_drops()).value().empty()) state.SkipWithError("drops");
    longest = std::max(longest, watch.longest_ms());
    longest_cpu = std::max(longest_cpu, watch.longest_cpu_ms());
  }
  state.counters["longest_ms"] = longest;
  state.counters["longest_cpu_ms"] = longest_cpu;
}
BENCHMARK(BM_loop_held_by_foreign_drops)->Arg(4)->Arg(20000)->Unit(benchmark::kMillisecond)->Iterations(10);

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
