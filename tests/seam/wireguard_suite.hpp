#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "support/keys.hpp"
#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// What every WireGuard implementation does. A Factory is made from nothing, puts itself where it needs to be, and has
/// `Runtime& runtime()`, `WireGuard& wireguard()`, `std::string interface()` (there, empty, without a key) and
/// `void drop()` (the interface goes). One that cannot be made everywhere also has `static bool wanted()`; where that
/// is false it is never made, and the tests are skipped.
template <class Factory>
class WireGuardSuite : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (requires { Factory::wanted(); })
      if (!Factory::wanted()) GTEST_SKIP() << "not wanted here";
    holder_ = std::make_unique<Factory>();
  }
  Factory& factory() { return *holder_; }

  static Peer peer(std::uint32_t number, std::vector<Prefix> allowed = {}) {
    Peer out;
    out.key = test_key(number);
    out.allowed = std::move(allowed);
    return out;
  }
  InterfaceChange change(std::vector<Peer> peers) {
    InterfaceChange out(factory().interface());
    out.peers = std::move(peers);
    return out;
  }
  Result<void> set(InterfaceChange value) {
    return factory().runtime().wait(factory().wireguard().set(std::move(value)));
  }
  Result<void> set(std::vector<Peer> peers) { return set(change(std::move(peers))); }
  Interface get() { return factory().runtime().wait(factory().wireguard().get(factory().interface())).value(); }
  std::optional<Peer> find(std::uint32_t number) {
    for (Peer& peer : get().peers)
      if (peer.key == test_key(number)) return peer;
    return std::nullopt;
  }

  std::unique_ptr<Factory> holder_;
};

TYPED_TEST_SUITE_P(WireGuardSuite);

TYPED_TEST_P(WireGuardSuite, says_that_an_interface_is_missing) {
  auto& wireguard = this->factory().wireguard();
  auto& runtime = this->factory().runtime();
  EXPECT_EQ(runtime.wait(wireguard.get("nowhere")).error().code(), errc::interface_missing);
  EXPECT_EQ(runtime.wait(wireguard.set(InterfaceChange("nowhere"))).error().code(), errc::interface_missing);
  EXPECT_EQ(runtime.wait(wireguard.get("../etc")).error().code(), errc::interface_missing);
}

TYPED_TEST_P(WireGuardSuite, lists_interfaces_while_they_are_there) {
  auto names = [&] { return this->factory().runtime().wait(this->factory().wireguard().list()).value(); };
  EXPECT_EQ(names(), std::vector<std::string>{this->factory().interface()});
  this->factory().drop();
  EXPECT_TRUE(names().empty());
}

TYPED_TEST_P(WireGuardSuite, shows_the_public_half_of_the_key) {
  InterfaceChange change(this->factory().interface());
  change.private_key = Secret(std::string(32, 'k'));
  change.listen_port = 47321;
  ASSERT_TRUE(this->set(change));
  EXPECT_EQ(this->get().public_key.str(), "hGL7PweY+f4sOfOCO7Qc0+/+cLtcgXNb5GoUMTXFhFQ=");  // wg pubkey
  EXPECT_EQ(this->get().listen_port, 47321);
}

TYPED_TEST_P(WireGuardSuite, refuses_a_private_key_of_the_wrong_length) {
  InterfaceChange change(this->factory().interface());
  change.private_key = Secret("short");
  EXPECT_EQ(this->set(change).error().code(), errc::invalid_argument);
}

TYPED_TEST_P(WireGuardSuite, reads_back_what_was_written) {
  std::vector<Prefix> allowed{Prefix("10.8.0.2/32"), Prefix("fd00::2/128")};
  ASSERT_TRUE(this->set({this->peer(1, allowed), this->peer(2, {Prefix("10.8.0.3/32")})}));
  ASSERT_EQ(this->get().peers.size(), 2u);
  auto got = this->find(1);
  ASSERT_TRUE(got);
  std::sort(got->allowed.begin(), got->allowed.end());
  std::sort(allowed.begin(), allowed.end());
  EXPECT_EQ(got->allowed, allowed);
  EXPECT_EQ(got->received, 0u);
  EXPECT_EQ(got->handshake, Instant());
  EXPECT_FALSE(got->endpoint);
}

TYPED_TEST_P(WireGuardSuite, moves_an_allowed_ip_to_the_last_claimer) {
  ASSERT_TRUE(this->set({this->peer(1, {Prefix("10.8.0.2/32"), Prefix("10.8.0.4/32")})}));
  ASSERT_TRUE(this->set({this->peer(2, {Prefix("10.8.0.2/32")})}));
  EXPECT_EQ(this->find(1)->allowed, std::vector{Prefix("10.8.0.4/32")});
  EXPECT_EQ(this->find(2)->allowed, std::vector{Prefix("10.8.0.2/32")});
}

TYPED_TEST_P(WireGuardSuite, replaces_the_allowed_ips_of_a_peer) {
  ASSERT_TRUE(this->set({this->peer(1, {Prefix("10.8.0.2/32")})}));
  ASSERT_TRUE(this->set({this->peer(1, {Prefix("10.8.0.9/32")})}));
  EXPECT_EQ(this->find(1)->allowed, std::vector{Prefix("10.8.0.9/32")});
  ASSERT_TRUE(this->set({this->peer(1)}));
  EXPECT_TRUE(this->find(1)->allowed.empty());
}

TYPED_TEST_P(WireGuardSuite, gives_back_preshared_keys) {
  const Secret key(std::string(32, 'p')), other(std::string(31, 'q') + "r");
  auto with = [&](std::uint32_t number, std::optional<Secret> preshared) {
    Peer out = this->peer(number, {Prefix(Address::from_v4(0x0a080000 + number), 32)});
    out.preshared = std::move(preshared);
    return out;
  };
  ASSERT_TRUE(this->set({with(1, key), with(2, std::nullopt), with(3, other), with(4, no_preshared_key())}));
  EXPECT_EQ(this->find(1)->preshared, key);
  EXPECT_FALSE(this->find(2)->preshared);
  EXPECT_EQ(this->find(3)->preshared, other);
  EXPECT_FALSE(this->find(4)->preshared);
  ASSERT_TRUE(this->set({with(1, std::nullopt), with(2, other), with(3, no_preshared_key())}));
  EXPECT_EQ(this->find(1)->preshared, key) << "left as it was";
  EXPECT_EQ(this->find(2)->preshared, other);
  EXPECT_FALSE(this->find(3)->preshared);
  EXPECT_EQ(this->find(1)->allowed, std::vector{Prefix("10.8.0.1/32")});
  EXPECT_EQ(this->set({with(1, Secret("short"))}).error().code(), errc::invalid_argument);
}

TYPED_TEST_P(WireGuardSuite, removes_a_peer_and_does_not_mind_an_absent_one) {
  ASSERT_TRUE(this->set({this->peer(1), this->peer(2)}));
  Peer gone = this->peer(1);
  gone.remove = true;
  ASSERT_TRUE(this->set({gone}));
  ASSERT_TRUE(this->set({gone}));
  EXPECT_FALSE(this->find(1));
  EXPECT_TRUE(this->find(2));
}

TYPED_TEST_P(WireGuardSuite, does_not_make_a_peer_when_told_to_update_only) {
  Peer strip = this->peer(1);
  strip.update_only = true;
  ASSERT_TRUE(this->set({strip}));
  EXPECT_FALSE(this->find(1));
  ASSERT_TRUE(this->set({this->peer(1, {Prefix("10.8.0.2/32")})}));
  ASSERT_TRUE(this->set({strip}));
  ASSERT_TRUE(this->find(1));
  EXPECT_TRUE(this->find(1)->allowed.empty());
}

TYPED_TEST_P(WireGuardSuite, replaces_all_peers_across_chunks) {
  ASSERT_TRUE(this->set({this->peer(1), this->peer(2)}));
  std::vector<Peer> peers;
  for (std::uint32_t i = 2; i < 102; ++i)
    peers.push_back(this->peer(i, {Prefix(Address::from_v4(0x0a080000 + i), 32)}));
  InterfaceChange change = this->change(peers);
  change.replace_peers = true;
  ASSERT_TRUE(this->set(change));
  Interface now = this->get();
  EXPECT_EQ(now.peers.size(), 100u);
  EXPECT_TRUE(std::all_of(now.peers.begin(), now.peers.end(), [](const Peer& p) { return p.allowed.size() == 1; }));
  EXPECT_FALSE(this->find(1));
}

TYPED_TEST_P(WireGuardSuite, ignores_the_interfaces_own_key_as_a_peer) {
  InterfaceChange change(this->factory().interface());
  change.private_key = Secret(std::string(32, 'k'));
  ASSERT_TRUE(this->set(change));
  Peer own;
  own.key = this->get().public_key;
  ASSERT_TRUE(this->set({own}));
  EXPECT_TRUE(this->get().peers.empty());
}

TYPED_TEST_P(WireGuardSuite, tells_its_identity_without_its_peers) {
  auto& wireguard = this->factory().wireguard();
  auto& runtime = this->factory().runtime();
  InterfaceChange change = this->change({});
  change.private_key = Secret(std::string(32, 'k'));
  change.listen_port = 51833;
  for (std::uint32_t i = 1; i <= 500; ++i) change.peers.push_back(this->peer(i));
  ASSERT_TRUE(this->set(std::move(change)));
  for (int round = 0; round < 3; ++round) {
    auto identity = runtime.wait(wireguard.identity(this->factory().interface()));
    ASSERT_TRUE(identity);
    Interface whole = this->get();
    EXPECT_EQ(identity->name, whole.name);
    EXPECT_EQ(identity->index, whole.index);
    EXPECT_EQ(identity->public_key, whole.public_key);
    EXPECT_EQ(identity->listen_port, 51833);
    EXPECT_TRUE(identity->peers.empty());
    EXPECT_EQ(whole.peers.size(), 500u);
  }
  EXPECT_EQ(runtime.wait(wireguard.identity("nowhere")).error().code(), errc::interface_missing);
}

TYPED_TEST_P(WireGuardSuite, carries_out_operations_in_the_order_they_were_begun) {
  auto& runtime = this->factory().runtime();
  std::vector<Background> running;
  for (std::uint32_t i = 1; i <= 20; ++i)
    running.push_back(
        runtime.spawn(this->factory().wireguard().set(this->change({this->peer(i, {Prefix("10.8.0.2/32")})}))));
  EXPECT_EQ(this->find(20)->allowed, std::vector{Prefix("10.8.0.2/32")});
  EXPECT_EQ(this->get().peers.size(), 20u);
}

TYPED_TEST_P(WireGuardSuite, notices_that_the_interface_went) {
  ASSERT_TRUE(this->set({this->peer(1)}));
  this->factory().drop();
  EXPECT_EQ(this->set({this->peer(2)}).error().code(), errc::interface_missing);
  EXPECT_EQ(this->factory().runtime().wait(this->factory().wireguard().get(this->factory().interface())).error().code(),
            errc::interface_missing);
}

REGISTER_TYPED_TEST_SUITE_P(WireGuardSuite, says_that_an_interface_is_missing, lists_interfaces_while_they_are_there,
                            shows_the_public_half_of_the_key, refuses_a_private_key_of_the_wrong_length,
                            reads_back_what_was_written, moves_an_allowed_ip_to_the_last_claimer,
                            replaces_the_allowed_ips_of_a_peer, gives_back_preshared_keys,
                            removes_a_peer_and_does_not_mind_an_absent_one,
                            does_not_make_a_peer_when_told_to_update_only, replaces_all_peers_across_chunks,
                            ignores_the_interfaces_own_key_as_a_peer, tells_its_identity_without_its_peers,
                            carries_out_operations_in_the_order_they_were_begun, notices_that_the_interface_went);

}  // namespace tornado::inline v1
