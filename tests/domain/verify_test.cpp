#include <gtest/gtest.h>
#include <netinet/in.h>

#include <set>

#include "verify/verdict.hpp"

namespace tornado::verify {
namespace {

Address address(const char* text) {
  return *Address::parse(text);
}

Surroundings around(LaneMode mode, bool v6 = true) {
  Surroundings out;
  out.lane = Lane("tor");
  out.mode = mode;
  out.interface = "wg1";
  out.address = address("10.9.0.7");
  out.gateway = address("10.9.0.1");
  out.neighbour = address("10.9.0.8");
  auto& other = out.others.emplace_back();
  other.name = "vpn";
  other.gateway = address("10.8.0.1");
  other.device = address("10.8.0.2");
  if (v6) {
    out.address6 = address("fd00:9::7");
    out.gateway6 = address("fd00:9::1");
    out.neighbour6 = address("fd00:9::8");
    other.gateway6 = address("fd00:8::1");
    other.device6 = address("fd00:8::2");
  }
  out.canary_tcp = 40001;
  out.canary_udp = 40002;
  out.foreign = address("9.9.9.9");
  out.foreign6 = address("2620:fe::9");
  out.upstream = address("192.0.2.1");
  out.uplink = address("192.0.2.2");
  return out;
}

const Probe& named(const std::vector<Probe>& all, std::string_view name) {
  for (const auto& probe : all)
    if (probe.name == name) return probe;
  throw std::out_of_range(std::string(name));
}

std::uint32_t ones_sum(std::string_view text, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < text.size(); ++i)
    sum += static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])) << (i % 2 == 0 ? 8 : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

const LaneMode modes[] = {LaneMode::closed, LaneMode::tor, LaneMode::maintenance, LaneMode::open};

TEST(LaneProbes, NamesAreUniqueAndFewerThanAMarkerCanCount) {
  for (LaneMode mode : modes)
    for (bool v6 : {true, false}) {
      std::set<std::string> names;
      auto all = probes(around(mode, v6));
      for (const auto& probe : all) EXPECT_TRUE(names.insert(probe.name).second) << probe.name;
      EXPECT_LT(all.size(), 256U);
    }
}

TEST(LaneProbes, AnOpenLaneIsAskedOnlyWhatMustHoldThere) {
  for (const auto& probe : probes(around(LaneMode::open))) {
    bool outward = probe.to == address("9.9.9.9") || probe.to == address("2620:fe::9");
    EXPECT_TRUE(!outward || probe.forged) << probe.name;
    EXPECT_EQ(probe.allowed, Answer::none) << probe.name;
  }
}

TEST(LaneProbes, AModeAnswersOnlyWhatItRedirectsOrRefuses) {
  for (const auto& probe : probes(around(LaneMode::closed))) EXPECT_EQ(probe.allowed, Answer::none) << probe.name;
  auto tor = probes(around(LaneMode::tor)), page = probes(around(LaneMode::maintenance));
  EXPECT_EQ(named(tor, "dns_tcp").allowed, Answer::reset);
  EXPECT_EQ(named(tor, "dns_udp").allowed, Answer::reply);
  EXPECT_EQ(named(tor, "tcp_https6").allowed, Answer::connection);
  EXPECT_EQ(named(tor, "tor_trans").allowed, Answer::none);
  EXPECT_EQ(named(page, "tcp_https").allowed, Answer::reset);
  EXPECT_EQ(named(page, "tcp_http").allowed, Answer::connection);
  EXPECT_EQ(named(page, "udp_quic").allowed, Answer::none);
}

TEST(LaneProbes, ALaneWithoutIPv6IsStillTriedWithIt) {
  int tried = 0;
  for (const auto& probe : probes(around(LaneMode::tor, false))) tried += probe.v6();
  EXPECT_GE(tried, 2);
}

TEST(ProbePackets, CarryTheMarkerAndRightChecksums) {
  Marker marker("0123456789abcdef");
  auto all = probes(around(LaneMode::closed));
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const auto& packet : encode(all[i], i, marker)) {
      EXPECT_EQ(marker.find(packet), i) << all[i].name;
      auto seen = decode(packet);
      ASSERT_TRUE(seen) << all[i].name;
      EXPECT_EQ(seen->from, all[i].from) << all[i].name;
      EXPECT_EQ(seen->to, all[i].to) << all[i].name;
      std::size_t header = all[i].v6() ? 40 : static_cast<std::size_t>(packet[0] & 15) * 4;
      EXPECT_TRUE(all[i].v6() || ones_sum(packet.substr(0, header)) == 0xffffU) << all[i].name;
      bool summed = all[i].protocol == IPPROTO_UDP || all[i].protocol == IPPROTO_TCP;
      if (!summed || all[i].shape != Shape::whole) continue;
      std::string body = packet.substr(header),
                  pseudo = std::string(seen->from.bytes()) + std::string(seen->to.bytes());
      std::uint32_t sum = ones_sum(body, ones_sum(pseudo) + static_cast<std::uint32_t>(body.size()) + all[i].protocol);
      EXPECT_EQ(sum, 0xffffU) << all[i].name;
      EXPECT_EQ(seen->source_port, source_port(i));
      EXPECT_EQ(seen->port, all[i].port);
    }
}

TEST(ProbePackets, FragmentsAreMoreThanOneAndFitTheTunnel) {
  auto all = probes(around(LaneMode::closed));
  for (const char* name : {"udp_fragments", "udp_fragments6"}) {
    auto packets = encode(named(all, name), 4, Marker("0123456789abcdef"));
    EXPECT_GE(packets.size(), 2U);
    for (const auto& packet : packets) EXPECT_LE(packet.size(), 1280U);
  }
}

TEST(ProbePackets, ASourceRouteLeadsAbroad) {
  auto all = probes(around(LaneMode::closed));
  std::string packet = encode(named(all, "source_route"), 1, Marker("0123456789abcdef")).front();
  EXPECT_EQ(packet[0], 0x47);
  EXPECT_EQ(static_cast<unsigned char>(packet[20]), 131);
  EXPECT_EQ(packet.substr(23, 4), std::string("\x09\x09\x09\x09"));
}

TEST(ProbePackets, WhatIsCutOffIsNoPacketOrAShorterOne) {
  auto all = probes(around(LaneMode::closed));
  Marker marker("0123456789abcdef");
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::string packet = encode(all[i], i, marker).front();
    for (std::size_t length = 0; length < std::min<std::size_t>(packet.size(), 120); ++length) {
      auto seen = decode(packet.substr(0, length));
      EXPECT_TRUE(length >= 20 || !seen);
      auto number = marker.find(packet.substr(0, length));
      EXPECT_TRUE(!number || *number == i);
    }
  }
  EXPECT_FALSE(decode("\x10 something else altogether"));
  EXPECT_FALSE(marker.find("0123456789abcdefzz 0123456789abcdef0"));
}

class Judging : public testing::Test {
 protected:
  Verdict verdict(std::uint64_t lost = 0) { return judge(probe, evidence, lost).verdict; }
  Probe probe{"tcp_https", "", address("10.9.0.7"), address("9.9.9.9"), IPPROTO_TCP, 443};
  Evidence evidence;
};

TEST_F(Judging, NothingIsProvenOfAProbeThatDidNotArrive) {
  EXPECT_EQ(verdict(), Verdict::error);
  evidence.arrived = true;
  EXPECT_EQ(verdict(), Verdict::held);
  EXPECT_EQ(verdict(3), Verdict::error);
}

TEST_F(Judging, WireGuardMayRefuseWhatIsForged) {
  probe.forged = true;
  EXPECT_EQ(verdict(), Verdict::held);
  evidence.outside.push_back("left by eth0");
  EXPECT_EQ(verdict(), Verdict::leaked);
}

TEST_F(Judging, AnAnswerHoldsOnlyIfItIsTheModesOwn) {
  evidence.arrived = true;
  for (Answer allowed : {Answer::none, Answer::reset, Answer::connection, Answer::reply})
    for (Answer given : {Answer::none, Answer::reset, Answer::connection, Answer::reply}) {
      probe.allowed = allowed;
      evidence.answers = {given};
      bool own = allowed == given && given != Answer::none;
      EXPECT_EQ(verdict(), own ? Verdict::held : Verdict::answered);
    }
}

TEST_F(Judging, ALeakIsALeakWhateverElseWasSeen) {
  probe.allowed = Answer::connection;
  evidence.arrived = true;
  evidence.answers = {Answer::connection};
  evidence.delivered = true;
  EXPECT_EQ(verdict(), Verdict::answered);
  evidence.outside.push_back("left by eth0: TCP 192.0.2.2 -> 9.9.9.9:443");
  EXPECT_EQ(verdict(5), Verdict::leaked);
  EXPECT_EQ(judge(probe, evidence).observed, "left by eth0: TCP 192.0.2.2 -> 9.9.9.9:443");
}

TEST_F(Judging, TheWorstDecides) {
  std::vector<Finding> all(3);
  EXPECT_EQ(worst({}), Verdict::held);
  for (auto& finding : all) finding.verdict = Verdict::held;
  EXPECT_EQ(worst(all), Verdict::held);
  all[1].verdict = Verdict::error;
  EXPECT_EQ(worst(all), Verdict::error);
  all[2].verdict = Verdict::answered;
  EXPECT_EQ(worst(all), Verdict::answered);
  all[0].verdict = Verdict::leaked;
  EXPECT_EQ(worst(all), Verdict::leaked);
}

}  // namespace
}  // namespace tornado::verify
