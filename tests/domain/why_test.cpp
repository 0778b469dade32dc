#include <gtest/gtest.h>

#include <functional>

#include "explain/why_facts.hpp"

using namespace tornado;

namespace {

const Instant now = Instant() + Seconds(1'700'000'000);

PublicKey key() {
  return PublicKey(std::array<std::uint8_t, PublicKey::size>{9});
}

Session session() {
  Session out;
  out.instance = Instance("i");
  out.user = UserId("u");
  out.device = DeviceId("d");
  out.key = key();
  out.state = SessionState::active;
  out.presence = Presence::online;
  out.opened = out.presence_since = now - Seconds(600);
  out.addresses = {LaneAddress(Lane("vpn"), Address::from_v4(0x0a080002U)),
                   LaneAddress(Lane("tor"), Address::from_v4(0x0a090002U))};
  out.lane = Lane("vpn");
  return out;
}

/// Everything as it should be: a client on the vpn lane.
WhyFacts healthy() {
  WhyFacts facts;
  facts.now = now;
  facts.user.username = "alice";
  facts.device.emplace();
  facts.device->id = DeviceId("d");
  facts.device->last_seen = now - Seconds(30);
  facts.signed_in = {*facts.device};
  facts.session = session();
  facts.lease.emplace();
  facts.lease->addresses = facts.session->addresses;
  for (const auto& address : facts.session->addresses) {
    LaneFacts& lane = facts.lanes.emplace_back(address.lane);
    lane.interface = address.lane == Lane("vpn") ? "wg0" : "wg1";
    lane.listen_port = address.lane == Lane("vpn") ? 51820 : 51821;
    lane.mode = address.lane == Lane("vpn") ? LaneMode::open : LaneMode::tor;
    lane.peer.emplace();
    lane.peer->key = key();
    lane.peer->allowed = {Prefix(address.v4, 32)};
  }
  facts.lanes[0].peer->handshake = now - Seconds(20);
  return facts;
}

struct Fault {
  const char* name;
  std::function<void(WhyFacts&)> make;
  const char* check;
  const char* remedy;  // a part of it
};

const Fault faults[] = {
    {"starting", [](WhyFacts& f) { f.ready = false; }, "gateway", "gateway status"},
    {"store_away",
     [](WhyFacts& f) {
       f.broken.resize(1);
       f.broken[0].name = "journal";
     },
     "gateway", "gateway health"},
    {"deleted", [](WhyFacts& f) { f.user.deleted = now - Seconds(5); }, "account", "user add"},
    {"suspended", [](WhyFacts& f) { f.user.active = false; }, "account", "user reinstate alice"},
    {"never_signed_in",
     [](WhyFacts& f) {
       f.device.reset();
       f.signed_in.clear();
       f.session.reset();
       f.lease.reset();
     },
     "sign_in", "sign in"},
    {"revoked", [](WhyFacts& f) { f.device->revoked = now - Seconds(60); }, "sign_in", "sign in"},
    {"sign_in_ended", [](WhyFacts& f) { f.signed_in.clear(); }, "sign_in", "sign in"},
    {"no_session",
     [](WhyFacts& f) {
       f.last_ended = session();
       f.last_ended->reason = CloseReason::idle;
       f.session.reset();
       f.lease.reset();
     },
     "session", "connect"},
    {"closing", [](WhyFacts& f) { f.session->state = SessionState::closing; }, "session", "connect"},
    {"no_lease", [](WhyFacts& f) { f.lease.reset(); }, "lease", "report"},
    {"interface_gone", [](WhyFacts& f) { f.lanes[1].unreadable = Error(errc::interface_missing, "wg1"); }, "peer_tor",
     "gateway health"},
    {"peer_gone", [](WhyFacts& f) { f.lanes[0].peer.reset(); }, "peer_vpn", "gateway reconcile"},
    {"other_addresses", [](WhyFacts& f) { f.lanes[0].peer->allowed.clear(); }, "peer_vpn", "gateway reconcile"},
    {"other_preshared_key", [](WhyFacts& f) { f.lanes[1].preshared_right = false; }, "peer_tor", "gateway reconcile"},
    {"never_came", [](WhyFacts& f) { f.lanes[0].peer->handshake = Instant(); }, "handshake", "UDP 51820 and 51821"},
    {"asleep", [](WhyFacts& f) { f.lanes[0].peer->handshake = now - Seconds(201); }, "handshake",
     "nothing is to be done"},
    {"tor_down_and_used",
     [](WhyFacts& f) {
       f.session->lane = Lane("tor");
       f.lanes[1].mode = LaneMode::maintenance;
       f.tor.emplace();
       f.tor->phase = TorPhase::failed;
       f.tor->reason = "the clock is wrong";
       f.tor->remedy = "set the clock";
     },
     "policy_tor", "set the clock"},
    {"no_rights", [](WhyFacts& f) { f.reaches_nothing = true; }, "rights", "policy show"},
    {"quota_used_up",
     [](WhyFacts& f) {
       f.limit.emplace();
       f.limit->monthly = 1'000'000;
       f.limit->action = QuotaAction::block;
       f.standing = standing_of(*f.limit, 2'000'000);
     },
     "rights", "monthly"},
};

class WhyFault : public testing::TestWithParam<Fault> {};

}  // namespace

TEST_P(WhyFault, IsTheFirstThingThatIsWrong) {
  WhyFacts facts = healthy();
  GetParam().make(facts);
  Why why = explain(facts);
  ASSERT_NE(why.first_wrong(), nullptr);
  EXPECT_EQ(why.first_wrong()->check, GetParam().check) << why.first_wrong()->detail;
  EXPECT_NE(why.first_wrong()->remedy.find(GetParam().remedy), std::string::npos) << why.first_wrong()->remedy;
}

INSTANTIATE_TEST_SUITE_P(Faults, WhyFault, testing::ValuesIn(faults),
                         [](const auto& fault) { return std::string(fault.param.name); });

TEST(Why, NothingIsWrongWithAHealthyDevice) {
  Why why = explain(healthy());
  EXPECT_EQ(why.first_wrong(), nullptr);
  EXPECT_EQ(why.subject, "alice, device d");
  for (const auto& step : why.steps) EXPECT_EQ(step.found, Found::good) << step.check;
}

TEST(Why, ALaneNobodyUsesIsANote) {
  WhyFacts facts = healthy();
  facts.lanes[1].mode = LaneMode::closed;
  facts.broken.resize(1);
  facts.broken[0].name = "foreign_chains";
  facts.broken[0].advisory = true;
  Why why = explain(facts);
  EXPECT_EQ(why.first_wrong(), nullptr);
  EXPECT_EQ(std::count_if(why.steps.begin(), why.steps.end(), [](const auto& s) { return s.found == Found::note; }), 2);
}

TEST(Why, AQuotaThatSlowsDownIsANote) {
  for (QuotaAction action : {QuotaAction::warn, QuotaAction::throttle}) {
    WhyFacts facts = healthy();
    facts.limit.emplace();
    facts.limit->monthly = 1'000'000;
    facts.limit->action = action;
    facts.standing = standing_of(*facts.limit, 2'000'000);
    Why why = explain(facts);
    EXPECT_EQ(why.first_wrong(), nullptr);
    bool noted = false;
    for (const auto& step : why.steps) noted = noted || (step.check == "rights" && step.found == Found::note);
    EXPECT_TRUE(noted);
  }
}

TEST(Why, APoolThatIsFullKeepsNobodyFromTheNetworkWhoIsConnected) {
  WhyFacts facts = healthy();
  facts.broken.resize(1);
  facts.broken[0].name = "pool_vpn";
  facts.exhausted = {"vpn"};
  EXPECT_EQ(explain(facts).first_wrong(), nullptr);
}

TEST(Why, WhoIsSignedOutEverywhereIsNotToldThatNobodyEverWas) {
  WhyFacts facts = healthy();
  facts.last_ended = session();
  facts.device.reset();
  facts.signed_in.clear();
  facts.session.reset();
  Why why = explain(facts);
  EXPECT_EQ(why.first_wrong()->check, "sign_in");
  EXPECT_EQ(why.first_wrong()->detail.find("ever was"), std::string::npos) << why.first_wrong()->detail;
}

TEST(Why, AFullPoolIsNamedWhereThereIsNoSession) {
  WhyFacts facts = healthy();
  facts.session.reset();
  facts.lease.reset();
  facts.exhausted = {"vpn"};
  Why why = explain(facts);
  EXPECT_EQ(why.first_wrong()->check, "session");
  auto lease = std::find_if(why.steps.begin(), why.steps.end(), [](const auto& s) { return s.check == "lease"; });
  EXPECT_EQ(lease->found, Found::wrong);
}
