// What one reading of a lane costs the loop: the text protocol of userspace WireGuard, the accounts of the sessions.
#include <benchmark/benchmark.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <thread>

#include "base/encoding.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "support/keys.hpp"
#include "support/scratch.hpp"
#include "tornado/peer_programmer.hpp"
#include "tornado/session_store.hpp"
#include "wireguard/uapi_codec.hpp"

namespace tornado {
namespace {

const Lane vpn("vpn");

Address address_of(std::uint32_t number) {
  return Address::from_v4(0x0a080000U + number);
}

/// Peers as wireguard-go writes them, in another order each time; a part of them moves on from reading to reading.
class Peers {
 public:
  explicit Peers(std::uint32_t count) : bytes_(count), order_(count) {
    for (std::uint32_t i = 0; i < count; ++i) order_[i] = i;
  }
  std::string answer(std::uint32_t moving) {
    std::shuffle(order_.begin(), order_.end(), random_);
    for (std::uint32_t i = 0; i < moving; ++i) bytes_[order_[i]] += 1480;
    std::string out = "private_key=" + std::string(63, '0') + "8\nlisten_port=51820\n";
    for (std::uint32_t i : order_) write(out, i);
    return out + "errno=0\n\n";
  }

 private:
  void write(std::string& out, std::uint32_t i) const {
    const PublicKey key = test_key(i + 1);
    out +=
        "public_key=" + hex(std::string_view(reinterpret_cast<const char*>(key.bytes().data()), key.bytes().size())) +
        "\npreshared_key=" + std::string(64, '0') + "\nprotocol_version=1\nendpoint=192.0.2." +
        std::to_string(i % 250 + 1) + ":" + std::to_string(20'000 + i % 40'000) +
        "\nlast_handshake_time_sec=1700000000\nlast_handshake_time_nsec=250000000\ntx_bytes=" +
        std::to_string(bytes_[i]) + "\nrx_bytes=" + std::to_string(bytes_[i] / 8) +
        "\npersistent_keepalive_interval=0\nallowed_ip=" + address_of(i + 1).str() + "/32\n";
  }
  std::vector<std::uint64_t> bytes_;
  std::vector<std::uint32_t> order_;
  std::mt19937 random_{7};
};

/// Answers every request with the next text; made beforehand, so that writing them is not beside what is measured.
class Server {
 public:
  Server(const std::string& directory, std::vector<std::string> answers) : answers_(std::move(answers)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s/wg0.sock", directory.c_str());
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
    ::listen(listener_, 1);
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    if (connection_ >= 0) ::shutdown(connection_, SHUT_RDWR);
    thread_.join();
  }

 private:
  void serve() {
    connection_ = ::accept(listener_, nullptr, nullptr);
    char request[64];
    for (std::size_t i = 0; ::read(connection_, request, sizeof request) > 0; ++i) {
      std::string_view text = answers_[i % answers_.size()];
      while (!text.empty()) {
        ssize_t size = ::send(connection_, text.data(), text.size(), MSG_NOSIGNAL);
        if (size <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(size));
      }
    }
  }
  std::vector<std::string> answers_;
  int listener_ = -1;
  std::atomic<int> connection_{-1};
  std::thread thread_;
};

double now_ms(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

/// The longest turn of the loop, in its thread's processor time.
class LoopWatch {
 public:
  explicit LoopWatch(Runtime& runtime) : watching_(runtime.spawn(watch(runtime, *this))) {}
  ~LoopWatch() { over_ = true; }
  double longest() const { return longest_; }

 private:
  static Task<void> watch(Runtime& runtime, LoopWatch& self) {
    Pace pace(runtime);
    for (double before = now_ms(CLOCK_THREAD_CPUTIME_ID); !self.over_;) {
      co_await pace.yield();
      double now = now_ms(CLOCK_THREAD_CPUTIME_ID);
      self.longest_ = std::max(self.longest_, now - before);
      before = now;
    }
    co_return Result<void>();
  }
  bool over_ = false;
  double longest_ = 0;
  Background watching_;
};

/// A store with that many sessions, and a programmer that wants their peers.
class Ledger {
 public:
  Ledger(std::uint32_t count, std::vector<std::string> answers)
      : server_(scratch_.str(), std::move(answers)),
        wireguard_(uapi_wireguard(runtime_, scratch_.str())),
        peers_(runtime_, *wireguard_),
        sessions_(runtime_, SessionOptions()) {
    peers_.add_lane(vpn, "wg0");
    runtime_.wait(sessions_.restore(Seconds(900))).value();
    std::vector<WantedPeer> wanted;
    for (std::uint32_t i = 1; i <= count; ++i) {
      // As long as the names of real ones: none of them fits into a string without memory of its own.
      const std::string device = "0193c1de-7b0a-7e3c-9c55-" + std::to_string(100'000'000'000 + i);
      std::vector<LaneAddress> addresses{LaneAddress(vpn, address_of(i))};
      wanted.emplace_back(Owner(device), test_key(i), addresses);
      auto session = NewSession(UserId(device), DeviceId(device), addresses, test_key(i));
      Session opened = runtime_.wait(sessions_.open(std::move(session))).value();
      runtime_.wait(sessions_.activate(opened.instance)).value();
    }
    peers_.want(std::move(wanted));
  }

  /// As the gateway does it.
  Task<std::uint64_t> sample() {
    TRY(auto interface, co_await peers_.counters(vpn));
    std::uint64_t unmoved = 0;
    Observation seen(vpn);
    seen.interface = interface.index;
    Pace pace(runtime_);
    for (const Peer& peer : interface.peers) {
      if (pace.due()) co_await pace.yield();
      seen.received = peer.received;
      seen.sent = peer.sent;
      seen.handshake = peer.handshake;
      if (peer.endpoint) seen.source = peer.endpoint->address;
      if (sessions_.unmoved(peer.key, seen))
        ++unmoved;
      else if (peers_.wants(peer.key, vpn))
        sessions_.observe(peer.key, seen).value();
    }
    co_return unmoved;
  }
  std::uint64_t read() { return runtime_.wait(sample()).value(); }
  Runtime& runtime() { return runtime_; }

 private:
  test::Scratch scratch_;
  Server server_;
  Runtime runtime_;
  std::unique_ptr<WireGuard> wireguard_;
  PeerProgrammer peers_;
  SessionStore sessions_;
};

std::vector<std::string> answers_of(const benchmark::State& state, std::size_t readings) {
  Peers peers(static_cast<std::uint32_t>(state.range(0)));
  std::vector<std::string> out;
  for (std::size_t i = 0; i < readings; ++i) out.push_back(peers.answer(static_cast<std::uint32_t>(state.range(1))));
  return out;
}

/// Arguments: sessions, and how many of them have moved anything since the reading before.
void BM_reading(benchmark::State& state) {
  constexpr int readings = 21;
  Ledger ledger(static_cast<std::uint32_t>(state.range(0)), answers_of(state, readings));
  (void)ledger.read();
  double longest = 0;
  std::uint64_t unmoved = 0;
  for (auto _ : state) {
    const double before = now_ms(CLOCK_THREAD_CPUTIME_ID);
    unmoved = ledger.read();
    state.SetIterationTime((now_ms(CLOCK_THREAD_CPUTIME_ID) - before) / 1e3);
    // Once more, because watching turns the loop while it would wait.
    LoopWatch watch(ledger.runtime());
    (void)ledger.read();
    longest = std::max(longest, watch.longest());
  }
  state.counters["longest_turn_ms"] = longest;
  state.counters["unmoved"] = static_cast<double>(unmoved);
}
BENCHMARK(BM_reading)
    ->Args({10'000, 0})
    ->Args({10'000, 10'000})
    ->Args({60'000, 0})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

/// The text alone, in slices as the loop takes them.
void BM_text(benchmark::State& state) {
  const std::string text = answers_of(state, 1).front();
  for (auto _ : state) {
    UapiParser parser(UapiParser::Want::counters);
    for (std::size_t at = 0; at < text.size(); at += 16 * 1024)
      parser.feed(std::string_view(text).substr(at, 16 * 1024)).value();
    benchmark::DoNotOptimize(parser.take());
  }
}
BENCHMARK(BM_text)->Args({10'000, 0})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
