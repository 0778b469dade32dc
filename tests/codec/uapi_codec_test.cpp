#include "wireguard/uapi_codec.hpp"

#include <gtest/gtest.h>

#include "base/encoding.hpp"
#include "support/keys.hpp"
#include "wireguard/own_key.hpp"

using namespace tornado;

namespace {

std::string hex_of(const PublicKey& key) {
  return hex(std::string_view(reinterpret_cast<const char*>(key.bytes().data()), key.bytes().size()));
}

const std::string private_hex =
    "77076d0a7318a57d3c16c17251b26645"
    "18b6d8c6f3b5a1d2d3a7d0e8bd2a5a2a";

std::string answer() {
  return "private_key=" + private_hex + "\nlisten_port=51820\nfwmark=7\npublic_key=" + hex_of(test_key(1)) +
         "\npreshared_key=" + std::string(64, '0') +
         "\nprotocol_version=1\nendpoint=192.0.2.1:4000\nlast_handshake_time_sec=1700000000"
         "\nlast_handshake_time_nsec=250000000\ntx_bytes=18446744073709551615\nrx_bytes=12"
         "\npersistent_keepalive_interval=0\nallowed_ip=10.8.0.2/32\nallowed_ip=fd00::2/128\npublic_key=" +
         hex_of(test_key(2)) + "\nendpoint=[fe80::1%eth0]:5\nallowed_ip=10.8.0.3/32\nerrno=0\n\n";
}

errc code_of(std::string_view text) {
  UapiParser parser;
  auto read = parser.feed(text);
  return read ? errc::unimplemented : read.error().code();
}

void expect_answer(UapiParser& parser) {
  ASSERT_TRUE(parser.done());
  EXPECT_EQ(parser.status(), 0);
  Interface got = parser.take();
  EXPECT_EQ(got.listen_port, 51820);
  EXPECT_EQ(got.public_key, public_key_of(*from_hex(private_hex)));
  ASSERT_EQ(got.peers.size(), 2u);
  const Peer& first = got.peers[0];
  EXPECT_EQ(first.key, test_key(1));
  EXPECT_EQ(first.endpoint->str(), "192.0.2.1:4000");
  EXPECT_EQ(first.handshake, Instant(std::chrono::milliseconds(1'700'000'000'250)));
  EXPECT_EQ(first.sent, 18446744073709551615u);
  EXPECT_EQ(first.received, 12u);
  ASSERT_EQ(first.allowed.size(), 2u);
  EXPECT_EQ(first.allowed[1].str(), "fd00::2/128");
  EXPECT_EQ(got.peers[1].endpoint->str(), "[fe80::1]:5");
  EXPECT_EQ(got.peers[1].handshake, Instant());
}

TEST(UapiParser, reads_an_answer_whole_and_byte_by_byte) {
  UapiParser whole, bytewise;
  ASSERT_TRUE(whole.feed(answer()));
  expect_answer(whole);
  for (char c : answer()) ASSERT_TRUE(bytewise.feed(std::string_view(&c, 1)));
  expect_answer(bytewise);
}

TEST(UapiParser, is_not_done_when_truncated_at_any_length_and_goes_on_from_there) {
  const std::string text = answer();
  for (std::size_t length = 0; length < text.size(); ++length) {
    UapiParser parser;
    ASSERT_TRUE(parser.feed(std::string_view(text).substr(0, length))) << length;
    ASSERT_FALSE(parser.done()) << length;
    ASSERT_TRUE(parser.feed(std::string_view(text).substr(length))) << length;
    expect_answer(parser);
  }
}

TEST(UapiParser, refuses_garbage_at_any_line) {
  const std::string text = answer();
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    for (std::string garbage : {"\x01\x02=3\n", "no equals sign\n", "=1\n", "Key=1\n", "a=\x80\n", "\r\n", "\n"}) {
      std::string broken = text;
      broken.insert(at, garbage);
      if (at + 1 == text.size() && garbage == "\n") continue;
      EXPECT_EQ(code_of(broken), errc::protocol_error) << at << garbage;
    }
}

TEST(UapiParser, survives_every_changed_byte) {
  for (std::size_t at = 0; at < answer().size(); ++at)
    for (char c : {'\0', '\n', '=', '9', 'z', '\xff'}) {
      std::string broken = answer();
      broken[at] = c;
      code_of(broken);
    }
}

TEST(UapiParser, refuses_hostile_values) {
  const std::string peer = "public_key=" + hex_of(test_key(1)) + "\n";
  for (std::string line :
       {"listen_port=65536", "listen_port=-1", "listen_port=", "listen_port=1x", "errno=", "errno=1e3", "errno=2000000",
        "private_key=00", "public_key=00", "allowed_ip=10.0.0.0/8", "rx_bytes=1", "endpoint=1.2.3.4:5"})
    EXPECT_EQ(code_of(line + "\n"), errc::protocol_error) << line;
  for (std::string line :
       {"rx_bytes=18446744073709551616", "tx_bytes=-1", "last_handshake_time_sec=9223372036854775807",
        "last_handshake_time_sec=-5", "last_handshake_time_nsec=1000000000", "endpoint=1.2.3.4", "endpoint=%]:1",
        "endpoint=[%", "allowed_ip=10.0.0.1", "allowed_ip=10.0.0.1/33", "allowed_ip=10.0.0.1/-1", "allowed_ip="})
    EXPECT_EQ(code_of(peer + line + "\n"), errc::protocol_error) << line;
}

TEST(UapiParser, takes_printable_values_and_no_others) {
  for (std::size_t length = 1; length <= 20; ++length)
    for (std::size_t at = 0; at < length; ++at)
      for (int byte = 0; byte < 256; ++byte) {
        if (byte == '\n') continue;
        std::string value(length, '~');
        value[at] = static_cast<char>(byte);
        const errc wanted = byte >= ' ' && byte <= '~' ? errc::unimplemented : errc::protocol_error;
        ASSERT_EQ(code_of("new_key=" + value + "\n"), wanted) << length << " " << at << " " << byte;
      }
}

TEST(UapiParser, takes_hex_digits_and_no_others) {
  const std::string key = hex_of(test_key(1));
  for (std::size_t at = 0; at < key.size(); ++at)
    for (int byte = ' '; byte <= '~'; ++byte) {
      std::string changed = key;
      changed[at] = static_cast<char>(byte);
      const errc wanted = std::isxdigit(byte) != 0 ? errc::unimplemented : errc::protocol_error;
      ASSERT_EQ(code_of("public_key=" + changed + "\n"), wanted) << at << " " << byte;
    }
}

TEST(UapiParser, leaves_allowed_addresses_out_where_only_counters_are_wanted) {
  UapiParser parser(UapiParser::Want::counters, 1);
  ASSERT_TRUE(parser.feed(answer()));
  ASSERT_TRUE(parser.done());
  Interface got = parser.take();
  ASSERT_EQ(got.peers.size(), 2u);
  EXPECT_EQ(got.peers[0].key, test_key(1));
  EXPECT_EQ(got.peers[0].received, 12u);
  EXPECT_EQ(got.peers[0].endpoint->str(), "192.0.2.1:4000");
  EXPECT_TRUE(got.peers[0].allowed.empty());
  EXPECT_EQ(code_of("allowed_ip=10.0.0.0/8\n"), errc::protocol_error) << "before any peer it stays wrong";
}

TEST(UapiParser, bounds_the_length_of_a_line) {
  EXPECT_EQ(code_of(std::string(UapiParser::max_line + 1, 'a')), errc::protocol_error);
  UapiParser parser;
  Result<void> read;
  for (std::size_t i = 0; read && i <= UapiParser::max_line; ++i) read = parser.feed("a");
  EXPECT_FALSE(read);
}

TEST(UapiParser, skips_unknown_keys_and_refuses_what_follows_the_end) {
  EXPECT_EQ(code_of("new_key=new value\nerrno=0\n\n"), errc::unimplemented);
  EXPECT_EQ(code_of("errno=0\n\nx"), errc::protocol_error);
  EXPECT_EQ(code_of("errno=0\nlisten_port=1\n\n"), errc::protocol_error);
}

TEST(UapiParser, merges_a_peer_that_appears_twice) {
  const std::string peer = "public_key=" + hex_of(test_key(1)) + "\n";
  UapiParser parser;
  ASSERT_TRUE(parser.feed(peer + "rx_bytes=5\nallowed_ip=10.0.0.1/32\npublic_key=" + hex_of(test_key(2)) + "\n" + peer +
                          "allowed_ip=10.0.0.2/32\nerrno=0\n\n"));
  Interface got = parser.take();
  ASSERT_EQ(got.peers.size(), 2u);
  EXPECT_EQ(got.peers[0].allowed.size(), 2u);
  EXPECT_EQ(got.peers[0].received, 5u);
}

TEST(UapiParser, gives_preshared_keys_to_their_peers) {
  const std::string key = private_hex;
  UapiParser parser;
  ASSERT_TRUE(parser.feed("public_key=" + hex_of(test_key(1)) + "\npreshared_key=" + key + "\npublic_key=" +
                          hex_of(test_key(2)) + "\npreshared_key=" + std::string(64, '0') + "\nerrno=0\n\n"));
  Interface got = parser.take();
  ASSERT_TRUE(got.peers.at(0).preshared);
  EXPECT_EQ(hex(got.peers[0].preshared->reveal()), key);
  EXPECT_FALSE(got.peers.at(1).preshared);
  for (const char* bad : {"", "00", "zz"})
    EXPECT_EQ(code_of("public_key=" + hex_of(test_key(1)) + "\npreshared_key=" + bad + "\n"), errc::protocol_error);
}

TEST(UapiRequests, carry_preshared_keys) {
  InterfaceChange change("wg0");
  for (std::uint32_t i = 1; i <= 40; ++i) {
    Peer& peer = change.peers.emplace_back();
    peer.key = test_key(i);
    peer.allowed = {Prefix("10.8.0.2/32")};
    if (i % 2 == 0) peer.preshared = Secret(std::string(32, 'p'));
  }
  auto requests = uapi_set_requests(change);
  ASSERT_EQ(requests.size(), 2u);
  std::string text(requests[0].reveal());
  std::string line = "\npreshared_key=" + hex(std::string(32, 'p')) + "\n";
  EXPECT_EQ(text.find("preshared_key", text.find(hex_of(test_key(1)))), text.find(line) + 1);
  EXPECT_LT(text.find(hex_of(test_key(2))), text.find(line));
  std::size_t count = 0;
  for (std::size_t at = text.find(line); at != text.npos; at = text.find(line, at + 1)) ++count;
  EXPECT_EQ(count, 16u);
  Peer gone = change.peers[1];
  gone.remove = true;
  change.peers = {gone};
  EXPECT_EQ(uapi_set_requests(change)[0].reveal().find("preshared_key"), std::string_view::npos);
}

TEST(UapiParser, reports_the_status) {
  UapiParser parser;
  ASSERT_TRUE(parser.feed("errno=-22\n\n"));
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(parser.status(), -22);
}

TEST(UapiRequests, carry_what_was_asked_and_nothing_else) {
  InterfaceChange change("wg0");
  change.listen_port = 51820;
  change.replace_peers = true;
  Peer add, gone, strip;
  add.key = test_key(1);
  add.allowed = {Prefix("10.8.0.2/32"), Prefix("fd00::2/128")};
  gone.key = test_key(2);
  gone.remove = true;
  strip.key = test_key(3);
  strip.update_only = true;
  change.peers = {add, gone, strip};
  auto requests = uapi_set_requests(change);
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].reveal(),
            "set=1\nlisten_port=51820\nreplace_peers=true\npublic_key=" + hex_of(test_key(1)) +
                "\nreplace_allowed_ips=true\nallowed_ip=10.8.0.2/32\nallowed_ip=fd00::2/128\npublic_key=" +
                hex_of(test_key(2)) + "\nremove=true\npublic_key=" + hex_of(test_key(3)) +
                "\nupdate_only=true\nreplace_allowed_ips=true\n\n");
}

TEST(UapiRequests, keep_the_private_key_in_a_request_of_its_own) {
  InterfaceChange change("wg0");
  change.private_key = Secret(*from_hex(private_hex));
  EXPECT_EQ(uapi_set_requests(change).size(), 1u);
  change.peers.resize(1);
  auto requests = uapi_set_requests(change);
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].reveal(), "set=1\nprivate_key=" + private_hex + "\n\n");
  EXPECT_TRUE(requests[1].reveal().starts_with("set=1\npublic_key="));
}

TEST(UapiRequests, come_in_chunks_of_32_peers) {
  InterfaceChange change("wg0");
  for (auto [peers, requests] : {std::pair(0, 1), {1, 1}, {32, 1}, {33, 2}, {64, 2}, {65, 3}}) {
    change.peers.resize(static_cast<std::size_t>(peers));
    EXPECT_EQ(uapi_set_requests(change).size(), static_cast<std::size_t>(requests)) << peers;
  }
}

}  // namespace
