// What is not as it should be on the host, and that a pass sets that and nothing else.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class HostDifference : public ::testing::Test {
 protected:
  HostDifference() { world.boot().value(); }
  std::vector<std::string> lines() { return world.runtime.wait(world.gateway->difference()).value().host; }
  void reconcile() { world.runtime.wait(world.gateway->reconcile()).value(); }
  template <class T>
  void run(Task<T> task) {
    world.runtime.wait(std::move(task)).value();
  }
  World world;
};

TEST_F(HostDifference, APassThatFindsNothingWritesNothing) {
  EXPECT_EQ(lines(), std::vector<std::string>());
  const std::uint64_t before = world.host->writes();
  reconcile();
  world.pass(Seconds(120));
  EXPECT_EQ(world.host->writes(), before);
  EXPECT_EQ(lines(), std::vector<std::string>());
}

TEST_F(HostDifference, EveryKindIsNamedAndMendedOnce) {
  const Route end = world.host->routes().front();
  const RoutingRule rule = world.host->rules().front();
  InterfaceChange identity("wg0");
  identity.private_key = X25519Key::generate().private_key();
  identity.listen_port = 1;
  struct Case {
    std::function<void()> spoil;
    std::string line;
    std::uint64_t writes;
  };
  const std::vector<Case> cases{
      {[&] { run(world.host->remove_address(LinkAddress("wg0", Address::parse("10.8.0.1").value(), 24))); },
       "wg0 has no address 10.8.0.1/24", 1},
      {[&] { run(world.host->set_link("wg1", false, std::nullopt)); }, "wg1 is down", 1},
      {[&] { run(world.host->set_link("wg1", true, 1300)); }, "wg1 has MTU 1300, not 1420", 1},
      {[&] { run(world.host->remove_route(end)); }, "there is no route blackhole 10.9.0.0/24 in table 254", 1},
      {[&] { run(world.host->remove_rule(rule)); }, "there is no rule 100: from all iif wg1 lookup 51901 (IPv4)", 1},
      {[&] { run(world.host->ensure_sysctl("net/ipv4/ip_forward", "0")); }, "net/ipv4/ip_forward is 0, not 1", 1},
      {[&] { run(world.wireguard.set(identity)); }, "wg0 has another private key", 0},
  };
  for (const Case& each : cases) {
    each.spoil();
    auto told = lines();
    EXPECT_NE(std::find(told.begin(), told.end(), each.line), told.end())
        << each.line << " is not in: " << (told.empty() ? "" : told[0]);
    const std::uint64_t before = world.host->writes();
    reconcile();
    EXPECT_EQ(world.host->writes() - before, each.writes) << each.line;
    EXPECT_EQ(lines(), std::vector<std::string>()) << each.line;
  }
  EXPECT_EQ(world.runtime.wait(world.wireguard.get("wg0")).value().listen_port, 51820);
}

TEST_F(HostDifference, ALinkThatIsGoneIsNamed) {
  run(world.host->remove_link("wg1"));
  auto told = lines();
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told[0], "there is no wg1");
}

}  // namespace
}  // namespace tornado::test
