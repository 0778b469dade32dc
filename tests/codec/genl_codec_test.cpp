#include "wireguard/genl_codec.hpp"

#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <map>

#include "support/keys.hpp"

namespace tornado {
namespace {

constexpr std::uint16_t family = 29;

std::string_view bytes_of(const PublicKey& key) {
  return std::string_view(reinterpret_cast<const char*>(key.bytes().data()), PublicKey::size);
}

template <class T>
std::string_view bytes_of(const T& value) {
  return std::string_view(reinterpret_cast<const char*>(&value), sizeof value);
}

NetlinkMessage only(const std::string& bytes) {
  auto messages = split_netlink(bytes);
  EXPECT_TRUE(messages);
  EXPECT_EQ(messages->size(), 1U);
  return messages->front();
}

NetlinkWriter device_message() {
  NetlinkWriter out(family, NLM_F_MULTI);
  genlmsghdr header{};
  header.cmd = WG_CMD_GET_DEVICE;
  header.version = WG_GENL_VERSION;
  out.fixed(header);
  return out;
}

void put_allowed(NetlinkWriter& out, const Prefix& prefix) {
  std::size_t nest = out.open(0);
  out.put_u16(WGALLOWEDIP_A_FAMILY, prefix.base().is_v4() ? AF_INET : AF_INET6);
  out.put(WGALLOWEDIP_A_IPADDR, prefix.base().bytes());
  out.put_u8(WGALLOWEDIP_A_CIDR_MASK, static_cast<std::uint8_t>(prefix.length()));
  out.close(nest);
}

void put_peer(NetlinkWriter& out, std::uint32_t number, const std::vector<Prefix>& allowed, bool goes_on = false) {
  std::size_t nest = out.open(0);
  out.put(WGPEER_A_PUBLIC_KEY, bytes_of(test_key(number)));
  if (!goes_on) {
    out.put(WGPEER_A_PRESHARED_KEY, std::string(32, 'S'));
    const std::array<std::int64_t, 2> handshake{1'700'000'000, 250'000'000};
    out.put(WGPEER_A_LAST_HANDSHAKE_TIME, bytes_of(handshake));
    out.put_u16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 0);
    const std::uint64_t sent = 18446744073709551615U, received = 12;
    out.put(WGPEER_A_TX_BYTES, bytes_of(sent));
    out.put(WGPEER_A_RX_BYTES, bytes_of(received));
    out.put_u32(WGPEER_A_PROTOCOL_VERSION, 1);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(5);
    v6.sin6_addr.s6_addr[15] = 1;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(4000);
    v4.sin_addr.s_addr = htonl(0xc0000201);
    if (number % 2 != 0)
      out.put(WGPEER_A_ENDPOINT, bytes_of(v4));
    else
      out.put(WGPEER_A_ENDPOINT, bytes_of(v6));
  }
  std::size_t list = out.open(WGPEER_A_ALLOWEDIPS);
  for (const Prefix& prefix : allowed) put_allowed(out, prefix);
  out.close(list);
  out.close(nest);
}

std::string first_message() {
  NetlinkWriter out = device_message();
  out.put_u16(WGDEVICE_A_LISTEN_PORT, 51820);
  out.put_u32(WGDEVICE_A_FWMARK, 7);
  out.put_u32(WGDEVICE_A_IFINDEX, 3);
  out.put_text(WGDEVICE_A_IFNAME, "wg0");
  out.put(WGDEVICE_A_PRIVATE_KEY, std::string(32, 'P'));
  out.put(WGDEVICE_A_PUBLIC_KEY, bytes_of(test_key(99)));
  std::size_t peers = out.open(WGDEVICE_A_PEERS);
  put_peer(out, 1, {Prefix("10.8.0.2/32"), Prefix("fd00::2/128")});
  put_peer(out, 2, {Prefix("10.8.0.3/32")});
  out.close(peers);
  return out.take();
}

std::string second_message() {
  NetlinkWriter out = device_message();
  std::size_t peers = out.open(WGDEVICE_A_PEERS);
  put_peer(out, 2, {Prefix("10.9.0.0/16")}, true);
  put_peer(out, 3, {});
  out.close(peers);
  return out.take();
}

TEST(GenlCodec, AsksForAFamilyAndReadsItsNumber) {
  NetlinkMessage asked = only(genl::get_family("wireguard"));
  EXPECT_EQ(asked.type, GENL_ID_CTRL);
  EXPECT_EQ(asked.payload.at(0), CTRL_CMD_GETFAMILY);
  EXPECT_EQ(NetlinkAttributes::after(asked, GENL_HDRLEN)->text(CTRL_ATTR_FAMILY_NAME), "wireguard");

  NetlinkWriter answer(GENL_ID_CTRL, 0);
  genlmsghdr header{};
  answer.fixed(header).put_text(CTRL_ATTR_FAMILY_NAME, "wireguard").put_u16(CTRL_ATTR_FAMILY_ID, family);
  std::string bytes = answer.take();
  EXPECT_EQ(genl::decode_family(only(bytes)).value(), family);
  EXPECT_FALSE(genl::decode_family(only(first_message())).value());
  NetlinkWriter nameless(GENL_ID_CTRL, 0);
  nameless.fixed(header).put_u32(CTRL_ATTR_FAMILY_ID, family);
  EXPECT_FALSE(genl::decode_family(only(nameless.take())).value()) << "a number of the wrong size";
}

TEST(GenlCodec, AsksForADumpOfOneInterface) {
  NetlinkMessage asked = only(genl::get_device(family, "wg0"));
  EXPECT_EQ(asked.type, family);
  EXPECT_EQ(asked.flags & NLM_F_DUMP, NLM_F_DUMP);
  EXPECT_EQ(asked.payload.at(0), WG_CMD_GET_DEVICE);
  EXPECT_EQ(NetlinkAttributes::after(asked, GENL_HDRLEN)->text(WGDEVICE_A_IFNAME), "wg0");
}

TEST(DeviceReader, ReadsAnInterfaceAndMergesAPeerThatGoesOn) {
  genl::DeviceReader reader(family);
  ASSERT_TRUE(reader.take(only(first_message())));
  ASSERT_TRUE(reader.take(only(second_message())));
  Interface got = reader.take_interface();
  EXPECT_EQ(got.name, "wg0");
  EXPECT_EQ(got.listen_port, 51820);
  EXPECT_EQ(got.index, 3U);
  EXPECT_EQ(got.public_key, test_key(99));
  ASSERT_EQ(got.peers.size(), 3U);
  const Peer& first = got.peers[0];
  EXPECT_EQ(first.key, test_key(1));
  EXPECT_EQ(first.endpoint->str(), "192.0.2.1:4000");
  EXPECT_EQ(first.handshake, Instant(std::chrono::milliseconds(1'700'000'000'250)));
  EXPECT_EQ(first.sent, 18446744073709551615U);
  EXPECT_EQ(first.received, 12U);
  EXPECT_EQ(first.allowed, (std::vector{Prefix("10.8.0.2/32"), Prefix("fd00::2/128")}));
  const Peer& second = got.peers[1];
  EXPECT_EQ(second.endpoint->str(), "[::1]:5");
  EXPECT_EQ(second.received, 12U) << "what goes on does not begin anew";
  EXPECT_EQ(second.allowed, (std::vector{Prefix("10.8.0.3/32"), Prefix("10.9.0.0/16")}));
  EXPECT_TRUE(got.peers[2].allowed.empty());
}

TEST(DeviceReader, WhoWantsCountersGetsThemWithoutAllowedIps) {
  NetlinkWriter out = device_message();
  std::size_t peers = out.open(WGDEVICE_A_PEERS);
  std::size_t nest = out.open(0);
  out.put(WGPEER_A_PRESHARED_KEY, std::string(32, 'p')).put(WGPEER_A_PUBLIC_KEY, bytes_of(test_key(7)));
  out.close(nest);
  out.close(peers);
  genl::DeviceReader reader(family, genl::DeviceReader::Want::counters, 10);
  ASSERT_TRUE(reader.take(only(first_message())));
  ASSERT_TRUE(reader.take(only(second_message())));
  ASSERT_TRUE(reader.take(only(out.take())));
  Interface got = reader.take_interface();
  EXPECT_EQ(got.public_key, test_key(99));
  EXPECT_EQ(got.listen_port, 51820);
  ASSERT_EQ(got.peers.size(), 4U) << "one that goes on is one";
  EXPECT_EQ(got.peers[0].received, 12U);
  EXPECT_EQ(got.peers[0].endpoint->str(), "192.0.2.1:4000");
  EXPECT_EQ(got.peers[3].key, test_key(7)) << "wherever in the peer it stands";
  for (const Peer& peer : got.peers) EXPECT_TRUE(peer.allowed.empty() && !peer.preshared);
}

TEST(DeviceReader, LeavesMessagesOfOthersAlone) {
  genl::DeviceReader reader(family + 1);
  ASSERT_TRUE(reader.take(only(first_message())));
  EXPECT_TRUE(reader.take_interface().peers.empty());
}

TEST(DeviceReader, TruncationIsNeverMoreThanAnError) {
  for (const std::string& whole : {first_message(), second_message()})
    for (std::size_t size = 0; size < whole.size(); ++size) {
      NetlinkMessage cut = only(whole);
      cut.payload.resize(std::min(cut.payload.size(), size));
      genl::DeviceReader reader(family);
      auto read = reader.take(cut);
      EXPECT_TRUE(read || read.error().code() == errc::protocol_error);
    }
}

TEST(DeviceReader, EveryWrongByteIsAnErrorOrAnotherValue) {
  const std::string whole = first_message();
  for (std::size_t at = NLMSG_HDRLEN; at < whole.size(); ++at)
    for (char bad : {'\x00', '\x01', '\x7f', '\xff'}) {
      NetlinkMessage broken = only(whole);
      broken.payload[at - NLMSG_HDRLEN] = bad;
      genl::DeviceReader reader(family);
      (void)reader.take(broken);
      EXPECT_LE(reader.take_interface().peers.size(), 4U);
    }
}

/// One peer whose attribute `type` has the given bytes.
errc code_of(std::uint16_t type, std::string_view value) {
  NetlinkWriter out = device_message();
  std::size_t peers = out.open(WGDEVICE_A_PEERS);
  std::size_t peer = out.open(0);
  if (type != WGPEER_A_PUBLIC_KEY) out.put(WGPEER_A_PUBLIC_KEY, bytes_of(test_key(1)));
  out.put(type, value);
  out.close(peer);
  out.close(peers);
  genl::DeviceReader reader(family);
  auto read = reader.take(only(out.take()));
  return read ? errc::unimplemented : read.error().code();
}

TEST(DeviceReader, RefusesWhatIsNotTheProtocol) {
  sockaddr_in other{};
  other.sin_family = AF_UNIX;
  const std::array<std::int64_t, 2> early{-1, 0}, fast{1, 1'000'000'000}, late{1LL << 60, 0};
  EXPECT_EQ(code_of(WGPEER_A_PUBLIC_KEY, "short"), errc::protocol_error);
  EXPECT_EQ(code_of(WGPEER_A_ENDPOINT, bytes_of(other)), errc::protocol_error);
  EXPECT_EQ(code_of(WGPEER_A_ENDPOINT, "x"), errc::protocol_error);
  for (const auto& time : {early, fast, late})
    EXPECT_EQ(code_of(WGPEER_A_LAST_HANDSHAKE_TIME, bytes_of(time)), errc::protocol_error);
  EXPECT_EQ(code_of(WGPEER_A_RX_BYTES, "1234"), errc::protocol_error);
  EXPECT_EQ(code_of(WGPEER_A_TX_BYTES, ""), errc::protocol_error);
  EXPECT_EQ(code_of(WGPEER_A_ALLOWEDIPS, "abc"), errc::protocol_error);
  EXPECT_EQ(code_of(77, "unknown"), errc::unimplemented);
}

TEST(DeviceReader, RefusesImpossibleAllowedIps) {
  auto read = [](std::uint16_t domain, std::string_view address, std::uint8_t length) {
    NetlinkWriter out(0, 0);
    std::size_t nest = out.open(0);
    out.put_u16(WGALLOWEDIP_A_FAMILY, domain).put(WGALLOWEDIP_A_IPADDR, address);
    out.put_u8(WGALLOWEDIP_A_CIDR_MASK, length);
    out.close(nest);
    return code_of(WGPEER_A_ALLOWEDIPS, std::string_view(out.take()).substr(NLMSG_HDRLEN));
  };
  const std::string v4("\x0a\x08\0\2", 4), v6(16, '\0');
  EXPECT_EQ(read(AF_INET, v4, 32), errc::unimplemented);
  EXPECT_EQ(read(AF_INET6, v6, 0), errc::unimplemented);
  EXPECT_EQ(read(AF_INET, v4, 33), errc::protocol_error);
  EXPECT_EQ(read(AF_INET, v4, 24), errc::protocol_error) << "a host bit is set";
  EXPECT_EQ(read(AF_INET, v4, 0), errc::protocol_error);
  EXPECT_EQ(read(AF_INET6, v6, 129), errc::protocol_error);
  EXPECT_EQ(read(AF_INET, v6, 32), errc::protocol_error);
  EXPECT_EQ(read(AF_INET6, v4, 32), errc::protocol_error);
  EXPECT_EQ(read(AF_UNIX, v4, 32), errc::protocol_error);
}

/// What the kernel would make of a change.
class Written {
 public:
  class Part {
   public:
    std::uint32_t flags = 0;
    std::size_t allowed = 0;
  };
  explicit Written(const InterfaceChange& change, std::size_t most = genl::peers_per_message) {
    genl::ChangeWriter writer(family, change);
    while (!writer.done()) {
      heads.push_back(writer.begins());
      std::string bytes = writer.next(most);
      largest = std::max(largest, bytes.size());
      add(only(bytes));
      EXPECT_EQ(writer.written(), sizes.back());
    }
  }
  void add(const NetlinkMessage& message) {
    EXPECT_EQ(message.type, family);
    EXPECT_EQ(message.payload.at(0), WG_CMD_SET_DEVICE);
    auto attributes = NetlinkAttributes::after(message, GENL_HDRLEN).value();
    EXPECT_EQ(attributes.text(WGDEVICE_A_IFNAME), "wg0");
    flags.push_back(attributes.u32(WGDEVICE_A_FLAGS).value_or(0));
    keys.push_back(attributes.find(WGDEVICE_A_PRIVATE_KEY).has_value());
    sizes.push_back(0);
    auto list = attributes.find(WGDEVICE_A_PEERS);
    if (!list) return;
    auto parsed = NetlinkAttributes::parse(*list).value();
    for (const auto& [type, value] : parsed.all()) {
      auto peer = NetlinkAttributes::parse(value).value();
      Part part;
      part.flags = peer.u32(WGPEER_A_FLAGS).value();
      auto allowed = NetlinkAttributes::parse(peer.find(WGPEER_A_ALLOWEDIPS).value_or("")).value();
      part.allowed = allowed.all().size();
      parts[std::string(*peer.find(WGPEER_A_PUBLIC_KEY))].push_back(part);
      ++sizes.back();
    }
  }
  const std::vector<Part>& of(std::uint32_t number) { return parts[std::string(bytes_of(test_key(number)))]; }

  std::vector<bool> heads, keys;
  std::vector<std::uint32_t> flags;
  std::vector<std::size_t> sizes;  // peers of each message
  std::size_t largest = 0;
  std::map<std::string, std::vector<Part>> parts;
};

Peer peer(std::uint32_t number, std::vector<Prefix> allowed = {}) {
  Peer out;
  out.key = test_key(number);
  out.allowed = std::move(allowed);
  return out;
}

TEST(ChangeWriter, WritesAtLeastOneMessage) {
  Written nothing((InterfaceChange("wg0")));
  EXPECT_EQ(nothing.sizes, std::vector<std::size_t>{0});
  InterfaceChange port("wg0");
  port.listen_port = 51820;
  EXPECT_EQ(Written(port).sizes.size(), 1U);
}

TEST(ChangeWriter, TheInterfaceComesFirstAndPeersInChunks) {
  InterfaceChange change("wg0");
  change.private_key = Secret(std::string(32, 'k'));
  change.replace_peers = true;
  for (std::uint32_t i = 0; i < 70; ++i) change.peers.push_back(peer(i, {Prefix("10.8.0.2/32")}));
  Written written(change);
  EXPECT_EQ(written.sizes, (std::vector<std::size_t>{0, 32, 32, 6}));
  EXPECT_EQ(written.heads, (std::vector<bool>{true, false, false, false}));
  EXPECT_EQ(written.keys, written.heads);
  EXPECT_EQ(written.flags, (std::vector<std::uint32_t>{WGDEVICE_F_REPLACE_PEERS, 0, 0, 0}));
  EXPECT_EQ(written.parts.size(), 70U);
  EXPECT_EQ(Written(change, 1).sizes.size(), 71U);
  EXPECT_EQ(Written(change, 0).sizes.size(), 71U) << "a message always brings something";
}

TEST(ChangeWriter, SaysWhatBecomesOfAPeer) {
  Peer gone = peer(1, {Prefix("10.8.0.2/32")}), stripped = peer(2);
  gone.remove = true;
  stripped.update_only = true;
  InterfaceChange change("wg0");
  change.peers = {gone, stripped, peer(3, {Prefix("10.8.0.3/32"), Prefix("fd00::3/128")})};
  Written written(change);
  EXPECT_EQ(written.of(1).at(0).flags, WGPEER_F_REMOVE_ME);
  EXPECT_EQ(written.of(1).at(0).allowed, 0U);
  EXPECT_EQ(written.of(2).at(0).flags, WGPEER_F_REPLACE_ALLOWEDIPS | WGPEER_F_UPDATE_ONLY);
  EXPECT_EQ(written.of(3).at(0).flags, WGPEER_F_REPLACE_ALLOWEDIPS);
  EXPECT_EQ(written.of(3).at(0).allowed, 2U);
}

TEST(ChangeWriter, APeerWithManyAllowedIpsGoesOnBelowTheLimitOfAnAttribute) {
  constexpr std::size_t many = 10'000;
  std::vector<Prefix> allowed;
  for (std::uint32_t i = 0; i < many; ++i) {
    std::array<std::uint8_t, 16> raw{0xfd};
    std::memcpy(raw.data() + 12, &i, sizeof i);
    allowed.emplace_back(Address::from_v6(raw), 128);
  }
  InterfaceChange change("wg0");
  change.peers = {peer(1), peer(2, allowed), peer(3, {Prefix("10.8.0.3/32")})};
  Written written(change);
  EXPECT_LT(written.largest, 65'536U);
  const auto& parts = written.of(2);
  ASSERT_GT(parts.size(), 6U);
  std::size_t sum = 0;
  for (const auto& part : parts) sum += part.allowed;
  EXPECT_EQ(sum, many);
  EXPECT_EQ(parts[0].flags, WGPEER_F_REPLACE_ALLOWEDIPS);
  for (std::size_t i = 1; i < parts.size(); ++i) EXPECT_EQ(parts[i].flags, WGPEER_F_UPDATE_ONLY);
  EXPECT_EQ(written.of(1).size(), 1U);
  EXPECT_EQ(written.of(3).size(), 1U);
}

TEST(ChangeWriter, PresharedKeysAreReadBackAndLeftAloneWhereNoneIsNamed) {
  InterfaceChange change("wg0");
  for (std::uint32_t i = 0; i < 4; ++i) change.peers.push_back(peer(i, {Prefix("10.8.0.2/32")}));
  change.peers[1].preshared = Secret(std::string(32, 'p'));
  change.peers[2].preshared = no_preshared_key();
  change.peers[3].preshared = Secret(std::string(32, 'q'));
  change.peers[3].remove = true;
  genl::ChangeWriter writer(family, change);
  std::string bytes = writer.next();
  EXPECT_EQ(bytes.find(std::string(32, 'q')), bytes.npos) << "a peer that goes";
  EXPECT_NE(bytes.find(std::string(36, '\0').substr(4)), bytes.npos);
  genl::DeviceReader reader(family);
  ASSERT_TRUE(reader.take(only(bytes)));
  Interface got = reader.take_interface();
  ASSERT_EQ(got.peers.size(), 4U);
  EXPECT_FALSE(got.peers[0].preshared);
  EXPECT_EQ(got.peers[1].preshared, Secret(std::string(32, 'p')));
  EXPECT_FALSE(got.peers[2].preshared);
  EXPECT_EQ(code_of(WGPEER_A_PRESHARED_KEY, "short"), errc::protocol_error);
}

TEST(ChangeWriter, WhatItWritesIsReadBack) {
  InterfaceChange change("wg0");
  for (std::uint32_t i = 0; i < 2; ++i)
    change.peers.push_back(peer(i, std::vector<Prefix>(3'000, Prefix("10.0.0.0/8"))));
  genl::ChangeWriter writer(family, change);
  genl::DeviceReader reader(family);
  while (!writer.done()) ASSERT_TRUE(reader.take(only(writer.next())));
  Interface got = reader.take_interface();
  ASSERT_EQ(got.peers.size(), 2U);
  for (const Peer& each : got.peers) EXPECT_EQ(each.allowed.size(), 3'000U);
}

}  // namespace
}  // namespace tornado
