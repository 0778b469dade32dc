#include "session/traffic.hpp"

#include <gtest/gtest.h>

#include <random>

#include "support/scratch.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

Observation reading(std::uint64_t received, std::uint64_t sent, Instant handshake, std::uint32_t interface = 7) {
  Observation out(Lane("vpn"));
  out.received = received;
  out.sent = sent;
  out.handshake = handshake;
  out.interface = interface;
  return out;
}

const Instant epoch = Instant() + Seconds(1'700'000'000);

LaneCounters read_once(std::uint64_t received, std::uint64_t sent) {
  LaneCounters account;
  (void)fold(account, reading(received, sent, epoch), epoch);
  return account;
}

}  // namespace

TEST(Traffic, ACounterThatFellHasBegunAnew) {  // I-09, D-041
  LaneCounters account = read_once(1000, 400);
  TrafficDelta delta = fold(account, reading(300, 500, epoch), epoch + Seconds(5));
  EXPECT_EQ(account.total_received(), 1300u);
  EXPECT_EQ(account.total_sent(), 900u) << "both counters of a peer begin anew together";
  EXPECT_EQ(delta.received, 300u);
}

TEST(Traffic, AnotherInterfaceHasOtherCountersEvenIfTheyAreHigher) {  // I-09
  LaneCounters account = read_once(1000, 400);
  (void)fold(account, reading(1500, 600, epoch, 8), epoch + Seconds(5));
  EXPECT_EQ(account.total_received(), 2500u);
  EXPECT_EQ(account.total_sent(), 1000u);
}

TEST(Traffic, APeerWithoutItsHandshakeIsANewOne) {
  LaneCounters account = read_once(1000, 400);
  (void)fold(account, reading(1000, 700, Instant()), epoch + Seconds(5));
  EXPECT_EQ(account.total_received(), 2000u);
}

TEST(Traffic, WhatHasNotMovedIsNotedAsIfItWereFolded) {
  LaneCounters account = read_once(1000, 400);
  (void)fold(account, reading(2000, 400, epoch), epoch + Seconds(5));
  LaneCounters folded = account;
  (void)fold(folded, reading(2000, 400, epoch), epoch + Seconds(10));
  ASSERT_TRUE(read_again(account, reading(2000, 400, epoch), epoch + Seconds(10)));
  EXPECT_EQ(account.read, folded.read);
  EXPECT_EQ(account.receive_rate, folded.receive_rate);
  EXPECT_EQ(account.send_rate, folded.send_rate);
  EXPECT_EQ(account.total_received(), folded.total_received());
}

TEST(Traffic, WhateverDiffersHasMoved) {
  const LaneCounters before = read_once(1000, 400);
  LaneCounters account = before;
  for (const auto& seen :
       {reading(1001, 400, epoch), reading(999, 400, epoch), reading(1000, 401, epoch),
        reading(1000, 400, epoch + Seconds(1)), reading(1000, 400, Instant()), reading(1000, 400, epoch, 8)})
    EXPECT_FALSE(read_again(account, seen, epoch + Seconds(5)));
  EXPECT_EQ(account.read, before.read);
  LaneCounters never;
  EXPECT_FALSE(read_again(never, reading(0, 0, Instant(), 0), epoch)) << "the first reading makes the account";
}

TEST(Traffic, OurOwnReAddKeepsWhatWasCounted) {
  LaneCounters account = read_once(1000, 400);
  restart(account);
  EXPECT_EQ(account.total_received(), 1000u);
  (void)fold(account, reading(5000, 900, epoch + Seconds(1)), epoch + Seconds(5));
  EXPECT_EQ(account.total_received(), 6000u);
  EXPECT_EQ(account.total_sent(), 1300u);
}

TEST(Traffic, KeepingATunnelAliveIsNoUse) {
  LaneCounters account = read_once(1000, 400);
  EXPECT_FALSE(fold(account, reading(1000 + 148 + 5 * 32, 400 + 92, epoch + Seconds(120)), epoch + Seconds(120)).used);
  EXPECT_TRUE(fold(account, reading(1308 + 4200, 492, epoch + Seconds(120)), epoch + Seconds(125)).used);
  EXPECT_EQ(account.receive_rate, 840u);
}

TEST(Traffic, WhatCameWhileNobodyLookedIsCountedAndIsNoSignOfNow) {
  LaneCounters account;
  TrafficDelta delta = fold(account, reading(1'000'000, 1, epoch), epoch);
  EXPECT_EQ(account.total_received(), 1'000'000u);
  EXPECT_FALSE(delta.used);
}

namespace {

/// A peer as a kernel counts it, and every byte that ever went through it.
class Kernel {
 public:
  std::uint64_t received = 0, sent = 0, all_received = 0, all_sent = 0;
  std::uint32_t interface = 1;
  Instant handshake;

  void carry(std::uint64_t up, std::uint64_t down, Instant now) {
    received += up;
    sent += down;
    all_received += up;
    all_sent += down;
    handshake = now;
  }
  /// As a `wg-quick down` and `up` do it, peers and all.
  void remake_interface() {
    received = sent = 0;
    handshake = Instant();
    ++interface;
  }
  void remake_peer() {
    received = sent = 0;
    handshake = Instant();
  }
};

class Ledger : public testing::TestWithParam<unsigned> {
 protected:
  Ledger() : random_(GetParam()), runtime_(RuntimeOptions().clock(clock_).blocking_threads(1)) {
    begin();
    PublicKey key(std::array<std::uint8_t, PublicKey::size>{9});
    std::vector<LaneAddress> addresses{LaneAddress(Lane("vpn"), Address::from_v4(0x0a080002U)),
                                       LaneAddress(Lane("tor"), Address::from_v4(0x0a090002U))};
    NewSession wanted(UserId("user"), DeviceId("laptop"), addresses, key);
    session_ = runtime_.wait(sessions_->open(std::move(wanted))).value();
    session_ = runtime_.wait(sessions_->activate(session_.instance)).value();
  }

  void begin() {
    sessions_.reset();
    sessions_ = std::make_unique<SessionStore>(runtime_, SessionOptions(scratch_ / "journal.db"));
    (void)runtime_.wait(sessions_->restore(Seconds(900))).value();
  }

  std::uint64_t bytes() { return random_() % 3 == 0 ? 0 : random_() % 100'000; }
  void sample(int lane) {
    const Kernel& kernel = kernels_[lane];
    Observation seen(Lane(lane == 0 ? "vpn" : "tor"));
    seen.received = kernel.received;
    seen.sent = kernel.sent;
    seen.handshake = kernel.handshake;
    seen.interface = kernel.interface;
    // As the gateway reads: what has not moved is only noted as read.
    if (sessions_->unmoved(session_.key, seen)) return;
    ASSERT_TRUE(sessions_->observe(session_.key, seen));
  }
  void step() {
    clock_.advance(Seconds(1 + random_() % 20));
    const int lane = static_cast<int>(random_() % 2);
    Kernel& kernel = kernels_[lane];
    switch (random_() % 7) {
      case 0:
      case 1:
        kernel.carry(bytes(), bytes(), clock_.now());
        break;
      case 2:
        sample(lane);
        break;
      case 3:
        ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
        break;
      case 4:
        begin();
        break;  // kill -9: nothing of memory is written
      case 5:
        sample(lane);
        ASSERT_TRUE(runtime_.wait(sessions_->counters_restarted({RestartedCounters(session_.instance, name(lane))})));
        kernel.remake_peer();
        break;
      default:
        // What nobody has read before is lost with the interface; what was read must not be.
        sample(lane);
        ASSERT_TRUE(runtime_.wait(sessions_->checkpoint()));
        kernel.remake_interface();
    }
  }
  static Lane name(int lane) { return Lane(lane == 0 ? "vpn" : "tor"); }

  std::mt19937 random_;
  test::Scratch scratch_;
  ManualClock clock_;
  Runtime runtime_;
  std::unique_ptr<SessionStore> sessions_;
  Session session_;
  Kernel kernels_[2];
};

}  // namespace

TEST_P(Ledger, TotalsEqualWhatTheKernelCountedThroughRestartsAndKills) {  // I-09, D-037, D-041
  for (int i = 0; i < 400; ++i) ASSERT_NO_FATAL_FAILURE(step());
  ASSERT_NO_FATAL_FAILURE(sample(0));
  ASSERT_NO_FATAL_FAILURE(sample(1));
  auto session = sessions_->find(session_.instance);
  ASSERT_TRUE(session);
  EXPECT_EQ(session->received, kernels_[0].all_received + kernels_[1].all_received);
  EXPECT_EQ(session->sent, kernels_[0].all_sent + kernels_[1].all_sent);
  EXPECT_EQ(session->counters_on(Lane("vpn"))->total_received(), kernels_[0].all_received);
  EXPECT_EQ(session->counters_on(Lane("tor"))->total_sent(), kernels_[1].all_sent);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Ledger, testing::Range(0u, 25u));
