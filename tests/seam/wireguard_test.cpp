#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/encoding.hpp"
#include "seam/wireguard_suite.hpp"
#include "support/private_namespace.hpp"
#include "support/test_process.hpp"

using namespace tornado;

namespace {

class MemoryFactory {
 public:
  MemoryFactory() : wireguard_(runtime_, {"wg0"}) {}
  Runtime& runtime() { return runtime_; }
  WireGuard& wireguard() { return wireguard_; }
  std::string interface() const { return "wg0"; }
  void drop() { wireguard_.drop("wg0"); }

 private:
  Runtime runtime_;
  MemoryWireGuard wireguard_;
};

/// Turns the loop until a condition holds. Fails after 20 s.
void wait_until(Runtime& runtime, const std::function<bool()>& condition) {
  auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
    auto soon = [](Runtime& r) -> Task<void> {
      co_await r.sleep_until(r.now() + std::chrono::milliseconds(5));
      co_return Result<void>();
    };
    (void)runtime.wait(soon(runtime));
  }
}

class WireGuardGoFactory {
 public:
  WireGuardGoFactory()
      : name_("tnw" + std::to_string(::getpid() % 1'000'000)),
        process_({"/usr/bin/wireguard-go", "-f", name_}),
        wireguard_(uapi_wireguard(runtime_)) {
    wait_until(runtime_, [&] { return runtime_.wait(wireguard_->get(name_)).has_value(); });
  }
  Runtime& runtime() { return runtime_; }
  WireGuard& wireguard() { return *wireguard_; }
  std::string interface() const { return name_; }
  void drop() { process_.kill(); }

 private:
  PrivateNamespace inside_;
  Runtime runtime_;
  std::string name_;
  TestProcess process_;
  std::unique_ptr<WireGuard> wireguard_;
};

using Factories = ::testing::Types<MemoryFactory, WireGuardGoFactory>;
INSTANTIATE_TYPED_TEST_SUITE_P(Implementations, WireGuardSuite, Factories);

/// A server that does what a script says, connection by connection: a script gets the connected socket.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<std::function<void(int)>> scripts) {
    char name[] = "/tmp/uapi.XXXXXX";
    directory_ = ::mkdtemp(name);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s/wg0.sock", name);
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    thread_ = std::thread([this, scripts = std::move(scripts)] {
      for (std::size_t i = 0; i < scripts.size(); ++i) {
        int fd = ::accept(listener_, nullptr, nullptr);
        if (fd < 0) return;
        // Whoever comes after the last one is refused, however soon.
        if (i + 1 == scripts.size()) ::shutdown(listener_, SHUT_RDWR);
        scripts[i](fd);
        ::close(fd);
      }
    });
  }
  ~ScriptedServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    std::filesystem::remove_all(directory_);
  }
  const std::string& directory() const { return directory_; }

  /// Reads one request; empty at the end of the connection.
  static std::string request(int fd) {
    std::string text;
    char byte;
    while (!text.ends_with("\n\n")) {
      if (::read(fd, &byte, 1) != 1) return {};
      text += byte;
    }
    return text;
  }
  static void say(int fd, std::string_view text) {
    while (!text.empty()) {
      ssize_t size = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (size <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(size));
    }
  }
  static std::function<void(int)> answers(std::string text) {
    return [text](int fd) {
      while (!request(fd).empty()) say(fd, text);
    };
  }

 private:
  std::string directory_;
  int listener_ = -1;
  std::thread thread_;
};

InterfaceChange nothing() {
  return InterfaceChange("wg0");
}

TEST(UapiWireGuard, drops_the_connection_after_a_refusal) {
  ScriptedServer server({ScriptedServer::answers("errno=22\n\n"), ScriptedServer::answers("errno=0\n\n")});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  EXPECT_EQ(runtime.wait(wireguard->set(nothing())).error().code(), errc::backend_failed);
  EXPECT_TRUE(runtime.wait(wireguard->set(nothing())));
}

TEST(UapiWireGuard, drops_the_connection_after_garbage) {
  ScriptedServer server({ScriptedServer::answers("hello\n\n"), ScriptedServer::answers("errno=0\n\n")});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  EXPECT_EQ(runtime.wait(wireguard->get("wg0")).error().code(), errc::protocol_error);
  EXPECT_TRUE(runtime.wait(wireguard->get("wg0")));
}

TEST(UapiWireGuard, reconnects_when_the_process_was_replaced) {
  auto once = [](int fd) {
    ScriptedServer::request(fd);
    ScriptedServer::say(fd, "errno=0\n\n");
  };
  ScriptedServer server({once, once, once});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(runtime.wait(wireguard->set(nothing())));
  EXPECT_EQ(runtime.wait(wireguard->set(nothing())).error().code(), errc::interface_missing);
}

TEST(UapiWireGuard, reports_a_connection_that_ends_within_an_answer) {
  ScriptedServer server({[](int fd) {
    ScriptedServer::request(fd);
    ScriptedServer::say(fd, "listen_port=1\nerr");
  }});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  EXPECT_EQ(runtime.wait(wireguard->get("wg0")).error().code(), errc::protocol_error);
}

TEST(UapiWireGuard, gives_up_after_five_seconds_and_starts_afresh) {
  ScriptedServer server({[](int fd) {
                           ScriptedServer::request(fd);
                           EXPECT_TRUE(ScriptedServer::request(fd).empty());  // until the other side has gone
                         },
                         ScriptedServer::answers("errno=0\n\n")});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(runtime.wait(wireguard->set(nothing())).error().code(), errc::deadline_exceeded);
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  EXPECT_TRUE(runtime.wait(wireguard->set(nothing())));
}

TEST(UapiWireGuard, is_cancelled_at_any_moment) {
  auto silent = [](int fd) { ScriptedServer::request(fd), ScriptedServer::request(fd); };
  ScriptedServer server({silent, ScriptedServer::answers("errno=0\n\n")});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  {
    Background first = runtime.spawn(wireguard->set(nothing()));
    Background queued = runtime.spawn(wireguard->set(nothing()));
    runtime.settle();
  }
  EXPECT_TRUE(runtime.wait(wireguard->set(nothing())));
}

std::string large_answer(std::uint32_t peers) {
  std::string text = "private_key=" + std::string(64, '1') + "\n";
  for (std::uint32_t i = 0; i < peers; ++i) {
    const auto key = test_key(i);
    text += "public_key=" + hex(std::string_view(reinterpret_cast<const char*>(key.bytes().data()), 32)) +
            "\npreshared_key=" + std::string(64, '0') +
            "\nprotocol_version=1\nendpoint=192.0.2.1:4000\nlast_handshake_time_sec=1700000000"
            "\nlast_handshake_time_nsec=250000000\ntx_bytes=1\nrx_bytes=12\npersistent_keepalive_interval=0"
            "\nallowed_ip=" +
            Address::from_v4(0x0a000000 + i).str() + "/32\n";
  }
  return text + "errno=0\n\n";
}

TEST(UapiWireGuard, lets_others_run_while_it_reads_a_large_answer) {
  constexpr std::uint32_t peers = 65'000;
  ScriptedServer server({ScriptedServer::answers(large_answer(peers))});
  Runtime runtime;
  auto wireguard = uapi_wireguard(runtime, server.directory());
  std::chrono::steady_clock::duration longest{};
  int turns = 0;
  bool over = false;
  auto watch = [](Runtime& r, std::chrono::steady_clock::duration& worst, int& count, bool& end) -> Task<void> {
    auto last = std::chrono::steady_clock::now();
    for (; !end; ++count) {
      co_await boost::asio::post(r.loop(), boost::asio::use_awaitable);
      auto now = std::chrono::steady_clock::now();
      worst = std::max(worst, now - last);
      last = now;
    }
    co_return Result<void>();
  };
  Background watcher = runtime.spawn(watch(runtime, longest, turns, over));
  auto got = runtime.wait(wireguard->get("wg0"));
  over = true;
  ASSERT_TRUE(got);
  EXPECT_EQ(got->peers.size(), peers);
  EXPECT_GT(turns, 50);
  RecordProperty("longest_step_us", std::chrono::duration_cast<std::chrono::microseconds>(longest).count());
  std::printf("longest step of the loop: %.1f ms over %d turns\n", std::chrono::duration<double>(longest).count() * 1e3,
              turns);
}

}  // namespace
