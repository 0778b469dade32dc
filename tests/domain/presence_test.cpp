// What clients do, second by second, and what is said about them.
#include <gtest/gtest.h>

#include <functional>

#include "support/scratch.hpp"
#include "tornado/manual_clock.hpp"
#include "tornado/session_store.hpp"

using namespace tornado;

namespace {

constexpr Seconds sampled_every{5};

/// A client and the peer that the gateway's interface has of it.
class Presences : public testing::Test {
 protected:
  Presences() : runtime_(RuntimeOptions().clock(clock_).blocking_threads(1)), sessions_(runtime_, options()) {
    (void)runtime_.wait(sessions_.restore(Seconds(900))).value();
    clock_.advance(Seconds(100));
    sessions_.on_presence([this](const Session& session, Presence) {
      auto since = std::chrono::duration_cast<Seconds>(session.presence_since - begun_).count();
      seen_.push_back(std::string(name(session.presence)) + " " + std::string(name(session.presence_reason)) + " " +
                      std::to_string(since));
    });
    sessions_.on_roaming([this](const Session& session, const Address& before) {
      seen_.push_back(before.str() + " -> " + session.source->str());
    });
    begun_ = clock_.now();
    std::vector<LaneAddress> addresses{LaneAddress(Lane("vpn"), Address::from_v4(0x0a080002U)),
                                       LaneAddress(Lane("tor"), Address::from_v4(0x0a090002U))};
    NewSession wanted(UserId("user"), DeviceId("laptop"), addresses,
                      PublicKey(std::array<std::uint8_t, PublicKey::size>{9}));
    session_ = runtime_.wait(sessions_.open(std::move(wanted))).value();
    session_ = runtime_.wait(sessions_.activate(session_.instance)).value();
  }

  SessionOptions options() {
    SessionOptions out(scratch_ / "journal.db");
    out.grace = Seconds(0);
    return out;
  }

  int now() const { return static_cast<int>(std::chrono::duration_cast<Seconds>(clock_.now() - begun_).count()); }

  /// As wireguard(4) says: a new handshake with the first packet after 120 s of the last one.
  void packet(std::uint64_t bytes, int lane = 0) {
    auto& peer = peers_[lane];
    if (clock_.now() - peer.handshake >= Seconds(120)) {
      peer.handshake = clock_.now();
      peer.received += 148;
    }
    peer.received += bytes;
  }
  void beat() { ASSERT_TRUE(sessions_.beat(session_.device, std::nullopt)); }

  /// Runs a client until a second, `does` called every second.
  template <class F>
  void live(int until, F does) {
    while (now() < until) {
      clock_.advance(Seconds(1));
      does();
      (void)sessions_.fade();
      if (now() % sampled_every.count() != 0) continue;
      for (int lane = 0; lane < 2; ++lane) {
        Observation seen(Lane(lane == 0 ? "vpn" : "tor"));
        seen.received = peers_[lane].received;
        seen.sent = peers_[lane].sent;
        seen.handshake = peers_[lane].handshake;
        seen.source = endpoint_;
        ASSERT_TRUE(sessions_.observe(session_.instance, seen));
      }
    }
  }

  using Expected = std::vector<std::string>;

  struct InterfacePeer {
    std::uint64_t received = 0, sent = 0;
    Instant handshake;
  };

  test::Scratch scratch_;
  ManualClock clock_;
  Runtime runtime_;
  SessionStore sessions_;
  Session session_;
  InterfacePeer peers_[2];
  std::optional<Address> endpoint_;
  Instant begun_;
  Expected seen_;
};

}  // namespace

TEST_F(Presences, AClientThatOnlyKeepsAliveIsIdleAndStaysIt) {  // WP#641: no flapping at 120 s
  live(4 * 3600, [&] {
    if (now() % 25 == 0) packet(32);
  });
  EXPECT_EQ(seen_, (Expected{"online connected 0", "idle quiet 90"}));
}

TEST_F(Presences, AClientThatOnlyBeatsIsOnline) {
  live(4 * 3600, [&] {
    if (now() % 30 == 0) beat();
  });
  EXPECT_EQ(seen_, Expected{"online connected 0"});
}

TEST_F(Presences, AClientThatOnlyTransfersIsOnline) {
  live(4 * 3600, [&] { packet(1500); });
  EXPECT_EQ(seen_, Expected{"online connected 0"});
}

TEST_F(Presences, AnUnchangedClientIsOnline) {  // K-14, K-15
  live(4 * 3600, [&] {
    if (now() % 25 == 0) packet(32);
    if (now() % 30 == 0) {
      packet(900);
      beat();
    }
  });
  EXPECT_EQ(seen_, Expected{"online connected 0"});
}

TEST_F(Presences, AClientThatSleepsGoesOfflineAndComesBack) {  // D-034
  auto awake = [&] {
    if (now() % 25 == 0) packet(32);
    if (now() % 30 == 0) {
      packet(1200);
      beat();
    }
  };
  live(600, awake);
  live(7200, [] {});
  live(7500, awake);
  // Its last handshake was at 600 - 600 % 120; the tunnel wakes before the program does.
  ASSERT_EQ(seen_.size(), 4U);
  EXPECT_TRUE(seen_[1].starts_with("offline silent 7") || seen_[1].starts_with("offline silent 8")) << seen_[1];
  EXPECT_EQ(seen_[2], "idle handshake 7225");
  EXPECT_EQ(seen_[3], "online heartbeat 7230");
}

TEST_F(Presences, AHalfOpenTunnelIsOffline) {
  live(300, [&] { packet(1500); });
  // The client is gone without a word; the gateway goes on sending, and offers handshakes.
  live(3600, [&] { peers_[0].sent += 1500; });
  ASSERT_EQ(seen_.size(), 2U);
  EXPECT_TRUE(seen_[1].starts_with("offline silent 4")) << seen_[1];
}

TEST_F(Presences, RoamingIsAnEventAndNoChangeOfPresence) {
  endpoint_ = Address::parse("198.51.100.7").value();
  live(300, [&] { packet(1500); });
  endpoint_ = Address::parse("203.0.113.9").value();
  live(600, [&] { packet(1500); });
  EXPECT_EQ(seen_, (Expected{"online connected 0", "198.51.100.7 -> 203.0.113.9"}));
  EXPECT_EQ(sessions_.find(session_.instance)->roamed, 1U);
}

TEST(AddressPrivacy, ShowsNoMoreThanItIsToldTo) {
  auto shown = [](const char* address, AddressPrivacy privacy) {
    return shown_address(Address::parse(address).value(), privacy).str();
  };
  EXPECT_EQ(shown("203.0.113.9", AddressPrivacy::full), "203.0.113.9");
  EXPECT_EQ(shown("203.0.113.9", AddressPrivacy::network), "203.0.113.0/24");
  EXPECT_EQ(shown("203.0.113.9", AddressPrivacy::none), "");
  EXPECT_EQ(shown("2001:db8:1:2:3::4", AddressPrivacy::full), "2001:db8:1:2:3::4");
  EXPECT_EQ(shown("2001:db8:1:2:3::4", AddressPrivacy::network), "2001:db8:1::/48");
  EXPECT_EQ(shown_address(std::nullopt, AddressPrivacy::full), ShownAddress());
}

TEST_F(Presences, ASessionIsShownWithItsNetworksAndCountsEveryRoaming) {
  const char* places[] = {"198.51.100.7", "198.51.100.8", "203.0.113.9"};
  int until = 0;
  for (const char* place : places) {
    endpoint_ = Address::parse(place).value();
    live(until += 300, [&] { packet(1500); });
  }
  auto session = *sessions_.find(session_.instance);
  EXPECT_EQ(session.roamed, 2U);
  EXPECT_EQ(session.first_seen_from.str(), "198.51.100.0/24");
  EXPECT_EQ(session.seen_from.str(), "203.0.113.0/24");
  EXPECT_EQ(session.source, Address::parse("203.0.113.9").value()) << "decisions know all of it";
  ASSERT_TRUE(runtime_.wait(sessions_.checkpoint()));
  // What the next daemon reads, and then history.
  SessionStore next(runtime_, options());
  auto restored = runtime_.wait(next.restore(Seconds(900))).value().unclosed.at(0);
  EXPECT_EQ(restored.roamed, 2U);
  EXPECT_EQ(restored.seen_from.str(), "203.0.113.0/24");
  EXPECT_FALSE(restored.source) << "all of it was never written down";
  (void)runtime_.wait(sessions_.end(session_.instance, CloseReason::killed)).value();
  (void)runtime_.wait(sessions_.record(session_.instance)).value();
  auto ended = runtime_.wait(sessions_.undrained(10)).value().at(0);
  EXPECT_EQ(ended.roamed, 2U);
  EXPECT_EQ(ended.first_seen_from.str(), "198.51.100.0/24");
  EXPECT_EQ(ended.seen_from.str(), "203.0.113.0/24");
}

TEST_F(Presences, TheLaneInUseIsTheOneThatCarries) {  // D-057
  live(60, [&] { packet(1500, 0); });
  EXPECT_EQ(sessions_.find(session_.instance)->lane, Lane("vpn"));
  // Both tunnels are up; only the other one is used, and then the first again.
  live(200, [&] {
    packet(1500, 1);
    if (now() % 25 == 0) packet(32, 0);
  });
  EXPECT_EQ(sessions_.find(session_.instance)->lane, Lane("tor"));
  live(215, [&] { packet(1500, 0); });
  EXPECT_EQ(sessions_.find(session_.instance)->lane, Lane("vpn"));
}

TEST_F(Presences, TwoTunnelsThatAreOnlyKeptAliveDoNotTakeTheLaneFromEachOther) {
  endpoint_ = Address::parse("198.51.100.7").value();
  live(60, [&] { packet(1500, 0); });
  std::vector<std::string> lanes;
  live(3600, [&] {
    if (now() % 25 == 0) packet(32, 0);
    if (now() % 20 == 0) packet(32, 1);
    const std::string lane = sessions_.find(session_.instance)->lane.str();
    if (lanes.empty() || lanes.back() != lane) lanes.push_back(lane);
  });
  EXPECT_EQ(lanes, std::vector<std::string>{"vpn"});
  // The one in use dies: the other one is what is left.
  live(4000, [&] {
    if (now() % 20 == 0) packet(32, 1);
  });
  EXPECT_EQ(sessions_.find(session_.instance)->lane, Lane("tor"));
}
