// What a monitor sees of those who wait.
#include <future>

#include "support/world.hpp"

namespace tornado::test {
namespace {

Task<void> sign_in(World& world, std::string from) {
  Sealed sealed = seal_login(world.gateway->login_key(), "alice", Secret("correct horse")).value();
  auto login = co_await world.gateway->login(Caller::from(Address::parse(from).value()), std::move(sealed));
  co_return login ? Result<void>() : Result<void>(login.error());
}

Task<void> occupy(Runtime& runtime, std::promise<void>& begun, std::shared_future<void> until) {
  auto wait = [&begun, until]() -> Result<void> {
    begun.set_value();
    until.wait();
    return {};
  };
  co_return co_await runtime.offload(Blocking::hashing, wait);
}

Task<void> connect(World& world, const Login& login) {
  auto who = world.caller(login);
  if (!who) co_return who.error();
  auto made = co_await world.gateway->initiate(*who, World::fresh_key());
  co_return made ? Result<void>() : Result<void>(made.error());
}

class MetricsSim : public ::testing::Test {
 protected:
  void SetUp() override {
    world.boot().value();
    world.add_user("alice", 5);
  }
  bool shows(const std::string& line) { return world.gateway->metrics().find(line + "\n") != std::string::npos; }
  World world;
};

TEST_F(MetricsSim, SignInsThatWaitForTheirHash) {
  world.login("alice").value();
  EXPECT_TRUE(shows("tornado_waiting{queue=\"sign_in\"} 0"));
  std::promise<void> begun, free;
  std::vector<Background> all;
  all.push_back(world.runtime.spawn(occupy(world.runtime, begun, free.get_future().share())));
  world.settle();
  begun.get_future().wait();
  for (int i = 0; i < 4; ++i) all.push_back(world.runtime.spawn(sign_in(world, "203.0.113." + std::to_string(i + 1))));
  world.settle();
  EXPECT_TRUE(shows("tornado_waiting{queue=\"sign_in\"} 3")) << "one has the turn";
  EXPECT_TRUE(shows("tornado_blocking_queue{purpose=\"hashing\"} 1"));
  free.set_value();
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!shows("tornado_waiting{queue=\"sign_in\"} 0") && std::chrono::steady_clock::now() < limit) world.settle();
  EXPECT_TRUE(shows("tornado_waiting{queue=\"sign_in\"} 0"));
}

TEST_F(MetricsSim, RequestsThatWaitForAnotherOneOfTheirDevice) {
  auto login = world.login("alice").value();
  world.steps.hold(true);
  std::vector<Background> all;
  for (int i = 0; i < 2; ++i) all.push_back(world.runtime.spawn(connect(world, login)));
  world.settle();
  for (int i = 0; i < 10 && !shows("tornado_waiting{queue=\"device\"} 1") && world.steps.held() > 0; ++i) {
    world.steps.release(0);
    world.settle();
  }
  EXPECT_TRUE(shows("tornado_waiting{queue=\"device\"} 1"));
  world.steps.hold(false);
  while (world.steps.held() > 0) {
    world.steps.release(0);
    world.settle();
  }
  world.settle();
  EXPECT_TRUE(shows("tornado_waiting{queue=\"device\"} 0"));
}

}  // namespace
}  // namespace tornado::test
