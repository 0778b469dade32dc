// A gateway whose loop has a thread of its own, as the Python bindings have it.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support/scratch.hpp"
#include "tornado/gateway.hpp"

using namespace tornado;

TEST(ThreadsSim, AGatewayIsAskedFromForeignThreads) {
  test::Scratch scratch(test::in_memory());
  Config config;
  config.state_dir = scratch / "state";
  config.runtime_dir = scratch / "run";
  config.wireguard.backend = "memory";
  config.database.reserve_mib = 0;
  config.auth.hash_memory_kib = 64;
  config.auth.hash_passes = 1;
  config.auth.hash_lanes = 1;
  Runtime runtime;
  Gateway gateway(runtime, config);
  LoopThread loop = runtime.start();
  ASSERT_TRUE(runtime.wait(gateway.start()));
  std::atomic<int> failed = 0;
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&, number] {
      for (int i = 0; i < 10; ++i) {
        std::string name = "user" + std::to_string(number) + "-" + std::to_string(i);
        NewUser user(name, name + "@example.org");
        user.password = Secret("correct horse battery staple");
        if (!runtime.wait(gateway.users().create(std::move(user)))) ++failed;
        if (!runtime.call([&] { return gateway.sessions().list("", 100); }).sessions.empty()) ++failed;
        if (runtime.call([&] { return gateway.health(); }).empty()) ++failed;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(runtime.wait(gateway.stop()));
}
