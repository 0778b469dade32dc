// One device more and one less on two wireguard-go with many peers: PeerProgrammer against the same changes written to
// the sockets directly, in turns. Needs root and /dev/net/tun.
//   peers_bench [PEERS] [ROUNDS]        default: 10,000 and 2,000
#include <net/if.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <thread>

#include "base/descriptor.hpp"
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "support/keys.hpp"
#include "support/private_namespace.hpp"
#include "support/test_process.hpp"
#include "tornado/peer_programmer.hpp"
#include "wireguard/uapi_codec.hpp"

namespace tornado {
namespace {

const std::vector<std::string> interfaces{"tnb0", "tnb1"};
constexpr int at_once = 32;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

WantedPeer peer_of(std::uint32_t number) {
  std::vector<LaneAddress> addresses{LaneAddress(Lane("tnb0"), Address::from_v4(0x0a000000U + number)),
                                     LaneAddress(Lane("tnb1"), Address::from_v4(0x0b000000U + number))};
  return WantedPeer(Owner("device-" + std::to_string(number)), test_key(number), addresses);
}

/// A socket of wireguard-go, written and read without waiting for anything else.
class Bare {
 public:
  explicit Bare(const std::string& interface) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "/run/wireguard/%s.sock", interface.c_str());
    if (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
  }
  void set(const Peer& peer) {
    InterfaceChange change;
    change.peers = {peer};
    for (const Secret& request : uapi_set_requests(change)) {
      if (::write(fd_.get(), request.reveal().data(), request.reveal().size()) < 0) std::abort();
      std::string answer;
      char bytes[256];
      while (!answer.ends_with("\n\n")) {
        ssize_t size = ::read(fd_.get(), bytes, sizeof bytes);
        if (size <= 0) std::abort();
        answer.append(bytes, static_cast<std::size_t>(size));
      }
      if (answer != "errno=0\n\n") std::abort();
    }
  }

 private:
  Descriptor fd_;
};

class Times {
 public:
  explicit Times(const char* what) : what_(what) {}
  template <class Body>
  void time(Body&& body) {
    const double began = now_ms();
    body();
    times_.push_back(now_ms() - began);
  }
  double per_second() const {
    double all = 0;
    for (double time : times_) all += time;
    return 1e3 * static_cast<double>(times_.size()) / all;
  }
  void print() {
    std::sort(times_.begin(), times_.end());
    std::printf("%-58s %8.0f/s  p50 %6.2f  p99 %6.2f  worst %6.2f ms\n", what_, per_second(), times_[times_.size() / 2],
                times_[times_.size() * 99 / 100], times_.back());
  }

 private:
  const char* what_;
  std::vector<double> times_;
};

class Bench {
 public:
  Bench() : wireguard_(uapi_wireguard(runtime_)), peers_(runtime_, *wireguard_) {
    for (const auto& interface : interfaces) {
      processes_.emplace_back(std::vector<std::string>{"/usr/bin/wireguard-go", "-f", interface});
      while (!runtime_.wait(wireguard_->get(interface))) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      InterfaceChange change(interface);
      change.private_key = Secret(std::string(31, 'k') + "b");
      runtime_.wait(wireguard_->set(std::move(change))).value();
      peers_.add_lane(Lane(interface), interface);
    }
  }

  void fill(std::uint32_t count) {
    std::vector<WantedPeer> wanted;
    for (std::uint32_t i = 1; i <= count; ++i) wanted.push_back(peer_of(i));
    peers_.want(std::move(wanted));
    runtime_.wait(peers_.reconcile()).value();
    next_ = count;
  }

  /// One after the other, each beside the same change made directly.
  void one_by_one(int rounds) {
    Bare first(interfaces[0]), second(interfaces[1]);
    Times add("add, one after the other"), strip("take the allowed IPs, one after the other");
    Times bare_add("bare: the same two sets to add"), bare_strip("bare: the same two sets to take them");
    std::vector<PublicKey> stripped;
    for (int i = 0; i < rounds; ++i) {
      WantedPeer ours = peer_of(++next_);
      add.time([&] { runtime_.wait(peers_.add(ours)).value(); });
      strip.time([&] { runtime_.wait(peers_.strip(ours.owner, ours.key)).value(); });
      stripped.push_back(ours.key);
      WantedPeer bare = peer_of(++next_);
      bare_add.time([&] { first.set(plain(bare, 0)), second.set(plain(bare, 1)); });
      Peer taken = plain(bare, 0);
      taken.allowed.clear();
      taken.update_only = true;
      bare_strip.time([&] { first.set(taken), second.set(taken); });
      taken.remove = true;
      first.set(taken), second.set(taken);
    }
    Times remove("remove them all, final counters included, at once");
    remove.time([&] { runtime_.wait(peers_.remove(std::move(stripped))).value(); });
    for (Times* times : {&add, &bare_add, &strip, &bare_strip, &remove}) times->print();
    std::printf("throughput of bare sets: add %.0f %%, take %.0f %%\n", 100 * add.per_second() / bare_add.per_second(),
                100 * strip.per_second() / bare_strip.per_second());
  }

  /// So many devices at once, as clients come.
  void together(int rounds) {
    Bare first(interfaces[0]), second(interfaces[1]);
    double ours = 0, bare = 0;
    for (int batch = 0; batch < rounds / at_once; ++batch) {
      const double began = now_ms();
      TaskGroup group(runtime_);
      std::vector<PublicKey> added;
      for (int i = 0; i < at_once; ++i) {
        WantedPeer peer = peer_of(++next_);
        added.push_back(peer.key);
        group.add("add", peers_.add(std::move(peer)));
      }
      runtime_.wait(settled(group)).value();
      ours += now_ms() - began;
      const double middle = now_ms();
      for (int i = 0; i < at_once; ++i) {
        WantedPeer peer = peer_of(++next_);
        first.set(plain(peer, 0)), second.set(plain(peer, 1));
      }
      bare += now_ms() - middle;
    }
    const double count = rounds / at_once * at_once;
    std::printf("add, %d at once: %.0f/s; bare sets one after the other: %.0f/s; %.0f %%\n", at_once,
                1e3 * count / ours, 1e3 * count / bare, 100 * bare / ours);
  }

 private:
  static Peer plain(const WantedPeer& wanted, std::size_t lane) {
    Peer peer;
    peer.key = wanted.key;
    peer.allowed = {Prefix(wanted.addresses[lane].v4, 32)};
    return peer;
  }
  static Task<void> settled(TaskGroup& group) {
    co_await group.settled(1);
    co_return Result<void>();
  }

  PrivateNamespace inside_;
  Runtime runtime_;
  std::deque<TestProcess> processes_;
  std::unique_ptr<WireGuard> wireguard_;
  PeerProgrammer peers_;
  std::uint32_t next_ = 0;
};

}  // namespace
}  // namespace tornado

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 10'000, rounds = argc > 2 ? std::atoi(argv[2]) : 2'000;
  tornado::Bench bench;
  bench.fill(static_cast<std::uint32_t>(count));
  std::printf("%d peers on each of two wireguard-go, %d rounds\n", count, rounds);
  bench.one_by_one(rounds);
  bench.together(rounds);
}
