#include <benchmark/benchmark.h>

#include "firewall/nft_codec.hpp"
#include "support/network_lab.hpp"
#include "tornado/firewall.hpp"

/// The firewall executes on the loop: what it costs there. Needs network namespaces.
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

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
