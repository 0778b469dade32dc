#include "net/netlink_socket.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "base/try.hpp"
#include "host/rtnl_codec.hpp"
#include "net/netlink_receive.hpp"
#include "support/network_lab.hpp"

namespace tornado {
namespace {

constexpr auto patience = std::chrono::seconds(20);

/// Keeps every thread of a blocking pool until it is told to let go.
class BusyPool {
 public:
  BusyPool(Runtime& runtime, int threads) : runtime_(runtime) {
    for (int i = 0; i < threads; ++i) jobs_.push_back(runtime.spawn(hold(runtime, begun_, released_)));
    for (int i = 0; i < threads; ++i) {
      // The jobs are handed over by the loop.
      runtime.settle();
      std::unique_lock lock(begun_.mutex);
      EXPECT_TRUE(begun_.changed.wait_for(lock, patience, [&] { return begun_.count > i; }));
    }
  }
  ~BusyPool() { release(); }
  void release() {
    if (!std::exchange(held_, false)) return;
    let_go_.set_value();
    jobs_.clear();
  }

 private:
  struct Begun {
    std::mutex mutex;
    std::condition_variable changed;
    int count = 0;
  };
  static Task<void> hold(Runtime& runtime, Begun& begun, std::shared_future<void> released) {
    auto work = [&]() -> Result<void> {
      {
        std::lock_guard lock(begun.mutex);
        ++begun.count;
      }
      begun.changed.notify_all();
      released.wait_for(patience);
      return {};
    };
    co_return co_await runtime.offload(Blocking::file, work);
  }

  Runtime& runtime_;
  std::promise<void> let_go_;
  std::shared_future<void> released_ = let_go_.get_future().share();
  Begun begun_;
  bool held_ = true;
  std::vector<Background> jobs_;
};

/// Datagrams as the kernel's: those of a local socket have no other sender either.
class ReceivingAhead : public ::testing::Test {
 protected:
  ReceivingAhead() : runtime_(RuntimeOptions().blocking_threads(1)) {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    ours_.reset(pair[0]);
    kernels_.reset(pair[1]);
  }

  /// Datagrams of their numbers, until the socket is full.
  int write_some(int first) {
    int next = first;
    for (;; ++next) {
      std::string bytes = std::to_string(next);
      if (::send(kernels_.get(), bytes.data(), bytes.size(), 0) < 0) return next;
    }
  }
  int left_in_socket() {
    std::string buffer(64, '\0');
    int out = 0;
    while (receive_netlink(ours_.get(), buffer).value()) ++out;
    return out;
  }
  static std::string text(const ReceiveAhead::Datagram& datagram) {
    return datagram.bytes.substr(0, datagram.received.size);
  }
  /// Everything, in order, until nothing is left.
  static Task<std::vector<std::string>> all(ReceiveAhead& ahead) {
    std::vector<std::string> out;
    for (;;) {
      TRY(auto datagram, ahead.take());
      if (datagram) {
        out.push_back(text(*datagram));
        ahead.give_back(std::move(*datagram));
      } else if (ahead.over()) {
        co_return out;
      } else {
        bool woken = co_await ahead.wait();
        if (!woken) co_return Error(errc::cancelled);
      }
    }
  }
  static Task<ReceiveAhead::Datagram> one(ReceiveAhead& ahead) {
    for (;;) {
      TRY(auto datagram, ahead.take());
      if (datagram) co_return std::move(*datagram);
      (void)co_await ahead.wait();
    }
  }
  static Task<void> idle(ReceiveAhead& ahead) {
    while (ahead.busy()) (void)co_await ahead.wait();
    co_return Result<void>();
  }
  /// Whatever the pool was asked for before is done.
  void pass_through_the_pool() {
    auto nothing = [](Runtime& runtime) -> Task<void> {
      auto work = []() -> Result<void> { return {}; };
      co_return co_await runtime.offload(Blocking::file, work);
    };
    ASSERT_TRUE(runtime_.wait(nothing(runtime_)));
  }
  static std::vector<std::string> numbers(int end) {
    std::vector<std::string> out;
    for (int i = 0; i < end; ++i) out.push_back(std::to_string(i));
    return out;
  }

  Runtime runtime_;
  Descriptor ours_, kernels_;
};

TEST_F(ReceivingAhead, EverythingThatIsThereComesInOrder) {
  const int count = write_some(0);
  ASSERT_GT(count, 8) << "more than are received ahead";
  ReceiveAhead ahead(runtime_, ours_.get(), 64, true);
  EXPECT_EQ(runtime_.wait(all(ahead)).value(), numbers(count));
  EXPECT_EQ(left_in_socket(), 0);
}

TEST_F(ReceivingAhead, WhoTakesReceivesUntilThereIsAThread) {
  BusyPool busy(runtime_, 1);
  const int count = write_some(0);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  runtime_.settle();
  std::vector<std::string> first;
  for (int i = 0; i < 5; ++i) {
    auto datagram = ahead.take().value();
    ASSERT_TRUE(datagram);
    first.push_back(text(*datagram));
    ahead.give_back(std::move(*datagram));
  }
  EXPECT_EQ(first, numbers(5));
  busy.release();
  auto rest = runtime_.wait(all(ahead)).value();
  first.insert(first.end(), rest.begin(), rest.end());
  EXPECT_EQ(first, numbers(count));
}

TEST_F(ReceivingAhead, WhoFindsNothingBeforeThereIsAThreadIsNotToWait) {
  BusyPool busy(runtime_, 1);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  runtime_.settle();
  EXPECT_FALSE(ahead.over());
  EXPECT_FALSE(ahead.take().value());
  EXPECT_TRUE(ahead.over());
}

TEST_F(ReceivingAhead, WithAFullPoolWhoTakesReceivesEverything) {
  // The queue of a purpose holds 256.
  BusyPool busy(runtime_, 1);
  std::vector<Background> waiting;
  auto nothing = [](Runtime& runtime) -> Task<void> {
    auto work = []() -> Result<void> { return {}; };
    co_return co_await runtime.offload(Blocking::file, work);
  };
  for (int i = 0; i < 256; ++i) waiting.push_back(runtime_.spawn(nothing(runtime_)));
  runtime_.settle();
  const int count = write_some(0);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  runtime_.settle();
  EXPECT_EQ(runtime_.wait(all(ahead)).value(), numbers(count));
  busy.release();
}

TEST_F(ReceivingAhead, TheThreadIsGivenBackWhenItIsFarEnoughAhead) {
  const int count = write_some(0);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  pass_through_the_pool();
  EXPECT_FALSE(ahead.busy());
  EXPECT_EQ(left_in_socket(), count - 4) << "nobody takes anything";
  EXPECT_EQ(runtime_.wait(all(ahead)).value(), numbers(4));
}

TEST_F(ReceivingAhead, StoppedBeforeItsThreadHasBegunNothingIsTouched) {
  BusyPool busy(runtime_, 1);
  const int count = write_some(0);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  runtime_.settle();
  ahead.stop();
  EXPECT_FALSE(ahead.busy()) << "nobody has to wait for the pool";
  busy.release();
  pass_through_the_pool();
  EXPECT_FALSE(ahead.take().value());
  EXPECT_EQ(left_in_socket(), count);
}

TEST_F(ReceivingAhead, StoppedItTakesNothingMore) {
  for (int i = 0; i < 100; ++i) {
    (void)write_some(0);
    ReceiveAhead ahead(runtime_, ours_.get(), 64, true);
    auto first = runtime_.wait(one(ahead)).value();
    auto second = runtime_.wait(one(ahead)).value();
    ahead.give_back(std::move(first));
    ahead.stop();
    ASSERT_TRUE(runtime_.wait(idle(ahead)));
    EXPECT_FALSE(ahead.take().value()) << "what was received is void";
    (void)left_in_socket();
    const int count = write_some(0);
    ahead.give_back(std::move(second));
    pass_through_the_pool();
    EXPECT_FALSE(ahead.take().value());
    EXPECT_EQ(left_in_socket(), count);
  }
}

TEST_F(ReceivingAhead, WhatDoesNotFitIsToldApart) {
  const std::string large(100, 'x');
  ASSERT_EQ(::send(kernels_.get(), large.data(), large.size(), 0), 100);
  ReceiveAhead ahead(runtime_, ours_.get(), 64, false);
  EXPECT_TRUE(runtime_.wait(one(ahead)).value().received.truncated);
}

TEST_F(ReceivingAhead, AnErrorIsToldToWhoTakes) {
  Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ReceiveAhead ahead(runtime_, file.get(), 64, false);
  auto outcome = runtime_.wait(all(ahead));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), errc::backend_failed);
  EXPECT_NE(outcome.error().detail().find("receive"), std::string::npos) << outcome.error().detail();
}

TEST_F(ReceivingAhead, WithoutADescriptorLeftItLeavesItToTheSocket) {
  ReceiveAhead ahead(runtime_, -1, 64, false);
  EXPECT_TRUE(ahead.over());
  EXPECT_FALSE(ahead.take().value());
}

/// Addresses of a dump that goes over many datagrams, in a namespace of its own.
class NetlinkDump : public ::testing::Test {
 protected:
  static constexpr std::size_t links = 20, addresses_each = 100;

  NetlinkDump() : runtime_(RuntimeOptions().blocking_threads(1)) {}
  void SetUp() override {
    if (!lab::Namespace::available()) GTEST_SKIP() << "no network namespaces here";
    namespace_.emplace();
    inside_.emplace(*namespace_);
    lab::sh(*namespace_,
            "for i in $(seq 1 20); do echo link add l$i type bridge; for j in $(seq 1 100); do "
            "echo address add 10.$i.$j.1/24 dev l$i; done; done | ip -batch -");
    socket_.emplace(runtime_, NETLINK_ROUTE);
  }

  /// What was listed; at the `stop_at`th message it does something else, and from there on takes long, if told to.
  class Listing final : public NetlinkSocket::Reader {
   public:
    void begin() override {
      ++begun;
      found.clear();
      messages = 0;
    }
    Result<void> take(const NetlinkMessage& message) override {
      // Longer than a turn of the loop is to be, in every datagram.
      if (slow && messages >= stop_at && messages % 50 == 0) std::this_thread::sleep_for(pause);
      if (++messages == stop_at) {
        if (then) then();
        if (failure) return *failure;
      }
      TRY_PLAIN(auto listed, rtnl::decode_address(message));
      if (listed) found.insert(listed->address.address.str());
      return {};
    }
    int begun = 0;
    std::size_t messages = 0, stop_at = 0;
    bool slow = false;
    std::chrono::milliseconds pause{3};
    std::function<void()> then;
    std::optional<Error> failure;
    std::set<std::string> found;
  };

  static Task<void> list(NetlinkSocket& socket, Listing& listing) {
    TRY(NetlinkReply reply, co_await socket.dump(rtnl::list_addresses(), listing));
    co_return reply.check("list addresses");
  }
  Result<void> list(Listing& listing) { return runtime_.wait(list(*socket_, listing)); }
  void expect_whole() {
    Listing listing;
    auto listed = list(listing);
    ASSERT_TRUE(listed) << name(listed.error().code()) << ": " << listed.error().detail();
    EXPECT_EQ(listing.found.size(), links * addresses_each);
    EXPECT_EQ(listing.begun, 1);
  }

  Runtime runtime_;
  std::optional<lab::Namespace> namespace_;
  std::optional<lab::Inside> inside_;
  std::optional<NetlinkSocket> socket_;
};

TEST_F(NetlinkDump, IsReadWhole) {
  for (int i = 0; i < 20; ++i) expect_whole();
}

TEST_F(NetlinkDump, IsReadWholeWithoutAThread) {
  BusyPool busy(runtime_, 1);
  expect_whole();
  expect_whole();
}

TEST_F(NetlinkDump, OneThatItsReaderRefusesLeavesNothingToTheNext) {
  for (std::size_t at = 1; at < links * addresses_each; at += 97) {
    Listing refusing;
    refusing.stop_at = at;
    refusing.failure = Error(errc::protocol_error, "refused");
    auto refused = list(refusing);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), errc::protocol_error);
    expect_whole();
  }
}

TEST_F(NetlinkDump, OneThatChangedUnderneathIsRepeatedWithoutAThread) {
  BusyPool busy(runtime_, 1);
  Listing listing;
  listing.stop_at = 100;
  listing.then = [&] {
    if (listing.begun == 1) lab::sh(*namespace_, "ip addr add 10.99.0.1/24 dev l1");
  };
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(list(listing));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(15)) << "it does not wait for the pool";
  EXPECT_EQ(listing.begun, 2);
  EXPECT_EQ(listing.found.size(), links * addresses_each + 1);
}

/// A dump in the background.
class Reading {
 public:
  Reading(Runtime& runtime, NetlinkSocket& socket, NetlinkSocket::Reader& reader)
      : runtime_(runtime), running_(runtime.spawn(read(socket, reader, outcome))) {}
  void stop() { running_.stop(); }
  /// Until it has ended, or something else has happened.
  void run_until(const bool& happened) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!happened && !outcome && std::chrono::steady_clock::now() < end) runtime_.loop().run_one_for(patience);
  }
  std::optional<Result<void>> outcome;

 private:
  static Task<void> read(NetlinkSocket& socket, NetlinkSocket::Reader& reader, std::optional<Result<void>>& out) {
    auto reply = co_await socket.dump(rtnl::list_addresses(), reader);
    out = reply ? reply->check("list addresses") : Result<void>(reply.error());
    co_return Result<void>();
  }
  Runtime& runtime_;
  Background running_;
};

TEST_F(NetlinkDump, OneThatWasCancelledLeavesNothingToTheNext) {
  for (std::size_t at = 1; at < links * addresses_each / 4; at += 97) {
    Listing listing;
    Reading reading(runtime_, *socket_, listing);
    bool reached = false;
    listing.stop_at = at;
    listing.slow = true;
    listing.then = [&] { reached = true; };
    reading.run_until(reached);
    ASSERT_TRUE(reached);
    EXPECT_FALSE(reading.outcome) << "it gives others a turn";
    reading.stop();
    ASSERT_TRUE(reading.outcome);
    ASSERT_FALSE(*reading.outcome);
    EXPECT_EQ(reading.outcome->error().code(), errc::cancelled);
    expect_whole();
  }
}

TEST_F(NetlinkDump, ASocketMayGoInTheMiddle) {
  Listing listing;
  Reading reading(runtime_, *socket_, listing);
  bool reached = false;
  listing.stop_at = 300;
  listing.slow = true;
  listing.then = [&] { reached = true; };
  reading.run_until(reached);
  ASSERT_TRUE(reached);
  EXPECT_FALSE(reading.outcome);
  socket_.reset();
  reading.run_until(false);
  ASSERT_TRUE(reading.outcome);
  ASSERT_FALSE(*reading.outcome);
  EXPECT_EQ(reading.outcome->error().code(), errc::cancelled);
}

TEST_F(NetlinkDump, OneThatGoesOnSlowlyIsNotGivenUp) {
  Listing listing;
  listing.slow = true;
  listing.pause = std::chrono::milliseconds(60);
  NetlinkSocket::Limits limits;
  limits.silence = std::chrono::seconds(2);
  socket_->limit(limits);
  const auto began = std::chrono::steady_clock::now();
  auto listed = list(listing);
  ASSERT_TRUE(listed) << name(listed.error().code()) << ": " << listed.error().detail();
  EXPECT_GT(std::chrono::steady_clock::now() - began, limits.silence);
  EXPECT_EQ(listing.found.size(), links * addresses_each);
  EXPECT_EQ(listing.begun, 1);
}

TEST_F(NetlinkDump, OneThatGoesOnForTooLongIsGivenUp) {
  Listing listing;
  listing.slow = true;
  listing.pause = std::chrono::milliseconds(60);
  NetlinkSocket::Limits limits;
  limits.whole = std::chrono::milliseconds(300);
  socket_->limit(limits);
  auto listed = list(listing);
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().code(), errc::deadline_exceeded);
  EXPECT_LT(listing.messages, links * addresses_each);
  socket_->limit(NetlinkSocket::Limits());
  expect_whole();
}

TEST_F(NetlinkDump, BesideOthersEachGetsItsOwn) {
  Listing first, second;
  Reading beside(runtime_, *socket_, second);
  ASSERT_TRUE(list(first));
  beside.run_until(false);
  ASSERT_TRUE(beside.outcome);
  ASSERT_TRUE(*beside.outcome);
  EXPECT_EQ(first.found.size(), links * addresses_each);
  EXPECT_EQ(first.found, second.found);
}

}  // namespace
}  // namespace tornado
