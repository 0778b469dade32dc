#include <gtest/gtest.h>

#include "support/world.hpp"

using namespace tornado;
using namespace tornado::test;

namespace {

/// Interfaces that do not answer while they are held; who waits can be cancelled.
class HeldWireGuard final : public WireGuard {
 public:
  HeldWireGuard(Runtime& runtime, WireGuard& inner, bool& held, int& waited)
      : runtime_(runtime), inner_(inner), held_(held), waited_(waited) {}
  Task<std::vector<std::string>> list() override { return inner_.list(); }
  Task<Interface> get(std::string name) override {
    if (held_) {
      ++waited_;
      (void)co_await runtime_.sleep_until(Instant::max());
      co_return Error(errc::cancelled);
    }
    co_return co_await inner_.get(std::move(name));
  }
  Task<void> set(InterfaceChange change) override { return inner_.set(std::move(change)); }

 private:
  Runtime& runtime_;
  WireGuard& inner_;
  bool& held_;
  int& waited_;
};

}  // namespace

TEST(Stopping, EndsAPassThatIsUnderWay) {
  World world;
  bool held = false;
  int waited = 0;
  GatewayParts parts;
  parts.database = open_sqlite(world.runtime, world.config.database_path());
  parts.wireguard = std::make_unique<HeldWireGuard>(world.runtime, world.wireguard, held, waited);
  parts.host = std::make_unique<MemoryHost>(world.runtime, std::vector<std::string>{"wg0", "wg1"});
  parts.firewall = std::make_unique<MemoryFirewall>(world.runtime);
  Gateway gateway(world.runtime, world.config, std::move(parts));
  ASSERT_TRUE(world.runtime.wait(gateway.start()));
  gateway.listening();
  world.settle();
  held = true;
  world.pass(Seconds(world.config.session.reconcile_interval + 1));
  ASSERT_GT(waited, 0) << "a pass waits for an interface";
  // On a clock that stands still nothing but the cancellation ends it.
  EXPECT_TRUE(world.runtime.wait(gateway.stop()));
}
