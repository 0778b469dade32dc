#include <linux/netlink.h>

#include <thread>

#include "base/try.hpp"
#include "host/rtnl_codec.hpp"
#include "net/netlink_socket.hpp"
#include "seam/host_suite.hpp"
#include "support/network_lab.hpp"
#include "support/privileged.hpp"

namespace tornado {
namespace {

using seam::HostFixture;
using seam::HostSuite;

class MemoryFixture final : public HostFixture {
 public:
  explicit MemoryFixture(Runtime& runtime) : host_(runtime) {}
  Host& host() override { return host_; }
  void create_link(const std::string& name) override { host_.create_link(name); }

 private:
  MemoryHost host_;
};

/// In a namespace of its own, which the thread is in as long as the fixture lives: sysctls are the thread's.
class NetlinkFixture final : public HostFixture {
 public:
  explicit NetlinkFixture(Runtime& runtime) : inside_(namespace_), host_(netlink_host(runtime)) {}
  Host& host() override { return *host_; }
  void create_link(const std::string& name) override { lab::sh(namespace_, "ip link add " + name + " type bridge"); }
  const lab::Namespace& where() const { return namespace_; }

 private:
  lab::Namespace namespace_;
  lab::Inside inside_;
  std::unique_ptr<Host> host_;
};

std::unique_ptr<HostFixture> memory(Runtime& runtime) {
  return std::make_unique<MemoryFixture>(runtime);
}
std::unique_ptr<HostFixture> netlink(Runtime& runtime) {
  if (!lab::Namespace::available()) return nullptr;
  return std::make_unique<NetlinkFixture>(runtime);
}

/// Under a kernel with WireGuard, which is the vm suite.
class KernelFixture final : public HostFixture {
 public:
  explicit KernelFixture(Runtime& runtime) : inner_(runtime) {}
  Host& host() override { return inner_.host(); }
  void create_link(const std::string& name) override { inner_.create_link(name); }
  std::string kind() const override { return "wireguard"; }

 private:
  NetlinkFixture inner_;
};
std::unique_ptr<HostFixture> kernel(Runtime& runtime) {
  return std::make_unique<KernelFixture>(runtime);
}
std::vector<std::pair<std::string, seam::MakeHost>> under_a_kernel_with_wireguard() {
  if (std::getenv("TORNADO_KERNEL_WIREGUARD") == nullptr) return {};
  return {std::pair("netlink", seam::MakeHost(kernel))};
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HostSuite);
INSTANTIATE_TEST_SUITE_P(Kernel, HostSuite, testing::ValuesIn(under_a_kernel_with_wireguard()),
                         [](const auto& info) { return info.param.first; });
INSTANTIATE_TEST_SUITE_P(Implementations, HostSuite,
                         testing::Values(std::pair("memory", seam::MakeHost(memory)),
                                         std::pair("netlink", seam::MakeHost(netlink))),
                         [](const auto& info) { return info.param.first; });

class NetlinkHost : public testing::Test {
 protected:
  void SetUp() override {
    TORNADO_REQUIRE(lab::Namespace::available(), "network namespaces");
    fixture_.emplace(runtime_);
  }
  template <class T>
  auto run(Task<T> task) {
    return runtime_.wait(std::move(task)).value();
  }
  std::string sh(const std::string& command) { return lab::sh(fixture_->where(), command); }
  Host& host() { return fixture_->host(); }

  Runtime runtime_;
  std::optional<NetlinkFixture> fixture_;
};

TEST_F(NetlinkHost, WritesTheSecondBarrierAsIpShowsIt) {
  fixture_->create_link("tor0");
  run(host().set_link("tor0", true, std::nullopt));
  LanePolicy lane;
  lane.interface = "tor0";
  lane.pool = Prefix("10.9.0.0/24");
  lane.pool6 = Prefix("fd00:9::/64");
  auto wanted = barrier(lane, 4609);
  run(raise(host(), wanted));

  std::string routes = sh("ip route show table 4609; ip -6 route show table 4609; ip route; ip -6 route");
  for (const char* line :
       {"blackhole default", "blackhole default dev lo", "blackhole 10.9.0.0/24 proto static metric 2147483647",
        "blackhole fd00:9::/64 dev lo proto static metric 2147483647"})
    EXPECT_NE(routes.find(line), routes.npos) << line << "\n" << routes;
  std::string rules = sh("ip rule; ip -6 rule");
  EXPECT_NE(rules.find("100:\tfrom all iif tor0"), rules.npos) << rules;
  EXPECT_NE(rules.find("101:\tfrom 10.9.0.0/24 to 10.9.0.0/24 iif lo lookup main"), rules.npos) << rules;
  EXPECT_NE(rules.find("102:\tfrom 10.9.0.0/24 lookup 4609"), rules.npos) << rules;
  EXPECT_NE(rules.rfind("100:\tfrom all iif tor0"), rules.find("100:\tfrom all iif tor0")) << rules;
}

/// Connections from every address given, seen by connection tracking on their way out; their mark is what the firewall
/// sets in prerouting.
class Flows {
 public:
  Flows(const lab::Namespace& where, int ports) : where_(where), ports_(ports) {
    lab::sh(where,
            "ip link set lo up; sysctl -qw net.ipv6.ip_nonlocal_bind=1; for n in 10.0.0.0/8 192.0.2.0/24; do ip route "
            "add local $n dev lo; done; "
            "for n in fd00:8::/64 fd00:9::/64; do ip -6 route add local $n dev lo; done; "
            "nft 'table inet marks { chain output { type filter hook output priority 0; policy accept; "
            "ip saddr 10.0.0.0/8 ct mark set @nh,96,32; ip6 saddr fd00:8::/31 ct mark set @nh,160,32; }; }'");
  }
  void from(const std::string& source) {
    bool v4 = Address::parse(source)->is_v4();
    std::string local = v4 ? source + ":" : "[" + source + "]:";
    for (int i = 0; i < ports_; ++i)
      lab::Udp(where_, local + std::to_string(5000 + i)).send(v4 ? "192.0.2.1:7000" : "[fd00:8::7]:7000", "x");
  }
  int count(const std::string& source) {
    std::string family = Address::parse(source)->is_v4() ? "ipv4" : "ipv6";
    std::string found = lab::sh(where_, "conntrack -L -f " + family + " --orig-src " + source + " 2>/dev/null | wc -l");
    return std::stoi(found);
  }

 private:
  const lab::Namespace& where_;
  int ports_;
};

TEST_F(NetlinkHost, I25FlushesThePoolAndNothingElse) {
  constexpr int ports = 3;
  Flows flows(fixture_->where(), ports);
  // The addresses of IPv6 end in those of IPv4 and of each other: their marks are the same.
  std::vector<std::string> all = {"10.9.0.2",  "10.9.0.255",    "10.9.1.2",     "10.8.0.2",
                                  "192.0.2.9", "fd00:9::a09:2", "fd00:8::a09:2"};
  for (const std::string pool : {"10.9.0.0/24", "10.9.0.0/16", "10.8.0.0/15", "fd00:9::/64", "fd00:8::a09:0/112"}) {
    SCOPED_TRACE(pool);
    for (const std::string& source : all) flows.from(source);
    for (const std::string& source : all) ASSERT_EQ(flows.count(source), ports) << source;
    run(host().flush_network(Prefix(pool)));
    for (const std::string& source : all)
      EXPECT_EQ(flows.count(source), Prefix(pool).contains(*Address::parse(source)) ? 0 : ports) << source;
  }
}

TEST_F(NetlinkHost, I25FlushesMoreThanOneBatchHolds) {
  constexpr int ports = 700;
  Flows flows(fixture_->where(), ports);
  for (const char* source : {"10.9.0.2", "fd00:9::2", "fd00:8::2"}) flows.from(source);
  run(host().flush_network(Prefix("10.0.0.0/8")));
  run(host().flush_network(Prefix("fd00:9::/64")));
  EXPECT_EQ(flows.count("10.9.0.2"), 0);
  EXPECT_EQ(flows.count("fd00:9::2"), 0);
  EXPECT_EQ(flows.count("fd00:8::2"), ports);
}

TEST_F(NetlinkHost, WritesSysctlsOfItsNamespaceOnlyWhenTheyDiffer) {
  run(host().ensure_sysctl("net/ipv4/ip_forward", "1"));
  EXPECT_EQ(sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
  run(host().ensure_sysctl("net/ipv4/ip_forward", "1"));
  run(host().ensure_sysctl("net/ipv4/ip_forward", "0"));
  EXPECT_EQ(sh("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
  auto missing = runtime_.wait(host().ensure_sysctl("net/ipv4/no_such_thing", "1"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), errc::backend_failed);
}

TEST_F(NetlinkHost, TellsWhatTheKernelSaid) {
  fixture_->create_link("lane0");
  auto result = runtime_.wait(host().set_link("lane0", true, 4000000000U));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), errc::backend_failed);
  EXPECT_NE(result.error().detail().find("mtu"), std::string::npos) << result.error().detail();
}

TEST_F(NetlinkHost, ListsMoreLinksThanFitIntoOneDatagram) {
  // Few links, for the kernel takes seconds to clean up a namespace of many.
  sh("for i in $(seq 1 40); do echo link add l$i type bridge; for j in $(seq 1 10); do "
     "echo address add 10.$i.$j.1/24 dev l$i; done; done | ip -batch -");
  EXPECT_GE(run(host().links()).size(), 41U);
  EXPECT_EQ(run(host().addresses()).size(), 400U);
}

TEST_F(NetlinkHost, WithoutTheCapabilityChangesAreDenied) {
  fixture_->create_link("lane0");
  lab::Unprivileged unprivileged;
  RoutingRule rule;
  rule.priority = 1;
  rule.table = 1;
  LinkAddress address("lane0", *Address::parse("10.8.0.1"), 24);
  // A flush is sent by a thread of the pool, which this takes nothing from.
  for (auto& result : {runtime_.wait(host().set_link("lane0", true, std::nullopt)),
                       runtime_.wait(host().ensure_rule(rule)), runtime_.wait(host().ensure_address(address)),
                       runtime_.wait(host().ensure_sysctl("net/ipv4/ip_forward", "1"))}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), errc::permission_denied) << result.error().detail();
  }
  EXPECT_FALSE(run(host().links()).empty());
}

TEST_F(NetlinkHost, ATruncatedDatagramIsAnErrorAndTheNextRequestWorks) {
  for (const char* name : {"lane0", "lane1"}) fixture_->create_link(name);
  NetlinkSocket socket(runtime_, NETLINK_ROUTE, {}, 512);
  auto shown = runtime_.wait(socket.exchange(rtnl::get_link("lane0")));
  ASSERT_FALSE(shown);
  EXPECT_EQ(shown.error().code(), errc::protocol_error);
  auto listed = runtime_.wait(socket.exchange(rtnl::list_links()));
  ASSERT_TRUE(listed) << "a dump is repeated with a larger buffer: " << listed.error().detail();
  EXPECT_GE(listed->messages.size(), 3U);
  auto removed = runtime_.wait(socket.exchange(rtnl::remove_link(4605)));
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->ack.error, ENODEV);
}

/// A reader that holds up everybody.
class SlowReader final : public NetlinkSocket::Reader {
 public:
  void begin() override {}
  Result<void> take(const NetlinkMessage&) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    return {};
  }
};

TEST_F(NetlinkHost, TheTimeOfSendingIsThatOfTheKernelAndNotOfWaiting) {
  for (const char* name : {"lane0", "lane1"}) fixture_->create_link(name);
  NetlinkSocket socket(runtime_, NETLINK_ROUTE);
  auto slow = [](NetlinkSocket& on, SlowReader& reader) -> Task<void> {
    TRY(NetlinkReply reply, co_await on.dump(rtnl::list_links(), reader));
    co_return reply.check("list links");
  };
  SlowReader reader;
  const auto began = std::chrono::steady_clock::now();
  Background first = runtime_.spawn(slow(socket, reader));
  NetlinkReply reply = runtime_.wait(socket.exchange(rtnl::get_link("lane0"))).value();
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_GT(reply.sending, std::chrono::nanoseconds(0));
  // However long the kernel itself took: what the reader before it took is no part of that.
  EXPECT_GT(took - reply.sending, std::chrono::milliseconds(85));
}

TEST_F(NetlinkHost, ManyRequestsAtOnceKeepTheirAnswers) {
  fixture_->create_link("lane0");
  int done = 0;
  auto worker = [](Host& host, int i, int& done) -> Task<void> {
    LinkAddress address("lane0", Address::from_v4(0x0a080000U + static_cast<std::uint32_t>(i)), 24);
    auto added = co_await host.ensure_address(address);
    auto links = co_await host.links();
    bool found = added.has_value() && links.has_value() && !links->empty();
    done += found;
    co_return Result<void>();
  };
  {
    std::vector<Background> all;
    for (int i = 1; i <= 50; ++i) all.push_back(runtime_.spawn(worker(host(), i, done)));
    auto idle = [](Runtime& runtime, int& done) -> Task<void> {
      for (int turn = 0; turn < 5000 && done < 50; ++turn) {
        bool slept = co_await runtime.sleep_until(runtime.now() + std::chrono::milliseconds(1));
        if (!slept) break;
      }
      co_return Result<void>();
    };
    run(idle(runtime_, done));
  }
  EXPECT_EQ(done, 50);
  EXPECT_EQ(run(host().addresses()).size(), 50U);
}

TEST(MemoryHost, InjectedFailuresChangeNothing) {
  Runtime runtime;
  MemoryHost host(runtime, {"wg0"});
  host.fail_next(1, errc::permission_denied);
  EXPECT_EQ(runtime.wait(host.remove_link("wg0")).error().code(), errc::permission_denied);
  EXPECT_EQ(runtime.wait(host.links()).value().size(), 1U);
  EXPECT_TRUE(runtime.wait(host.remove_link("wg0")));
  EXPECT_TRUE(runtime.wait(host.links()).value().empty());
  EXPECT_TRUE(runtime.wait(host.ensure_sysctl("net/ipv4/ip_forward", "1")));
  EXPECT_EQ(host.sysctl("net/ipv4/ip_forward"), "1");
}

}  // namespace
}  // namespace tornado
