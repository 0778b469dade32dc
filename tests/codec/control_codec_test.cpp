#include "tor/control_codec.hpp"

#include <gtest/gtest.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "base/encoding.hpp"
#include "base/file.hpp"
#include "tor/circuit_book.hpp"

namespace tornado {
namespace {

std::vector<ControlReply> all(ControlParser& parser) {
  std::vector<ControlReply> out;
  while (auto reply = parser.next()) out.push_back(std::move(*reply));
  return out;
}

std::vector<ControlReply> read(std::string_view bytes) {
  ControlParser parser;
  EXPECT_TRUE(parser.feed(bytes));
  return all(parser);
}

// A conversation as tor 0.4.9.11 led it, in all forms of a reply.
constexpr std::string_view conversation =
    "250-PROTOCOLINFO 1\r\n"
    "250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE=\"/var/lib/a \\\"b\\\"/cookie\"\r\n"
    "250-VERSION Tor=\"0.4.9.11\"\r\n"
    "250 OK\r\n"
    "650 STREAM 12 NEW 0 10.88.0.2:80 SOURCE_ADDR=10.9.0.2:51234 PURPOSE=USER CLIENT_PROTOCOL=TRANS\r\n"
    "250+circuit-status=\r\n"
    "31 BUILT $7C1F9D9F4AB5A3E1B2C3D4E5F60718293A4B5C6D~relay1,$8C1F9D9F4AB5A3E1B2C3D4E5F60718293A4B5C6D~exit1 "
    "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2026-11-21T05:00:00.123456\r\n"
    "..dots\r\n"
    ".\r\n"
    "250 OK\r\n"
    "552 Unrecognized key \"x\"\r\n";

TEST(ControlParser, ReadsOneLineMultiLineAndDataForms) {
  auto replies = read(conversation);
  ASSERT_EQ(replies.size(), 4u);
  EXPECT_EQ(replies[0].lines.size(), 4u);
  EXPECT_TRUE(replies[0].ok());
  EXPECT_TRUE(replies[1].event());
  EXPECT_EQ(replies[2].value("circuit-status")->substr(0, 9), "31 BUILT ");
  EXPECT_TRUE(replies[2].value("circuit-status")->ends_with("\n.dots\n"));
  EXPECT_FALSE(replies[3].ok());
  EXPECT_EQ(replies[3].text(), "552 Unrecognized key \"x\"");
}

TEST(ControlParser, GivesTheSameWhereverTheBytesAreCut) {
  for (std::size_t cut = 0; cut <= conversation.size(); ++cut) {
    ControlParser parser;
    ASSERT_TRUE(parser.feed(conversation.substr(0, cut)));
    auto replies = all(parser);
    ASSERT_TRUE(parser.feed(conversation.substr(cut)));
    for (auto& reply : all(parser)) replies.push_back(std::move(reply));
    ASSERT_EQ(replies.size(), 4u) << cut;
    EXPECT_EQ(replies[2].lines.size(), 2u) << cut;
  }
}

TEST(ControlParser, RefusesWhatIsNotTheProtocol) {
  for (std::string_view bytes : {"HTTP/1.1 200 OK\r\n", "25\r\n", "2500\r\n", "25x OK\r\n", "\r\n", "099 x\r\n",
                                 "250-a\r\n650 EVENT\r\n", "650-EVENT\r\n250 OK\r\n"}) {
    ControlParser parser;
    auto fed = parser.feed(bytes);
    ASSERT_FALSE(fed) << bytes;
    EXPECT_EQ(fed.error().code(), errc::protocol_error);
    EXPECT_FALSE(parser.feed("250 OK\r\n")) << "a broken conversation does not heal";
  }
}

TEST(ControlParser, RefusesEndlessLinesAndReplies) {
  ControlParser parser;
  Result<void> fed;
  for (int i = 0; fed && i < 3; ++i) fed = parser.feed(std::string(ControlParser::line_limit, 'a'));
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.error().code(), errc::too_large);
  ControlParser other;
  fed = other.feed("250+x=\r\n");
  std::string line(1000, 'b');
  for (int i = 0; fed && i < 20000; ++i) fed = other.feed(line + "\r\n");
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.error().code(), errc::too_large);
}

TEST(ControlWords, KeepsQuotedValuesWholeAndUndoesEscapes) {
  auto words = ControlWords::parse(R"(NOTICE BOOTSTRAP PROGRESS=85 SUMMARY="a \"b\" \\ \101\n" TAG=x =y "two words")");
  ASSERT_TRUE(words);
  EXPECT_EQ(words->at(1), "BOOTSTRAP");
  EXPECT_EQ((*words)["SUMMARY"], "a \"b\" \\ A\n");
  EXPECT_EQ((*words)["TAG"], "x");
  EXPECT_EQ(words->plain.back(), "two words");
  EXPECT_EQ((*words)["NONE"], "");
  for (std::string_view text : {"A=\"", "A=\"x\\", "\"", "A=\"\\1"}) EXPECT_FALSE(ControlWords::parse(text)) << text;
  auto again = ControlWords::parse("K=" + quoted("a \"b\" \\c"));
  ASSERT_TRUE(again);
  EXPECT_EQ((*again)["K"], "a \"b\" \\c");
}

TEST(ProtocolInfo, TellsMethodsCookieAndVersion) {
  auto info = ProtocolInfo::parse(read(conversation)[0]);
  ASSERT_TRUE(info);
  EXPECT_TRUE(info->offers("SAFECOOKIE"));
  EXPECT_FALSE(info->offers("NULL"));
  EXPECT_EQ(info->cookie_file, "/var/lib/a \"b\"/cookie");
  EXPECT_EQ(info->tor_version, "0.4.9.11");
  for (std::string_view text : {"250 OK\r\n", "250-PROTOCOLINFO 2\r\n250-VERSION Tor=\"0.4.8\"\r\n250 OK\r\n",
                                "250-PROTOCOLINFO 1\r\n250 OK\r\n", "510 Unrecognized command\r\n"})
    EXPECT_FALSE(ProtocolInfo::parse(read(text)[0])) << text;
}

std::string mac(std::string_view key, const std::string& text) {
  unsigned char out[32];
  unsigned size = sizeof out;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
       text.size(), out, &size);
  return hex(std::string_view(reinterpret_cast<char*>(out), size));
}

TEST(SafeCookie, ProvesBothSides) {
  std::string cookie(32, 'c'), nonce(32, 'n'), server(32, 's');
  SafeCookie safe(cookie, nonce);
  EXPECT_EQ(safe.challenge(), "AUTHCHALLENGE SAFECOOKIE " + hex(nonce));
  std::string hash = mac("Tor safe cookie authentication server-to-controller hash", cookie + nonce + server);
  auto proof =
      safe.authenticate(read("250 AUTHCHALLENGE SERVERHASH=" + hash + " SERVERNONCE=" + hex(server) + "\r\n")[0]);
  ASSERT_TRUE(proof);
  EXPECT_EQ(*proof,
            "AUTHENTICATE " + mac("Tor safe cookie authentication controller-to-server hash", cookie + nonce + server));
  hash[5] = hash[5] == 'a' ? 'b' : 'a';
  auto forged =
      safe.authenticate(read("250 AUTHCHALLENGE SERVERHASH=" + hash + " SERVERNONCE=" + hex(server) + "\r\n")[0]);
  ASSERT_FALSE(forged);
  EXPECT_EQ(forged.error().code(), errc::tor_authentication);
  for (std::string_view text : {"250 AUTHCHALLENGE\r\n", "250 AUTHCHALLENGE SERVERHASH=00 SERVERNONCE=00\r\n",
                                "250 OK\r\n", "514 Authentication required\r\n"})
    EXPECT_FALSE(safe.authenticate(read(text)[0])) << text;
  EXPECT_FALSE(SafeCookie("short", nonce).authenticate(read("250 AUTHCHALLENGE SERVERHASH=00 SERVERNONCE=00\r\n")[0]));
}

TEST(TorVersion, Compares) {
  EXPECT_EQ(tor_version("0.4.9.11"), (std::vector<int>{0, 4, 9, 11}));
  EXPECT_EQ(tor_version("Tor 0.4.7.16-dev (git-1)"), (std::vector<int>{0, 4, 7, 16}));
  EXPECT_LT(tor_version("0.4.6.99"), (std::vector<int>{0, 4, 7}));
  EXPECT_GT(tor_version("0.4.10.1"), tor_version("0.4.9.11"));
  for (std::string_view text : {"", "x", "0.4", "99999999999"}) EXPECT_TRUE(tor_version(text).empty()) << text;
}

TEST(CircuitLine, KeepsEveryHopOfAnyNumber) {
  const std::string hop = "$7C1F9D9F4AB5A3E1B2C3D4E5F60718293A4B5C6D~relay1";
  auto one = CircuitLine::parse("7 BUILT " + hop + " PURPOSE=HS_VANGUARDS CONFLUX_ID=ab");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->path.size(), 1u);
  EXPECT_EQ(one->path[0].second, "relay1");
  EXPECT_EQ(one->conflux, "ab");
  auto four = CircuitLine::parse("8 EXTENDED " + hop + "," + hop + "," + hop + "," + hop + " PURPOSE=GENERAL");
  ASSERT_TRUE(four);
  EXPECT_EQ(four->path.size(), 4u);
  auto none = CircuitLine::parse("9 LAUNCHED PURPOSE=GENERAL TIME_CREATED=2026-11-21T05:00:00.1");
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->path.empty());
  for (std::string_view text : {"", "9", "9 BUILT relay1", "9 BUILT $12~x"})
    EXPECT_FALSE(CircuitLine::parse(text)) << text;
}

TEST(StreamLine, TakesTheSourceAndNeverTheTarget) {
  auto stream = StreamLine::parse("12 SENTCONNECT 31 10.88.0.2:80 SOURCE_ADDR=10.9.0.2:51234 PURPOSE=USER");
  ASSERT_TRUE(stream);
  EXPECT_EQ(stream->source, "10.9.0.2");
  EXPECT_EQ(stream->circuit, "31");
  auto v6 = StreamLine::parse("13 NEW 0 [2001:db8::1]:80 SOURCE_ADDR=[fd00::2]:51234");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->source, "fd00::2");
  EXPECT_EQ(v6->circuit, "");
  // The target is a name that the device has chosen: it cannot pose as another word.
  auto posing = StreamLine::parse("14 NEWRESOLVE 0 SOURCE_ADDR=10.9.0.9:1 SOURCE_ADDR=10.9.0.2:5353");
  ASSERT_TRUE(posing);
  EXPECT_EQ(posing->source, "10.9.0.2");
  EXPECT_EQ(StreamLine::parse("15 NEW 0 SOURCE_ADDR=10.9.0.9:1")->source, "");
  for (std::string_view text : {"", "1", "1 NEW", "1 NEW 0", " NEW 0 x"}) EXPECT_FALSE(StreamLine::parse(text)) << text;
}

TEST(BootstrapLine, ReadsProgressAndWarnings) {
  auto line = BootstrapLine::parse(R"(NOTICE BOOTSTRAP PROGRESS=40 TAG=requesting_descriptors SUMMARY="Asking")");
  ASSERT_TRUE(line);
  EXPECT_EQ(line->percent, 40);
  EXPECT_EQ(line->summary, "Asking");
  EXPECT_FALSE(line->warning);
  auto warning = BootstrapLine::parse(R"(WARN BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="x" WARNING="No route to host")");
  ASSERT_TRUE(warning);
  EXPECT_TRUE(warning->warning);
  EXPECT_EQ(warning->problem, "No route to host");
  for (std::string_view text : {"", "NOTICE BOOTSTRAP", "NOTICE BOOTSTRAP PROGRESS=101", "NOTICE BOOTSTRAP PROGRESS=-1",
                                "NOTICE OTHER PROGRESS=5", "NOTICE BOOTSTRAP PROGRESS=5x"})
    EXPECT_FALSE(BootstrapLine::parse(text)) << text;
}

/// What a tor of that version said to a controller, recorded by tests/system/record_tor.py: answers to all that ours
/// asks and to what no tor knows, and events while a device opened a page and asked for a name.
class Recorded : public ::testing::TestWithParam<const char*> {
 protected:
  static std::string path() {
    return std::string(TORNADO_SOURCE_DIR "/tests/codec/recorded/tor-") + GetParam() + ".txt";
  }
  const std::string text_ = read_file(path()).value();
};

std::vector<std::string> told(const std::vector<ControlReply>& replies) {
  std::vector<std::string> out;
  for (const ControlReply& reply : replies)
    for (const ControlLine& line : reply.lines) out.push_back(line.text + "|" + line.data.value_or("none"));
  return out;
}

/// Of an answer to GETINFO circuit-status.
std::vector<CircuitLine> circuits_in(const ControlReply& reply) {
  std::vector<CircuitLine> out;
  std::string_view rest = reply.value("circuit-status").value_or("");
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    auto circuit = CircuitLine::parse(line);
    EXPECT_TRUE(circuit) << line;
    if (circuit) out.push_back(std::move(*circuit));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return out;
}

TEST_P(Recorded, IsTheSameWhereverItIsCut) {
  const auto whole = told(read(text_));
  ASSERT_GT(whole.size(), 100U);
  for (std::size_t piece : {1U, 2U, 3U, 7U, 1000U}) {
    ControlParser parser;
    std::vector<ControlReply> replies;
    for (std::size_t at = 0; at < text_.size(); at += piece) {
      ASSERT_TRUE(parser.feed(std::string_view(text_).substr(at, piece)));
      for (auto& reply : all(parser)) replies.push_back(std::move(reply));
    }
    EXPECT_EQ(told(replies), whole) << piece;
  }
}

TEST_P(Recorded, AnswersAreUnderstood) {
  const auto replies = read(text_);
  auto info = ProtocolInfo::parse(replies.at(0));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->tor_version, GetParam());
  EXPECT_TRUE(info->offers("SAFECOOKIE"));
  int refused = 0, bootstraps = 0, circuits = 0, off = 0;
  for (const ControlReply& reply : replies) {
    if (reply.event()) continue;
    refused += reply.ok() ? 0 : 1;
    off += reply.value("DisableNetwork") == "0" ? 1 : 0;
    if (auto phase = reply.value("status/bootstrap-phase")) {
      EXPECT_EQ(BootstrapLine::parse(*phase).value().percent, 100);
      EXPECT_EQ(reply.value("status/circuit-established"), "1");
      ++bootstraps;
    }
    for (const CircuitLine& circuit : circuits_in(reply)) {
      EXPECT_TRUE(circuit.status != "BUILT" || !circuit.path.empty()) << circuit.id;
      ++circuits;
    }
  }
  EXPECT_EQ(refused, 5) << "of what no tor knows";
  EXPECT_EQ(bootstraps, 1);
  EXPECT_EQ(off, 1);
  EXPECT_GT(circuits, 2);
}

TEST_P(Recorded, EventsLeadToTheDevice) {
  CircuitBook book;
  const Address device = Address::parse("10.9.0.2").value();
  std::size_t circuits = 0, streams = 0, events = 0;
  for (const ControlReply& reply : read(text_)) {
    for (const CircuitLine& circuit : circuits_in(reply)) book.circuit(circuit);
    if (!reply.event()) continue;
    ++events;
    const std::string_view line = reply.lines.front().text, kind = line.substr(0, line.find(' '));
    const std::string_view rest = line.substr(kind.size() + 1);
    if (kind.starts_with("CIRC")) {
      auto circuit = CircuitLine::parse(rest);
      ASSERT_TRUE(circuit) << line;
      book.circuit(*circuit);
    }
    if (kind == "STREAM") {
      auto stream = StreamLine::parse(rest);
      ASSERT_TRUE(stream) << line;
      book.stream(*stream);
    }
    if (rest.find("BOOTSTRAP PROGRESS") != rest.npos) {
      EXPECT_TRUE(BootstrapLine::parse(rest)) << line;
    }
    circuits = std::max(circuits, book.circuits_of(device).size());
    streams = std::max(streams, book.streams_of(device).size());
  }
  EXPECT_GT(events, 50U);
  EXPECT_GT(circuits, 0U);
  EXPECT_GT(streams, 0U);
  EXPECT_TRUE(book.circuits_of(device).empty()) << "its network was switched off";
}

INSTANTIATE_TEST_SUITE_P(Versions, Recorded, ::testing::Values("0.4.7.16", "0.4.8.14", "0.4.9.11"));

class BookOfTwo : public ::testing::Test {
 protected:
  BookOfTwo() {
    tell_circuit("31 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa");
    tell_circuit("32 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa");
    tell_circuit("33 BUILT PURPOSE=GENERAL");
    tell_stream("1 NEW 0 a:80 SOURCE_ADDR=10.9.0.2:1");
    tell_stream("1 SENTCONNECT 31 a:80");
    tell_stream("2 NEW 0 a:80 SOURCE_ADDR=10.9.0.3:1");
    tell_stream("2 SENTCONNECT 33 a:80");
  }
  void tell_circuit(std::string_view text) { book.circuit(CircuitLine::parse(text).value()); }
  void tell_stream(std::string_view text) { book.stream(StreamLine::parse(text).value()); }
  Address one = Address::parse("10.9.0.2").value(), two = Address::parse("10.9.0.3").value();
  CircuitBook book;
};

TEST_F(BookOfTwo, AttributesCircuitsToDevicesWithBothLegsOfASet) {
  EXPECT_EQ(book.circuits_of(one), (std::vector<std::string>{"31", "32"}));
  EXPECT_EQ(book.circuits_of(two), (std::vector<std::string>{"33"}));
  EXPECT_EQ(book.streams_of(one), (std::vector<std::string>{"1"}));
  EXPECT_EQ(book.list().size(), 3u);
}

TEST_F(BookOfTwo, ChangesOfPurposeKeepStateAndSources) {
  tell_circuit("33 PURPOSE_CHANGED PURPOSE=PATH_BIAS_TESTING OLD_PURPOSE=GENERAL");
  tell_circuit("99 PURPOSE_CHANGED PURPOSE=GENERAL");
  ASSERT_EQ(book.list().size(), 3u);
  EXPECT_EQ(book.list()[2].purpose, "PATH_BIAS_TESTING");
  EXPECT_EQ(book.list()[2].state, "BUILT");
  EXPECT_EQ(book.circuits_of(two).size(), 1u);
}

TEST_F(BookOfTwo, RemembersTheDeviceAfterItsStreamHasEnded) {
  tell_stream("1 CLOSED 31 a:80 REASON=DONE");
  EXPECT_TRUE(book.streams_of(one).empty());
  EXPECT_EQ(book.circuits_of(one).size(), 2u);
  tell_circuit("31 CLOSED REASON=FINISHED");
  EXPECT_TRUE(book.circuits_of(one).empty());
  EXPECT_EQ(book.circuits_of(two).size(), 1u);
}

TEST_F(BookOfTwo, ACircuitWithAStreamOfNobodyKnowsWhomIsInDoubtUntilItIsGone) {
  EXPECT_TRUE(book.attributed());
  book.stranger(StreamLine::parse("9 SUCCEEDED 33 a:80").value());
  book.stranger(StreamLine::parse("10 NEW 0 a:80").value());
  EXPECT_FALSE(book.attributed());
  tell_stream("9 CLOSED 33 a:80 REASON=DONE");
  EXPECT_FALSE(book.attributed()) << "its device may still come on it";
  tell_circuit("33 CLOSED REASON=FINISHED");
  EXPECT_TRUE(book.attributed());
  tell_stream("10 SENTCONNECT 31 a:80");
  EXPECT_FALSE(book.attributed());
  book.clear();
  EXPECT_TRUE(book.attributed());
}

TEST_F(BookOfTwo, TorsOwnStreamsAreNobodys) {
  tell_stream("9 NEW 0 a:80 SOURCE_ADDR=(Tor_internal):0 PURPOSE=DIR_FETCH");
  tell_stream("9 SENTCONNECT 33 a:80");
  EXPECT_TRUE(book.attributed());
  tell_stream("9 CLOSED 33 a:80");
  tell_stream("9 SENTCONNECT 33 a:80");
  EXPECT_FALSE(book.attributed()) << "the number was somebody else's";
}

TEST_F(BookOfTwo, OneDeviceHasItsOwnAmongAThousandAndLeavesNothingBehind) {
  for (int i = 100; i < 1100; ++i) tell_circuit(std::to_string(i) + " BUILT PURPOSE=GENERAL");
  tell_stream("3 NEW 0 a:80 SOURCE_ADDR=10.9.0.2:2");
  tell_stream("3 SENTCONNECT 500 a:80");
  tell_stream("3 REMAP 500 b:80");
  EXPECT_EQ(book.circuits_of(one), (std::vector<std::string>{"31", "32", "500"}));
  tell_circuit("32 CLOSED REASON=FINISHED");
  EXPECT_EQ(book.circuits_of(one), (std::vector<std::string>{"31", "500"}));
  tell_circuit("500 CLOSED REASON=REQUESTED");
  tell_stream("3 CLOSED 500 a:80 REASON=DESTROY");
  EXPECT_EQ(book.circuits_of(one), (std::vector<std::string>{"31"}));
  EXPECT_EQ(book.streams_of(one), (std::vector<std::string>{"1"}));
  tell_circuit("31 CLOSED REASON=REQUESTED");
  tell_stream("1 DETACHED 31 a:80 REASON=DESTROY");
  tell_stream("1 CLOSED 0 a:80 REASON=DESTROY");
  EXPECT_TRUE(book.circuits_of(one).empty());
  EXPECT_TRUE(book.streams_of(one).empty());
  book.clear();
  EXPECT_TRUE(book.circuits_of(two).empty());
}

}  // namespace
}  // namespace tornado
