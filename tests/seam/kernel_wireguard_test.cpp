// WireGuard of the kernel. Runs in the vm suite, which sets TORNADO_KERNEL_WIREGUARD; there it fails, and is never
// skipped, if the kernel has no WireGuard.
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdlib>

#include "base/try.hpp"
#include "seam/wireguard_suite.hpp"
#include "support/network_lab.hpp"
#include "support/private_namespace.hpp"
#include "tornado/host.hpp"

using namespace tornado;

namespace {

/// In the namespace of the calling thread.
void sh(const std::string& command) {
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

class KernelFactory {
 public:
  static bool wanted() { return std::getenv("TORNADO_KERNEL_WIREGUARD") != nullptr; }

  KernelFactory() : host_(netlink_host(runtime_)), wireguard_(kernel_wireguard(runtime_)) {
    runtime_.wait(host_->ensure_link(interface(), "wireguard")).value();
  }
  Runtime& runtime() { return runtime_; }
  WireGuard& wireguard() { return *wireguard_; }
  Host& host() { return *host_; }
  std::string interface() const { return "wg0"; }
  void drop() { runtime_.wait(host_->remove_link(interface())).value(); }

 private:
  PrivateNamespace inside_;
  Runtime runtime_;
  std::unique_ptr<Host> host_;
  std::unique_ptr<WireGuard> wireguard_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Kernel, WireGuardSuite, ::testing::Types<KernelFactory>);

class KernelWireGuard : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!KernelFactory::wanted()) GTEST_SKIP() << "not wanted here";
    kernel_.emplace();
  }
  Result<void> set(InterfaceChange change) { return runtime().wait(kernel_->wireguard().set(std::move(change))); }
  Interface get() { return runtime().wait(kernel_->wireguard().get("wg0")).value(); }
  Runtime& runtime() { return kernel_->runtime(); }

  static std::vector<Prefix> addresses(std::uint32_t count) {
    std::vector<Prefix> out;
    for (std::uint32_t i = 0; i < count; ++i) out.emplace_back(Address::from_v4(0x0a800000 + i), 32);
    return out;
  }
  static InterfaceChange peers(std::uint32_t count) {
    InterfaceChange out("wg0");
    for (std::uint32_t i = 0; i < count; ++i) {
      Peer& peer = out.peers.emplace_back();
      peer.key = test_key(i);
      peer.allowed.emplace_back(Address::from_v4(0x0a000000 + i), 32);
    }
    return out;
  }

  std::optional<KernelFactory> kernel_;
};

TEST_F(KernelWireGuard, TheKernelIsChosenWhereItHasTheModule) {
  WireGuardChoice choice = choose_wireguard("auto", {"wg7", "wg8"});
  EXPECT_EQ(choice.backend, WireGuardBackend::kernel) << choice.reason;
  EXPECT_EQ(choose_wireguard("auto", {"wg7", "wg0"}).backend, WireGuardBackend::kernel) << "its interface is there";
  EXPECT_EQ(choose_wireguard("userspace", {}).backend, WireGuardBackend::userspace);
  sh("ip tuntap add tun0 mode tun");
  choice = choose_wireguard("auto", {"wg7", "tun0"});
  EXPECT_EQ(choice.backend, WireGuardBackend::userspace);
  EXPECT_NE(choice.reason.find("tun0"), std::string::npos) << choice.reason;
  EXPECT_EQ(choose_wireguard("kernel", {"tun0"}).backend, WireGuardBackend::kernel) << "nobody asked for a guess";
}

TEST_F(KernelWireGuard, APeerWithManyAllowedIpsGoesOverSeveralMessagesBothWays) {
  constexpr std::uint32_t many = 12'000;
  InterfaceChange change = peers(3);
  change.peers[1].allowed = addresses(many);
  ASSERT_TRUE(set(change));
  Interface now = get();
  ASSERT_EQ(now.peers.size(), 3U);
  for (Peer& peer : now.peers) {
    if (peer.key != test_key(1)) continue;
    std::sort(peer.allowed.begin(), peer.allowed.end());
    EXPECT_EQ(peer.allowed, addresses(many));
  }
  change.peers[1].allowed.resize(2);
  ASSERT_TRUE(set(change));
  for (const Peer& peer : get().peers) EXPECT_LE(peer.allowed.size(), 2U);
}

TEST_F(KernelWireGuard, WhatIsIgnoredIsIgnoredInEveryMessage) {
  InterfaceChange key("wg0");
  key.private_key = Secret(std::string(32, 'k'));
  ASSERT_TRUE(set(key));
  InterfaceChange change = peers(2);
  change.peers[0].key = get().public_key;
  change.peers[0].allowed = addresses(5'000);
  change.peers[1].update_only = true;
  change.peers[1].allowed = addresses(5'000);
  ASSERT_TRUE(set(change));
  EXPECT_TRUE(get().peers.empty());
}

TEST_F(KernelWireGuard, ALinkOfAnotherKindIsNoInterface) {
  sh("ip link add br0 type bridge");
  EXPECT_EQ(runtime().wait(kernel_->wireguard().get("br0")).error().code(), errc::interface_missing);
  EXPECT_EQ(set(InterfaceChange("br0")).error().code(), errc::interface_missing);
  EXPECT_EQ(runtime().wait(kernel_->wireguard().list()).value(), std::vector<std::string>{"wg0"});
}

TEST_F(KernelWireGuard, WithoutTheCapabilityEverythingIsDenied) {
  lab::Unprivileged unprivileged;
  EXPECT_EQ(runtime().wait(kernel_->wireguard().get("wg0")).error().code(), errc::permission_denied);
  EXPECT_EQ(set(InterfaceChange("wg0")).error().code(), errc::permission_denied);
}

TEST_F(KernelWireGuard, ADumpThatChangesUnderneathIsReadAgain) {
  ASSERT_TRUE(set(peers(5'000)));
  auto other = kernel_wireguard(runtime());
  bool over = false;
  auto disturb = [](WireGuard& wireguard, bool& end, int& changes) -> Task<void> {
    for (std::uint32_t i = 0; !end; ++i) {
      InterfaceChange change("wg0");
      change.peers.emplace_back().key = test_key(10'000 + i % 2);
      change.peers.back().remove = i % 4 > 1;
      auto done = co_await wireguard.set(std::move(change));
      changes += done.has_value();
      if (changes > 20) co_return Result<void>();
    }
    co_return Result<void>();
  };
  int changes = 0;
  Background disturbing = runtime().spawn(disturb(*other, over, changes));
  int whole = 0;
  for (int i = 0; i < 5; ++i) {
    auto got = runtime().wait(kernel_->wireguard().get("wg0"));
    EXPECT_TRUE(got || got.error().code() == errc::unavailable);
    if (!got) continue;
    ++whole;
    std::size_t old = 0;
    for (const Peer& peer : got->peers) old += peer.allowed.size();
    EXPECT_EQ(old, 5'000U) << "every peer once, with its address";
  }
  over = true;
  EXPECT_GT(changes, 0);
  EXPECT_GT(whole, 0);
}

/// The longest time in which nobody else had a turn.
class LoopWatch {
 public:
  explicit LoopWatch(Runtime& runtime) : running_(runtime.spawn(watch(runtime, longest_, turns_, over_))) {}
  ~LoopWatch() { over_ = true; }
  int turns() const { return turns_; }
  double stop_ms() {
    over_ = true;
    return std::chrono::duration<double, std::milli>(longest_).count();
  }

 private:
  static Task<void> watch(Runtime& runtime, std::chrono::steady_clock::duration& longest, int& turns, bool& over) {
    auto last = std::chrono::steady_clock::now();
    while (!over) {
      co_await boost::asio::post(runtime.loop(), boost::asio::use_awaitable);
      auto now = std::chrono::steady_clock::now();
      longest = std::max(longest, now - last);
      last = now;
      ++turns;
    }
    co_return Result<void>();
  }
  std::chrono::steady_clock::duration longest_{};
  int turns_ = 0;
  bool over_ = false;
  Background running_;
};

TEST_F(KernelWireGuard, OthersHaveATurnBetweenChangesThatOneCallerMakesInARow) {
  auto changes = [](WireGuard& wireguard, InterfaceChange all) -> Task<void> {
    for (const Peer& peer : all.peers) {
      InterfaceChange one("wg0");
      one.peers.push_back(peer);
      TRY_VOID(co_await wireguard.set(std::move(one)));
    }
    co_return Result<void>();
  };
  LoopWatch watch(runtime());
  ASSERT_TRUE(runtime().wait(changes(kernel_->wireguard(), peers(100))));
  EXPECT_GE(watch.turns(), 100);
  EXPECT_EQ(get().peers.size(), 100U);
}

TEST_F(KernelWireGuard, HoldsAFullInterface) {
  const char* asked = std::getenv("TORNADO_KERNEL_PEERS");
  const auto count = static_cast<std::uint32_t>(asked != nullptr ? std::atoi(asked) : 4'096);
  InterfaceChange key("wg0");
  key.private_key = Secret(std::string(32, 'k'));
  ASSERT_TRUE(set(key));
  auto timed = [&](const char* what, auto&& work) {
    LoopWatch watch(runtime());
    auto began = std::chrono::steady_clock::now();
    work();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf("%s of %u peers: %.2f s, %.0f us each; longest step of the loop %.1f ms\n", what, count, took.count(),
                took.count() * 1e6 / count, watch.stop_ms());
  };
  timed("set", [&] { ASSERT_TRUE(set(peers(count))); });
  timed("get", [&] { EXPECT_EQ(get().peers.size(), count); });
  key.private_key = Secret(std::string(32, 'j'));
  timed("another private key", [&] { (void)set(key); });
  InterfaceChange nothing("wg0");
  nothing.replace_peers = true;
  timed("replacing", [&] { ASSERT_TRUE(set(nothing)); });
  EXPECT_TRUE(get().peers.empty());
}

}  // namespace
