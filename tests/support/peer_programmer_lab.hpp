#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <map>
#include <set>

#include "support/keys.hpp"
#include "tornado/manual_clock.hpp"
#include "tornado/peer_programmer.hpp"

namespace tornado::test {

/// Passes everything on to memory, counts, and spoils chosen calls of `set`.
class SpoiledWireGuard final : public WireGuard {
 public:
  explicit SpoiledWireGuard(Runtime& runtime) : inner(runtime, {"wg0", "wg1"}), runtime_(runtime) {}
  Task<std::vector<std::string>> list() override { return inner.list(); }
  Task<Interface> get(std::string name) override {
    ++gets;
    if (unreadable) return failed<Interface>(*unreadable);
    if (name == silent) return unanswered();
    return inner.get(std::move(name));
  }
  Task<void> set(InterfaceChange change) override { return spoiled(std::move(change)); }

  MemoryWireGuard inner;
  int sets = 0, gets = 0;
  std::size_t peers_set = 0, largest = 0;
  int spoil_at = 0;     // which set from now fails, from 1; 0: none
  int spoil_count = 1;  // and how many from there
  errc code = errc::backend_failed;
  bool applied = false;  // the change is made all the same
  std::set<PublicKey> refused, swallowed;
  std::optional<errc> unreadable;
  void expect(const std::string& name, std::size_t peers) override { expected[name] = peers; }
  std::map<std::string, std::size_t> expected;
  std::string silent;  // the interface that does not answer who reads it

 private:
  Task<Interface> unanswered() {
    (void)co_await runtime_.sleep_until(runtime_.now() + std::chrono::hours(1));
    co_return Error(errc::cancelled);
  }
  template <class T>
  static Task<T> failed(errc code) {
    co_return Error(code, "spoiled");
  }
  Task<void> spoiled(InterfaceChange change) {
    ++sets;
    peers_set += change.peers.size();
    largest = std::max(largest, change.peers.size());
    for (const Peer& peer : change.peers)
      if (refused.contains(peer.key)) co_return Error(errc::backend_failed, "refused");
    std::erase_if(change.peers, [&](const Peer& peer) { return swallowed.contains(peer.key); });
    bool fails = spoil_at > 0 && sets >= spoil_at && sets < spoil_at + spoil_count;
    if (!fails || applied) {
      auto done = co_await inner.set(std::move(change));
      if (!done) co_return done;
    }
    if (fails) co_return Error(code, "spoiled");
    co_return Result<void>();
  }

  Runtime& runtime_;
};

class CollectingLog final : public LogSink {
 public:
  void write(LogLevel, std::string_view id, const std::vector<LogField>&) override { ++lines[std::string(id)]; }
  std::map<std::string, int> lines;
};

class PeerProgrammerTest : public ::testing::Test {
 protected:
  PeerProgrammerTest()
      : runtime_(RuntimeOptions().log(log_).clock(clock_)), wireguard_(runtime_), peers_(runtime_, wireguard_) {
    peers_.add_lane(Lane("vpn"), "wg0");
    peers_.add_lane(Lane("tor"), "wg1");
  }

  static WantedPeer peer(const std::string& owner, std::uint32_t key, std::uint32_t host) {
    std::vector<LaneAddress> addresses{LaneAddress(Lane("vpn"), Address::from_v4(0x0a080000 + host)),
                                       LaneAddress(Lane("tor"), Address::from_v4(0x0a090000 + host))};
    return WantedPeer(Owner(owner), test_key(key), std::move(addresses));
  }
  static WantedPeer on_vpn(const std::string& owner, std::uint32_t key, std::uint32_t host) {
    auto out = peer(owner, key, host);
    out.addresses = std::vector<LaneAddress>(1, out.addresses.front());
    return out;
  }

  Result<void> add(WantedPeer peer) { return runtime_.wait(peers_.add(std::move(peer))); }
  Result<void> strip(const std::string& owner, std::uint32_t key) {
    return runtime_.wait(peers_.strip(Owner(owner), test_key(key)));
  }
  Result<std::vector<PeerSample>> remove(std::vector<PublicKey> keys) { return runtime_.wait(peers_.remove(keys)); }
  Difference reconcile() { return runtime_.wait(peers_.reconcile()).value(); }
  /// Passes until what is refused is parked.
  void park() {
    for (int pass = 0; pass < 3; ++pass) {
      (void)runtime_.wait(peers_.reconcile());
      if (pass < 2) clock_.advance(Seconds(30));
    }
  }
  Difference difference() { return runtime_.wait(peers_.difference()).value(); }

  /// Allowed IPs by key, of one interface.
  std::map<PublicKey, std::vector<Prefix>> on(const std::string& name) {
    std::map<PublicKey, std::vector<Prefix>> out;
    for (Peer& peer : runtime_.wait(wireguard_.inner.get(name)).value().peers) out[peer.key] = peer.allowed;
    return out;
  }
  std::vector<Prefix> allowed(const std::string& name, std::uint32_t key) {
    auto all = on(name);
    auto it = all.find(test_key(key));
    return it == all.end() ? std::vector{Prefix("0.0.0.0/0")} : it->second;
  }
  void expect_up(const WantedPeer& peer) {
    for (const LaneAddress& address : peer.addresses)
      EXPECT_EQ(on(address.lane == Lane("vpn") ? "wg0" : "wg1")[peer.key], std::vector{Prefix(address.v4, 32)});
    EXPECT_EQ(peers_.wanted(peer.owner), peer);
  }
  void put(const std::string& name, std::uint32_t key, const std::string& prefix) {
    Peer foreign;
    foreign.key = test_key(key);
    foreign.allowed = {Prefix(prefix)};
    InterfaceChange change(name);
    change.peers = {foreign};
    ASSERT_TRUE(runtime_.wait(wireguard_.inner.set(change)));
  }
  void take_away(const std::string& name, std::uint32_t key) {
    Peer gone;
    gone.key = test_key(key);
    gone.remove = true;
    InterfaceChange change(name);
    change.peers = {gone};
    ASSERT_TRUE(runtime_.wait(wireguard_.inner.set(change)));
  }
  void spoil(int at, errc code, bool applied, int count = 1) {
    wireguard_.spoil_at = wireguard_.sets + at;
    wireguard_.spoil_count = count;
    wireguard_.code = code;
    wireguard_.applied = applied;
  }

  CollectingLog log_;
  ManualClock clock_;
  Runtime runtime_;
  SpoiledWireGuard wireguard_;
  PeerProgrammer peers_;
};

}  // namespace tornado::test
