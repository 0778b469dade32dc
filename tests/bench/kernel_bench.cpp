// WireGuard of the kernel: what its calls cost, how long they hold the loop, and what a restart reads and compares.
// Needs root and a kernel with WireGuard: tests/vm/run_in_vm gives one.
//   kernel_bench compute                 a fixed amount of work, to compare machines
//   kernel_bench calls [PEERS]           single calls of an interface that has that many peers
//   kernel_bench dump INTERFACE...       a bare dump of these interfaces, in this namespace
//   kernel_bench hold [PEERS]            turns of the loop on two interfaces: changes, comparing, sampling
//   kernel_bench restart [PEERS]         reading and comparing what is there already, beside a bare dump
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>

#include "base/descriptor.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "support/keys.hpp"
#include "support/private_namespace.hpp"
#include "tornado/host.hpp"
#include "tornado/peer_programmer.hpp"
#include "tornado/session_store.hpp"
#include "wireguard/genl_codec.hpp"
#include "wireguard/own_key.hpp"

namespace tornado {
namespace {

const std::vector<std::string> interfaces{"tnb0", "tnb1"};

double now_ms(clockid_t clock = CLOCK_MONOTONIC) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

void require(bool good, const char* what) {
  if (good) return;
  std::perror(what);
  std::exit(1);
}

/// A netlink socket that is written and read without anything between.
class Bare {
 public:
  Bare() : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)) {
    const int size = 8 << 20;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    (void)call(genl::get_family("wireguard"));
    require(family_ != 0, "the family of WireGuard");
  }

  /// Milliseconds of the sending, in which the kernel executes it.
  double call(std::string message) {
    stamp(message, NLM_F_ACK);
    const double began = now_ms();
    require(::send(fd_.get(), message.data(), message.size(), 0) > 0, "send");
    const double took = now_ms() - began;
    while (!receive()) {
    }
    return took;
  }

  /// Milliseconds of each datagram of a dump.
  std::vector<double> dump(const std::string& interface) {
    std::vector<double> out;
    std::string message = genl::get_device(family_, interface);
    stamp(message, 0);
    bytes_ = 0;
    double before = now_ms();
    require(::send(fd_.get(), message.data(), message.size(), 0) > 0, "send");
    for (bool over = false; !over;) {
      over = receive();
      out.push_back(now_ms() - before);
      before = now_ms();
    }
    return out;
  }

  std::uint16_t family() const { return family_; }
  std::size_t bytes() const { return bytes_; }

 private:
  static void stamp(std::string& message, std::uint16_t flags) {
    nlmsghdr header;
    std::memcpy(&header, message.data(), sizeof header);
    header.nlmsg_seq = 1;
    header.nlmsg_flags |= flags;
    std::memcpy(message.data(), &header, sizeof header);
  }
  /// True: that was the end of the answer.
  bool receive() {
    const ssize_t size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    require(size > 0, "receive");
    bytes_ += static_cast<std::size_t>(size);
    if (family_ != 0) return last(static_cast<std::size_t>(size));
    const auto messages = split_netlink(std::string_view(buffer_.data(), static_cast<std::size_t>(size))).value();
    for (const NetlinkMessage& message : messages)
      if (auto family = genl::decode_family(message).value()) family_ = *family;
    return last(static_cast<std::size_t>(size));
  }
  bool last(std::size_t size) const {
    for (std::size_t at = 0; at + sizeof(nlmsghdr) <= size;) {
      nlmsghdr header;
      std::memcpy(&header, buffer_.data() + at, sizeof header);
      int error = 0;
      if (header.nlmsg_type == NLMSG_ERROR) std::memcpy(&error, buffer_.data() + at + NLMSG_HDRLEN, sizeof error);
      errno = -error;
      require(error == 0, "the kernel's answer");
      if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) return true;
      at += NLMSG_ALIGN(header.nlmsg_len);
    }
    return false;
  }

  Descriptor fd_;
  std::vector<char> buffer_ = std::vector<char>(1 << 18);
  std::uint16_t family_ = 0;
  std::size_t bytes_ = 0;
};

double sum(const std::vector<double>& times) {
  double all = 0;
  for (double time : times) all += time;
  return all;
}

Address address_of(std::size_t lane, std::uint32_t number) {
  return Address::from_v4((lane == 0 ? 0x0a000000U : 0x0b000000U) + number);
}

Peer plain(std::size_t lane, std::uint32_t number) {
  Peer peer;
  peer.key = test_key(number);
  peer.allowed = {Prefix(address_of(lane, number), 32)};
  return peer;
}

/// Interfaces that are up, in a namespace of their own.
class Links {
 public:
  explicit Links(Runtime& runtime, bool keyed = true) {
    auto host = netlink_host(runtime);
    auto wireguard = kernel_wireguard(runtime);
    for (const std::string& name : interfaces) {
      runtime.wait(host->ensure_link(name, "wireguard")).value();
      InterfaceChange key(name);
      if (keyed) key.private_key = Secret(std::string(32, 'k'));
      runtime.wait(wireguard->set(std::move(key))).value();
      require(std::system(("ip link set up " + name).c_str()) == 0, "ip link");
    }
  }
};

// Single calls
// ---------------------------------------------------------------------------------------------------------

class Calls {
 public:
  explicit Calls(std::uint32_t present) : links_(runtime_) {
    for (std::uint32_t at = 1; at <= present; at += 32)
      (void)bare_.call(change(at, std::min(32U, present + 1 - at), Do::set));
    next_ = present + 1;
    std::printf("one interface with %u peers; milliseconds of one call, in which the kernel executes it\n", present);
    std::printf("%-24s %6s %8s %8s %8s %10s\n", "", "peers", "p50", "p99", "worst", "us a peer");
    for (std::uint32_t peers : {1U, 2U, 4U, 8U, 16U, 32U}) of(peers);
    const std::vector<double> times = bare_.dump(interfaces[0]);
    std::printf("dump: %zu datagrams of %.1f KB, %.2f ms in all, the longest %.2f ms, %.2f us a peer\n", times.size(),
                static_cast<double>(bare_.bytes()) / 1e3 / static_cast<double>(times.size()), sum(times),
                *std::max_element(times.begin(), times.end()), sum(times) * 1e3 / present);
  }

 private:
  enum class Do : std::uint8_t { set, strip, remove };

  std::string change(std::uint32_t first, std::uint32_t count, Do what) const {
    InterfaceChange out(interfaces[0]);
    for (std::uint32_t i = 0; i < count; ++i) {
      Peer& peer = out.peers.emplace_back(plain(0, first + i));
      if (what == Do::set) continue;
      peer.allowed.clear();
      (what == Do::strip ? peer.update_only : peer.remove) = true;
    }
    return genl::ChangeWriter(bare_.family(), out).next(count);
  }

  void of(std::uint32_t peers) {
    constexpr std::uint32_t rounds = 50;
    const std::uint32_t first = next_;
    for (auto [name, what] : {std::pair("a peer that is new", Do::set), std::pair("one that is there", Do::set),
                              std::pair("taking allowed IPs", Do::strip), std::pair("removing", Do::remove)}) {
      std::vector<double> times;
      for (std::uint32_t i = 0; i < rounds; ++i) times.push_back(bare_.call(change(first + i * peers, peers, what)));
      std::sort(times.begin(), times.end());
      std::printf("%-24s %6u %8.3f %8.3f %8.3f %10.1f\n", name, peers, times[rounds / 2], times[rounds * 99 / 100],
                  times.back(), sum(times) * 1e3 / rounds / peers);
    }
    next_ += rounds * peers;
  }

  PrivateNamespace inside_;
  Runtime runtime_;
  Links links_;
  Bare bare_;
  std::uint32_t next_ = 0;
};

// The loop
// -------------------------------------------------------------------------------------------------------------

/// How long others had to wait for their turn, again and again while it lives.
class LoopWatch {
 public:
  explicit LoopWatch(Runtime& runtime) : watching_(runtime.spawn(watch(runtime, *this))) {}
  ~LoopWatch() { over_ = true; }

  void print(const char* what, double rounds = 1) {
    const double took = (now_ms() - began_) / rounds;
    std::sort(turns_.begin(), turns_.end());
    double seen = 0;
    auto at = turns_.begin();
    for (const double all = sum(turns_); at != turns_.end() && (seen += *at) < 0.99 * all; ++at) {
    }
    std::printf(
        "%-46s %9.1f ms; turns: longest %6.2f ms (processor time %6.2f), 99 %% of the time in ones below %6.2f\n", what,
        took, turns_.back(), longest_, at == turns_.end() ? turns_.back() : *at);
    std::fflush(stdout);
  }

 private:
  static Task<void> watch(Runtime& runtime, LoopWatch& self) {
    Pace pace(runtime);
    self.turns_.reserve(1 << 22);
    double wall = self.began_ = now_ms(), spent = now_ms(CLOCK_THREAD_CPUTIME_ID);
    while (!self.over_) {
      co_await pace.yield();
      const double now = now_ms(), now_spent = now_ms(CLOCK_THREAD_CPUTIME_ID);
      if (self.turns_.size() < self.turns_.capacity()) self.turns_.push_back(now - wall);
      self.longest_ = std::max(self.longest_, now_spent - spent);
      wall = now, spent = now_spent;
    }
    co_return Result<void>();
  }

  double began_ = now_ms(), longest_ = 0;
  std::vector<double> turns_{0.0};
  bool over_ = false;
  Background watching_;
};

/// A programmer that wants so many peers on two lanes, and a store with their sessions.
class Gateway {
 public:
  explicit Gateway(std::uint32_t count)
      : wireguard_(kernel_wireguard(runtime_)), peers_(runtime_, *wireguard_), sessions_(runtime_, SessionOptions()) {
    for (const std::string& name : interfaces) peers_.add_lane(Lane(name), name);
    std::vector<WantedPeer> wanted;
    for (std::uint32_t i = 1; i <= count; ++i) wanted.push_back(peer_of(i));
    peers_.want(std::move(wanted));
  }

  static WantedPeer peer_of(std::uint32_t number) {
    std::vector<LaneAddress> addresses;
    for (std::size_t lane = 0; lane < interfaces.size(); ++lane)
      addresses.emplace_back(Lane(interfaces[lane]), address_of(lane, number));
    return WantedPeer(owner_of(number), test_key(number), addresses);
  }
  /// As long as the names of real ones: none of them fits into a string without memory of its own.
  static Owner owner_of(std::uint32_t number) {
    return Owner("0193c1de-7b0a-7e3c-9c55-" + std::to_string(100'000'000'000 + number));
  }

  void open_sessions(std::uint32_t count) {
    runtime_.wait(sessions_.restore(Seconds(900))).value();
    for (std::uint32_t i = 1; i <= count; ++i) {
      WantedPeer peer = peer_of(i);
      auto session = NewSession(UserId(peer.owner.str()), DeviceId(peer.owner.str()), peer.addresses, peer.key);
      Session opened = runtime_.wait(sessions_.open(std::move(session))).value();
      runtime_.wait(sessions_.activate(opened.instance)).value();
    }
  }

  void reconcile(bool changes) {
    Difference found = runtime_.wait(peers_.reconcile()).value();
    require(found.empty() != changes, "the difference");
  }

  /// As the gateway samples.
  Task<void> sample(const Lane& lane) {
    TRY(auto interface, co_await peers_.counters(lane));
    Observation seen(lane);
    seen.interface = interface.index;
    Pace pace(runtime_);
    for (const Peer& peer : interface.peers) {
      if (pace.due()) co_await pace.yield();
      seen.received = peer.received;
      seen.sent = peer.sent;
      seen.handshake = peer.handshake;
      if (!sessions_.unmoved(peer.key, seen) && peers_.wants(peer.key, lane)) (void)sessions_.observe(peer.key, seen);
    }
    co_return Result<void>();
  }

  void idle(double milliseconds) {
    auto pause = [](Runtime& runtime, double time) -> Task<void> {
      (void)co_await runtime.sleep_until(runtime.now() + std::chrono::milliseconds(static_cast<int>(time)));
      co_return Result<void>();
    };
    runtime_.wait(pause(runtime_, milliseconds)).value();
  }

  Runtime& runtime() { return runtime_; }
  PeerProgrammer& peers() { return peers_; }

 private:
  Runtime runtime_;
  std::unique_ptr<WireGuard> wireguard_;
  PeerProgrammer peers_;
  SessionStore sessions_;
};

template <class Body>
void watched(Gateway& gateway, const char* what, int rounds, Body&& body) {
  LoopWatch watch(gateway.runtime());
  for (int i = 0; i < rounds; ++i) body(i);
  watch.print(what, rounds);
}

void make_links(bool keyed = true) {
  Runtime runtime;
  Links links(runtime, keyed);
}

void hold_by_changes() {
  constexpr std::uint32_t count = 2000;
  PrivateNamespace inside;
  make_links();
  Gateway gateway(count);
  std::printf("changes; two interfaces, %u peers each\n", count);
  watched(gateway, "nothing, for comparison", 1, [&](int) { gateway.idle(500); });
  watched(gateway, "made from nothing", 1, [&](int) { gateway.reconcile(true); });
  watched(gateway, "one device more", 200, [&](int i) {
    gateway.runtime().wait(gateway.peers().add(Gateway::peer_of(count + 1 + static_cast<std::uint32_t>(i)))).value();
  });
  watched(gateway, "its allowed IPs taken", count / 2, [&](int i) {
    const auto number = static_cast<std::uint32_t>(i + 1);
    gateway.runtime().wait(gateway.peers().strip(Gateway::owner_of(number), test_key(number))).value();
  });
  std::vector<PublicKey> keys;
  for (std::uint32_t i = 1; i <= count / 2; ++i) keys.push_back(test_key(i));
  watched(gateway, "these 1000 removed, together", 1,
          [&](int) { (void)gateway.runtime().wait(gateway.peers().remove(keys)).value(); });
}

/// Without private keys: making peers takes a fraction of the time then, and reading them the same.
void hold_by_reading(std::uint32_t count) {
  PrivateNamespace inside;
  make_links(false);
  Gateway gateway(count);
  std::printf("reading; two interfaces, %u peers each\n", count);
  watched(gateway, "made from nothing, without X25519", 1, [&](int) { gateway.reconcile(true); });
  watched(gateway, "compared, nothing to do", 3, [&](int) { gateway.reconcile(false); });
  gateway.open_sessions(count);
  const Lane lane(interfaces[0]);
  watched(gateway, "one interface sampled", 5, [&](int) { gateway.runtime().wait(gateway.sample(lane)).value(); });
}

double bare_dump(Bare& bare) {
  double all = 0;
  for (const std::string& name : interfaces) all += sum(bare.dump(name));
  return all;
}

/// What a gateway finds that begins anew: peers in the kernel, and sessions that want just these. Without private keys,
/// which reading does not ask for.
void restart(std::uint32_t count) {
  PrivateNamespace inside;
  make_links(false);
  {
    Gateway first(count);
    const double began = now_ms();
    first.reconcile(true);
    std::printf("two interfaces, %u peers each, made in %.1f s\n", count, (now_ms() - began) / 1e3);
  }
  Bare bare;
  for (int round = 1; round <= 2; ++round) {
    const double before = bare_dump(bare);
    Gateway again(count);
    const double began = now_ms();
    again.reconcile(false);
    const double took = now_ms() - began, after = bare_dump(bare), dump = (before + after) / 2;
    std::printf("round %d: bare dump %.0f and %.0f ms; reconciled in %.0f ms; allowed %.0f ms\n", round, before, after,
                took, 2 * dump + 1000);
    watched(again, "  once more, watched", 1, [&](int) { again.reconcile(false); });
  }
}

/// The same work anywhere, the best of ten: two million steps of arithmetic, and 20 X25519 of OpenSSL.
void compute() {
  double steps = 1e9, curve = 1e9;
  std::uint64_t state = 1;
  for (int round = 0; round < 10; ++round) {
    double began = now_ms();
    for (int i = 0; i < 2'000'000; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
    }
    steps = std::min(steps, now_ms() - began);
    began = now_ms();
    for (int i = 0; i < 20; ++i) state += public_key_of(std::string(32, static_cast<char>(i + 1)))->bytes()[0];
    curve = std::min(curve, now_ms() - began);
  }
  std::printf("a step of arithmetic %.2f ns; one X25519 %.1f us (%x)\n", steps / 2, curve * 50,
              static_cast<unsigned>(state & 0xf));
}

}  // namespace
}  // namespace tornado

int main(int argc, char** argv) {
  using namespace tornado;
  const std::string what = argc > 1 ? argv[1] : "";
  const auto count = [&](std::uint32_t otherwise) {
    return argc > 2 ? static_cast<std::uint32_t>(std::atoi(argv[2])) : otherwise;
  };
  if (what == "compute") {
    compute();
  } else if (what == "calls") {
    Calls calls(count(10'000));
  } else if (what == "hold") {
    hold_by_changes();
    hold_by_reading(count(10'000));
  } else if (what == "restart") {
    restart(count(65'536));
  } else if (what == "dump" && argc > 2) {
    Bare bare;
    double all = 0;
    for (int i = 2; i < argc; ++i) all += sum(bare.dump(argv[i]));
    std::printf("%.1f\n", all);
  } else {
    std::fprintf(stderr, "kernel_bench compute | calls [PEERS] | dump INTERFACE... | hold [PEERS] | restart [PEERS]\n");
    return 2;
  }
}
