#include <benchmark/benchmark.h>

#include <random>

#include "firewall/ruleset.hpp"
#include "support/network_lab.hpp"
#include "tornado/firewall.hpp"
#include "tornado/limits.hpp"

/// A policy of 500 rules for 5,000 users, all connected, from the text to the kernel; and what a packet costs under it.
/// Needs network namespaces.
namespace tornado {
namespace {

constexpr int rules = 500, users = 5000;

GatewayPolicy two_lanes() {
  GatewayPolicy out;
  for (int i = 0; i < 2; ++i) {
    LanePolicy lane;
    lane.lane = Lane(i == 0 ? "vpn" : "tor");
    lane.interface = i == 0 ? "vpn0" : "tor0";
    lane.pool = Prefix("10." + std::to_string(8 + 2 * i) + ".0.0/15");
    lane.gateway = lane.pool.at(1);
    lane.mode = LaneMode::open;
    out.lanes.push_back(lane);
  }
  return out;
}

/// `rules_per_user` 0: every rule names everybody. Else each user is named by so many, picked at random, which makes
/// nearly every user a class of his own. `places`: rules open a network each, not a port everywhere.
std::string document(int rules_per_user, bool places) {
  std::mt19937 random(1);
  std::vector<std::string> who(rules);
  for (int user = 0; user < users; ++user)
    for (int i = 0; i < rules_per_user; ++i) who[random() % rules] += ",\"user:user" + std::to_string(user) + "\"";
  std::string out = "{\"default\":\"nothing\",\"rights\":[";
  for (std::size_t i = 0; i < rules; ++i) {
    std::string number = std::to_string(i);
    std::string names = rules_per_user == 0 ? "\"everyone\"" : who[i].substr(who[i].empty() ? 0 : 1);
    if (names.empty()) continue;
    out += (out.ends_with('[') ? "" : ",") + ("{\"name\":\"r" + number) + "\",\"who\":[" + names + "],\"to\":[\"" +
           (places ? "10.200." + std::to_string(i / 2) + "." + (i % 2 == 0 ? "0" : "128") + "/25" : "any") +
           "\"],\"ports\":[\"tcp/" + std::to_string(1000 + i) + (places ? "-" + std::to_string(2000 + i) : "") + "\"]}";
  }
  return out + "]}";
}

std::shared_ptr<AccessRules> rules_of(const AccessPolicy& policy) {
  auto out = std::make_shared<AccessRules>();
  out->grants = policy.grants();
  for (int user = 0; user < users; ++user) {
    std::uint32_t access_class = policy.class_of("user" + std::to_string(user));
    for (std::uint32_t net : {0x0a080000U, 0x0a0a0000U})
      out->devices.emplace_back(Address::from_v4(net + 2 + static_cast<std::uint32_t>(user)), access_class);
  }
  return out;
}

/// Read, compiled and in the kernel, in one transaction.
void BM_policy_to_kernel(benchmark::State& state) {
  lab::Namespace where;
  lab::Inside inside(where);
  Runtime runtime;
  auto firewall = nft_firewall(runtime);
  GatewayPolicy lanes = two_lanes();
  runtime.wait(firewall->apply(compile(lanes))).value();
  const std::string text = document(static_cast<int>(state.range(0)), state.range(1) == 1);
  std::size_t grants = 0;
  for (auto _ : state) {
    AccessPolicy policy = AccessPolicy::parse(text).value();
    lanes.access = rules_of(policy);
    runtime.wait(firewall->access(compile(lanes))).value();
    grants = lanes.access->grants.size();
    state.PauseTiming();
    if (!runtime.wait(firewall->intact()).value())
      state.SkipWithError("what we did ourselves is taken for a stranger's");
    state.ResumeTiming();
  }
  state.counters["grants"] = static_cast<double>(grants);
}
BENCHMARK(BM_policy_to_kernel)
    ->ArgNames({"rules_per_user", "places"})
    ->Args({0, 0})
    ->Args({0, 1})
    ->Args({10, 0})
    ->Args({5, 1})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5);

void BM_one_device(benchmark::State& state) {
  lab::Namespace where;
  lab::Inside inside(where);
  Runtime runtime;
  auto firewall = nft_firewall(runtime);
  GatewayPolicy lanes = two_lanes();
  lanes.access = rules_of(AccessPolicy::parse(document(10, false)).value());
  runtime.wait(firewall->apply(compile(lanes))).value();
  const DeviceAccess device(Address::from_v4(0x0a09ff00U), open_class);
  bool there = false;
  for (auto _ : state) {
    std::vector<DeviceAccess> changed;
    std::vector<Address> gone;
    if (there)
      gone.push_back(device.address);
    else
      changed.push_back(device);
    there = !there;
    runtime.wait(firewall->devices(std::move(changed), std::move(gone))).value();
  }
}
BENCHMARK(BM_one_device)->Unit(benchmark::kMicrosecond);

/// A gateway with one device that sends datagrams through it into a sink, and so many that are known; 0: without a
/// policy. The device is of the class that was compiled last and is granted by a range, the longest way through the
/// rules.
class Way {
 public:
  explicit Way(std::int64_t devices) {
    // The far end of the sink takes nothing in: the address is of another card.
    lab::sh(gateway_,
            "ip link set lo up; ip link add vpn0 address 02:00:00:00:00:01 type veth peer name eth0 address "
            "02:00:00:00:00:02 netns /proc/" +
                std::to_string(::getpid()) + "/fd/" + std::to_string(device_.fd()) +
                "; ip address add 10.8.0.1/15 dev vpn0; ip link set vpn0 up; ip link add sink type veth peer name end; "
                "ip address add 192.0.2.1/24 dev sink; ip link set sink up; ip link set end up; "
                "ip route add default via 192.0.2.2; ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:09 dev sink nud "
                "permanent; sysctl -qw net.ipv4.ip_forward=1");
    lab::sh(device_,
            "ip address add 10.8.0.2/15 dev eth0; ip link set eth0 up; ip route add default via 10.8.0.1; "
            "ip neigh replace 10.8.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    GatewayPolicy lanes = two_lanes();
    if (devices > 0) lanes.access = rules_for(devices);
    lab::Inside inside(gateway_);
    firewall_ = nft_firewall(runtime_);
    runtime_.wait(firewall_->apply(compile(lanes))).value();
    socket_ = std::make_unique<lab::Udp>(device_, "10.8.0.2:0");
    before_ = passed();
  }
  void send() {
    socket_->send(to_, payload_);
    ++sent_;
  }
  bool all_arrived() const { return passed() - before_ >= sent_ * 9 / 10; }

 private:
  static std::shared_ptr<AccessRules> rules_for(std::int64_t devices) {
    auto access = std::make_shared<AccessRules>();
    for (std::uint32_t i = 0; i < 500; ++i)
      access->grants.emplace_back(first_class, Prefix(Address::from_v4(0x0ac80000U + (i << 8)), 24),
                                  AccessProtocol::tcp, 80, 90);
    access->grants.emplace_back(first_class, Prefix("198.51.100.0/24"), AccessProtocol::udp, 7000, 7100);
    for (std::int64_t i = 0; i < devices; ++i)
      access->devices.emplace_back(Address::from_v4(0x0a080002U + static_cast<std::uint32_t>(i)), first_class);
    return access;
  }
  long long passed() const {
    return std::stoll(lab::sh(gateway_, "ip -s link show sink | awk '/TX:/ { getline; print $2 }'"));
  }

  lab::Namespace device_, gateway_;
  Runtime runtime_;
  std::unique_ptr<Firewall> firewall_;
  std::unique_ptr<lab::Udp> socket_;
  const std::string payload_ = std::string(100, 'x');
  const Endpoint to_ = lab::endpoint("198.51.100.1:7050");
  long long before_ = 0, sent_ = 0;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

/// Three gateways in turns, a hundred packets each; medians of all turns, and of what two turns beside each other have
/// in common.
void BM_packet(benchmark::State& state) {
  Way ways[] = {Way(0), Way(10), Way(10'000)};
  std::vector<double> took[3], ratio;
  std::size_t first = 0;
  for (auto _ : state) {
    double now[3];
    // Whoever comes first finds the caches otherwise than who comes after.
    for (std::size_t i = 0; i < 3; ++i) {
      const std::size_t which = (first + i) % 3;
      const auto began = std::chrono::steady_clock::now();
      for (int packet = 0; packet < 100; ++packet) ways[which].send();
      const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - began;
      took[which].push_back(now[which] = spent.count() / 100);
    }
    ++first;
    ratio.push_back(now[2] / now[1]);
  }
  for (const Way& way : ways)
    if (!way.all_arrived()) state.SkipWithError("the packets do not arrive");
  state.counters["no_policy_ns"] = median(took[0]);
  state.counters["10_devices_ns"] = median(took[1]);
  state.counters["10000_devices_ns"] = median(took[2]);
  state.counters["10000_to_10"] = median(ratio);
}
BENCHMARK(BM_packet)->Unit(benchmark::kMillisecond)->Iterations(3000)->Repetitions(5);

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
