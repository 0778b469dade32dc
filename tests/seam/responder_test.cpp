// The name server of a lane without network, over real sockets.
#include "dns/responder.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "dns/dns_codec.hpp"
#include "support/private_namespace.hpp"

namespace tornado::test {
namespace {

Address address(std::string_view text) {
  return Address::parse(text).value();
}

/// Asks over IPv4; a lost answer fails after a minute.
class Resolver {
 public:
  explicit Resolver(const Endpoint& server) : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(server.port);
    to.sin_addr.s_addr = htonl(server.address.v4());
    timeval limit{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
  }
  ~Resolver() { ::close(fd_); }
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  void say(std::string_view bytes) { (void)!::send(fd_, bytes.data(), bytes.size(), 0); }
  std::string hear() {
    char block[4096];
    ssize_t got = ::recv(fd_, block, sizeof block, 0);
    return got > 0 ? std::string(block, static_cast<std::size_t>(got)) : std::string();
  }
  DnsAnswer ask(std::string_view name, std::uint16_t type = dns::type_a) {
    say(dns::query(++id_, name, type));
    auto answer = dns::parse_answer(hear());
    EXPECT_TRUE(answer) << name;
    if (!answer) return DnsAnswer();
    EXPECT_EQ(answer->id, id_);
    EXPECT_EQ(answer->code, DnsCode::no_error);
    return *answer;
  }

 private:
  int fd_;
  std::uint16_t id_ = 0;
};

DnsResponderOptions lane() {
  DnsResponderOptions out(address("10.9.0.1"));
  out.names["Gate.Example.org."] = {address("198.51.100.2"), address("2001:db8::2")};
  return out;
}

class Responding : public ::testing::Test {
 protected:
  void start(const DnsResponderOptions& options, const Endpoint& endpoint = Endpoint(address("127.0.0.1"), 0)) {
    runtime.emplace();
    responder = std::make_unique<DnsResponder>(*runtime, options);
    responder->listen(endpoint).value();
    server = responder->endpoints().at(0);
    loop.emplace(runtime->start());
    running = runtime->spawn(responder->run());
  }
  void TearDown() override {
    running.stop();
    loop.reset();
    responder.reset();
  }
  DnsResponderCounts counts() {
    return runtime->call([this] { return responder->counts(); });
  }

  std::optional<Runtime> runtime;
  std::unique_ptr<DnsResponder> responder;
  std::optional<LoopThread> loop;
  Background running;
  Endpoint server;
};

TEST_F(Responding, EveryNameIsTheGateway) {
  start(lane());
  Resolver device(server);
  for (const char* name : {"example.org", "WWW.Example.COM", "x", "a.b.c.d.e.f.onion"}) {
    EXPECT_EQ(device.ask(name).addresses, std::vector<Address>{address("10.9.0.1")}) << name;
    EXPECT_TRUE(device.ask(name, dns::type_aaaa).addresses.empty()) << name;
    EXPECT_TRUE(device.ask(name, 65).addresses.empty()) << name;
  }
  device.say(dns::query(1, "example.org"));
  EXPECT_TRUE(device.hear().ends_with(std::string("\0\0\0\1\0\4\x0a\x09\0\1", 10)));  // believed for a second
}

TEST_F(Responding, WithAnIpv6AddressThatIsAnsweredToo) {
  start(DnsResponderOptions(address("10.9.0.1"), address("fd00::1")));
  Resolver device(server);
  EXPECT_EQ(device.ask("example.org").addresses, std::vector<Address>{address("10.9.0.1")});
  EXPECT_EQ(device.ask("example.org", dns::type_aaaa).addresses, std::vector<Address>{address("fd00::1")});
}

TEST_F(Responding, OwnNamesHaveTheirRealAddresses) {
  start(lane());
  Resolver device(server);
  EXPECT_EQ(device.ask("gate.example.ORG").addresses, std::vector<Address>{address("198.51.100.2")});
  EXPECT_EQ(device.ask("gate.example.org", dns::type_aaaa).addresses, std::vector<Address>{address("2001:db8::2")});
  DnsNames others;
  others["api.example.org"] = {address("198.51.100.3"), address("198.51.100.4")};
  runtime->call([&] { responder->names(others); });
  EXPECT_EQ(device.ask("gate.example.org").addresses, std::vector<Address>{address("10.9.0.1")});
  EXPECT_EQ(device.ask("api.example.org").addresses.size(), 2U);
  EXPECT_TRUE(device.ask("api.example.org", dns::type_aaaa).addresses.empty());
}

TEST_F(Responding, WhatIsNoQueryGetsNoAnswer) {
  start(lane());
  Resolver device(server);
  std::string response = dns::query(7, "example.org");
  response[2] = static_cast<char>(0x81);
  for (std::string_view bytes : {std::string_view(), std::string_view("x"), std::string_view(response)})
    device.say(bytes);
  EXPECT_EQ(device.ask("example.org").addresses.size(), 1U);
  EXPECT_EQ(counts().ignored, 3U);
  EXPECT_EQ(counts().answered, 1U);
}

TEST_F(Responding, WhatItDoesNotDoIsSaid) {
  start(lane());
  Resolver device(server);
  std::string chaos = dns::query(7, "version.bind", 16), status = chaos, broken = chaos + "x";
  chaos.back() = 3;
  status[2] = 0x10;
  for (auto [query, code] : {std::pair(chaos, DnsCode::refused), std::pair(status, DnsCode::not_implemented),
                             std::pair(broken, DnsCode::form_error)}) {
    device.say(query);
    auto answer = dns::parse_answer(device.hear());
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->code, code);
  }
  EXPECT_EQ(counts().refused, 3U);
}

TEST_F(Responding, SurvivesGarbageAndAnswersItBriefly) {
  start(lane());
  Resolver device(server);
  std::mt19937 random(1);
  const std::string good = dns::query(7, "www.example.org");
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = good;
    if (i % 3 == 0) bytes.resize(random() % 600);
    if (i % 3 == 2) bytes.append(random() % 3000, 'x');
    for (int n = 0; n < 4 && !bytes.empty(); ++n) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (bytes.size() > 2) bytes[2] = static_cast<char>(bytes[2] & 0x7f);
    device.say(bytes);
    if (bytes.size() < 12) continue;
    std::string answer = device.hear();
    ASSERT_GE(answer.size(), 12U) << i;
    EXPECT_LE(answer.size(), bytes.size() + 28) << i;
  }
  EXPECT_EQ(device.ask("example.org").addresses.size(), 1U);
}

TEST_F(Responding, ABurstIsAnsweredInFull) {
  start(lane());
  Resolver device(server);
  for (std::uint16_t i = 0; i < 200; ++i) device.say(dns::query(i, "example.org"));
  for (int i = 0; i < 200; ++i) ASSERT_FALSE(device.hear().empty()) << i;
  EXPECT_EQ(counts().answered, 200U);
}

TEST_F(Responding, EndsAndBeginsAgain) {
  start(lane());
  running.stop();
  running = runtime->spawn(responder->run());
  EXPECT_EQ(Resolver(server).ask("example.org").addresses.size(), 1U);
}

TEST_F(Responding, ListensBeforeTheAddressIsThere) {
  PrivateNamespace inside;
  start(lane(), Endpoint(address("10.9.0.1"), 53));
  runtime->call([this] { return responder->listen(Endpoint(address("fd00::9"), 53)); }).value();
  ASSERT_EQ(std::system("ip addr add 10.9.0.1/32 dev lo"), 0);
  EXPECT_EQ(Resolver(server).ask("example.org").addresses.size(), 1U);
  ASSERT_EQ(std::system("ip addr del 10.9.0.1/32 dev lo && ip addr add 10.9.0.1/32 dev lo"), 0);
  EXPECT_EQ(Resolver(server).ask("example.org").addresses.size(), 1U);
}

TEST_F(Responding, AnswersOnAnAddressThatComesLater) {
  runtime.emplace();
  responder = std::make_unique<DnsResponder>(*runtime, lane());
  loop.emplace(runtime->start());
  running = runtime->spawn(responder->run());
  runtime->call([this] { return responder->listen(Endpoint(address("127.0.0.1"), 0)); }).value();
  server = runtime->call([this] { return responder->endpoints().at(0); });
  EXPECT_EQ(Resolver(server).ask("example.org").addresses.size(), 1U);
}

TEST_F(Responding, SaysWhyItCannotListen) {
  start(lane());
  auto again = runtime->call([this] { return responder->listen(server); });
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), errc::backend_failed);
  EXPECT_NE(again.error().detail().find("in use"), std::string::npos) << again.error().detail();
}

}  // namespace
}  // namespace tornado::test
