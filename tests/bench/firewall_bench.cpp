#include <benchmark/benchmark.h>
#include <linux/netlink.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>

#include "base/pace.hpp"
#include "firewall/nft_codec.hpp"
#include "net/netlink_socket.hpp"
#include "support/network_lab.hpp"
#include "support/scratch.hpp"
#include "tornado/firewall.hpp"
#include "tornado/host.hpp"

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

/// A lane between Tor and maintenance, with as many devices known to its limits as the argument says, on both sides of
/// them (I-26: at most 5 ms with 10,000).
void BM_mode_tor_maintenance(benchmark::State& state) {
  Kernel kernel;
  GatewayPolicy in = policy(2, 4);
  in.connections_per_device = 4096;
  LanePolicy& lane = in.lanes[1];
  lane.pool6 = Prefix("fd00:1::/64");
  lane.gateway6 = lane.pool6->at(1);
  std::shared_ptr<const Ruleset> rulesets[2];
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance}) {
    lane.mode = mode;
    rulesets[mode == LaneMode::maintenance] = compile(in);
  }
  kernel.runtime().wait(kernel.firewall().apply(rulesets[0])).value();
  test::Scratch scratch;
  {
    std::ofstream script(scratch / "devices");
    for (const char* kind : {"through", "local"}) {
      script << "add element inet tornado lane_lane1_" << kind << "4 { ";
      for (std::int64_t i = 0; i < state.range(0); ++i)
        script << (i == 0 ? "" : ", ") << lane.pool.at(2 + static_cast<std::uint64_t>(i)).str();
      script << " }\nadd element inet tornado lane_lane1_" << kind << "6 { ";
      for (std::int64_t i = 0; i < state.range(0); ++i)
        script << (i == 0 ? "" : ", ") << lane.pool6->at(2 + static_cast<std::uint64_t>(i)).str();
      script << " }\n";
    }
  }
  kernel.run("nft -f " + (scratch / "devices"));
  double longest = 0;
  std::size_t turn = 0;
  for (auto _ : state) {
    auto before = std::chrono::steady_clock::now();
    kernel.runtime().wait(kernel.firewall().mode(rulesets[++turn % 2], Lane("lane1"))).value();
    std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - before;
    longest = std::max(longest, took.count());
  }
  state.counters["longest_ms"] = longest;
}
BENCHMARK(BM_mode_tor_maintenance)->Arg(1)->Arg(10000)->Unit(benchmark::kMillisecond)->MinTime(2);

/// What follows a change of mode: the connections of 10,000 devices of a pool go, of 20,000 tracked. First argument: 1
/// is IPv6, whose connections are looked for one by one. The longest turn of the loop is the point.
void BM_flush_network(benchmark::State& state) {
  constexpr std::uint64_t devices = 10'000;
  bool v6 = state.range(0) == 1;
  lab::Namespace where;
  lab::Inside inside(where);
  lab::sh(where,
          "ip link set lo up; sysctl -qw net.ipv6.ip_nonlocal_bind=1; ip route add local 10.0.0.0/8 dev lo; "
          "ip -6 route add local fd00::/16 dev lo; "
          "nft 'table inet marks { chain output { type filter hook output priority 0; policy accept; "
          "ip saddr 10.0.0.0/8 ct mark set @nh,96,32; ip6 saddr fd00::/16 ct mark set @nh,160,32; }; }'");
  Runtime runtime;
  auto host = netlink_host(runtime);
  Prefix ours(v6 ? "fd00:9::/64" : "10.9.0.0/16"), theirs(v6 ? "fd00:8::/64" : "10.8.0.0/16");
  double longest = 0, longest_cpu = 0;
  for (auto _ : state) {
    state.PauseTiming();
    for (const Prefix& pool : {ours, theirs})
      for (std::uint64_t i = 2; i < 2 + devices; ++i)
        lab::Udp(where, Endpoint(pool.at(i), 0).str()).send(v6 ? "[fd00:7::1]:7000" : "10.7.0.1:7000", "x");
    state.ResumeTiming();
    LoopWatch watch(runtime);
    runtime.wait(host->flush_network(ours)).value();
    longest = std::max(longest, watch.longest_ms());
    longest_cpu = std::max(longest_cpu, watch.longest_cpu_ms());
  }
  state.counters["longest_ms"] = longest;
  state.counters["longest_cpu_ms"] = longest_cpu;
}
BENCHMARK(BM_flush_network)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->Iterations(5);

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
