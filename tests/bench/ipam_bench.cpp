// Allocation and release in a /16 that is 99 % full: throughput, and the distribution of single operations.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>

#include "tornado/ipam.hpp"
#include "tornado/manual_clock.hpp"

namespace tornado {
namespace {

void allocate_and_release(benchmark::State& state) {
  ManualClock clock;
  Ipam ipam(clock, Seconds(900));
  Lane vpn("vpn"), tor("tor");
  ipam.add(Pool(vpn, Prefix("10.8.0.0/16"))).value();
  ipam.add(Pool(tor, Prefix("10.9.0.0/16"))).value();
  const std::vector<Lane> lanes{vpn, tor};
  const auto full = static_cast<int>(ipam.usage(vpn).size * 99 / 100);
  for (int i = 0; i < full; ++i) ipam.lease(Owner("holder-" + std::to_string(i)), lanes, Seconds(60)).value();
  std::vector<std::int64_t> times;
  times.reserve(1 << 22);
  int number = 0;
  for (auto _ : state) {
    Owner owner("guest-" + std::to_string(number++));
    auto began = std::chrono::steady_clock::now();
    auto lease = ipam.lease(owner, lanes, Seconds(60)).value();
    ipam.release(lease.id).value();
    auto took = std::chrono::steady_clock::now() - began;
    times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
    clock.advance(Seconds(2));
  }
  std::sort(times.begin(), times.end());
  state.counters["p50_us"] = static_cast<double>(times[times.size() / 2]) / 1000;
  state.counters["p99_us"] = static_cast<double>(times[times.size() * 99 / 100]) / 1000;
}
BENCHMARK(allocate_and_release)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
