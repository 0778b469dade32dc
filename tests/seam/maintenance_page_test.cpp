// The page of a lane without network, as browsers and less polite clients get it.
#include "tor/maintenance_page.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <list>

#include "support/private_namespace.hpp"

namespace tornado::test {
namespace {

using SteadyClock = std::chrono::steady_clock;

class Browser {
 public:
  explicit Browser(const Endpoint& server, std::string_view own = "0.0.0.0")
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    timeval limit{20, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in from = socket_address(Endpoint(Address::parse(own).value(), 0)), to = socket_address(server);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&from), sizeof from), 0) << std::strerror(errno);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0) << std::strerror(errno);
  }
  ~Browser() { ::close(fd_); }
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  void say(std::string_view text) { (void)!::send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  /// Until the server takes no more, because nobody reads its answers.
  void flood(std::string_view text) {
    timeval limit{0, 300000};
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) > 0) continue;
  }
  /// True if the server has hung up, whatever it said before.
  bool ended() {
    while (true) {
      char block[65536];
      ssize_t got = ::recv(fd_, block, sizeof block, 0);
      if (got == 0 || (got < 0 && errno == ECONNRESET)) return true;
      if (got < 0) return false;
    }
  }

  /// Head and body of the next answer; its length says where it ends.
  std::pair<std::string, std::string> hear(bool has_body = true) {
    std::size_t end;
    while ((end = pending_.find("\r\n\r\n")) == std::string::npos)
      if (!more()) return {pending_, ""};
    std::string head = pending_.substr(0, end + 2);
    pending_.erase(0, end + 4);
    auto at = head.find("Content-Length: ");
    std::size_t length = has_body && at != std::string::npos ? std::stoul(head.substr(at + 16)) : 0;
    while (pending_.size() < length)
      if (!more()) break;
    std::string body = pending_.substr(0, length);
    pending_.erase(0, length);
    return {head, body};
  }
  const std::string& unread() const { return pending_; }

 private:
  static sockaddr_in socket_address(const Endpoint& endpoint) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(endpoint.port);
    out.sin_addr.s_addr = htonl(endpoint.address.v4());
    return out;
  }
  bool more() {
    char block[8192];
    ssize_t got = ::recv(fd_, block, sizeof block, 0);
    if (got > 0) pending_.append(block, static_cast<std::size_t>(got));
    return got > 0;
  }

  int fd_;
  std::string pending_;
};

class Maintenance : public ::testing::Test {
 protected:
  void start(const Endpoint& endpoint = Endpoint(Address::parse("127.0.0.1").value(), 0)) {
    runtime.emplace();
    page = std::make_unique<MaintenancePage>(*runtime);
    page->listen(endpoint).value();
    server = page->endpoints().at(0);
    loop.emplace(runtime->start());
  }
  void TearDown() override {
    loop.reset();
    page.reset();
  }
  void say(std::string_view headline, std::string_view detail) {
    runtime->call([&] { page->say(headline, detail); });
  }
  static void expect_page(const std::string& head) {
    EXPECT_TRUE(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n")) << head;
    for (std::string_view line :
         {"Content-Type: text/html; charset=utf-8", "Retry-After: 30", "Cache-Control: no-store"})
      EXPECT_NE(head.find("\r\n" + std::string(line) + "\r\n"), std::string::npos) << head;
  }

  static constexpr std::string_view get = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
  std::optional<Runtime> runtime;
  std::unique_ptr<MaintenancePage> page;
  std::optional<LoopThread> loop;
  Endpoint server;
};

TEST_F(Maintenance, EveryRequestGetsThePage) {
  start();
  Browser browser(server);
  for (std::string request :
       {std::string(get), std::string("POST /login?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
        std::string("DELETE /%00/../x HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        std::string("PROPFIND /dav HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("GET / HTTP/1.1\r\n\r\n")}) {
    browser.say(request);
    auto [head, body] = browser.hear();
    expect_page(head);
    EXPECT_TRUE(body.starts_with("<!DOCTYPE html>")) << request;
    EXPECT_TRUE(body.ends_with("</html>\n")) << request;
    EXPECT_EQ(head.find("Connection: close"), std::string::npos) << request;
  }
  EXPECT_EQ(browser.unread(), "");
  EXPECT_EQ(runtime->call([this] { return page->requests(); }), 7U);
}

TEST_F(Maintenance, HeadHasTheLengthAndNoBody) {
  start();
  Browser browser(server);
  browser.say("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  auto head = browser.hear(false).first;
  expect_page(head);
  browser.say(get);
  auto [next, body] = browser.hear();
  EXPECT_TRUE(next.starts_with("HTTP/1.1 503"));
  EXPECT_NE(head.find("Content-Length: " + std::to_string(body.size()) + "\r\n"), std::string::npos) << head;
}

TEST_F(Maintenance, ConnectionsEndWhenTheClientWantsIt) {
  start();
  for (std::string_view request :
       {"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}) {
    Browser browser(server);
    browser.say(request);
    auto [head, body] = browser.hear();
    expect_page(head);
    EXPECT_NE(head.find("Connection: close"), std::string::npos) << head;
    EXPECT_FALSE(body.empty());
    EXPECT_TRUE(browser.ended());
  }
}

TEST_F(Maintenance, PipelinedRequestsAreAllAnswered) {
  start();
  Browser browser(server);
  std::string many;
  for (int i = 0; i < 50; ++i) many += get;
  browser.say(many);
  for (int i = 0; i < 50; ++i) expect_page(browser.hear().first);
}

TEST_F(Maintenance, SaysWhatIsTheMatterAndEscapesIt) {
  start();
  Browser browser(server);
  browser.say(get);
  EXPECT_NE(browser.hear().second.find("<h1>The Tor network cannot be reached right now</h1>"), std::string::npos);
  say("<b>\"Tor\" & 'co'</b>", "Zwiebel \xc3\xbc\xc3\xbc</p><script>1</script>");
  browser.say(get);
  std::string body = browser.hear().second;
  EXPECT_NE(body.find("<h1>&lt;b&gt;&quot;Tor&quot; &amp; &#39;co&#39;&lt;/b&gt;</h1>"), std::string::npos) << body;
  EXPECT_NE(body.find("<title>&lt;b&gt;"), std::string::npos) << body;
  EXPECT_NE(body.find("<p>Zwiebel \xc3\xbc\xc3\xbc&lt;/p&gt;&lt;script&gt;1"), std::string::npos) << body;
}

TEST_F(Maintenance, NeedsNothingFromElsewhere) {
  start();
  Browser browser(server);
  browser.say(get);
  std::string body = browser.hear().second;
  for (std::string_view word : {"://", "src=", "href=", "<script", "@import", "url(", "<img", "<iframe", "onload"})
    EXPECT_EQ(body.find(word), std::string::npos) << word;
  EXPECT_NE(body.find("width=device-width"), std::string::npos);
  EXPECT_NE(body.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_LT(body.size(), 4096U);
}

TEST_F(Maintenance, BrokenClientsHarmNobody) {
  start();
  Browser good(server);
  for (std::string bytes :
       {std::string("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 11), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), "GET /" + std::string(20000, 'a') + " HTTP/1.1\r\n\r\n",
        std::string("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n")}) {
    Browser bad(server);
    bad.say(bytes);
    bad.say("\r\n\r\n");
    EXPECT_TRUE(bad.ended()) << bytes.substr(0, 40);
    good.say(get);
    expect_page(good.hear().first);
  }
}

TEST_F(Maintenance, SlowClientsAreBoundedInNumberAndTime) {
  start();
  const auto begun = SteadyClock::now();
  std::list<Browser> slow;
  for (int i = 0; i < 64; ++i) slow.emplace_back(server, "127.0.0.5");
  Browser one_too_many(server, "127.0.0.5");
  EXPECT_TRUE(one_too_many.ended());
  EXPECT_LT(SteadyClock::now() - begun, std::chrono::seconds(3));

  std::string requests;
  for (int i = 0; i < 1000; ++i) requests += get;
  auto silent = slow.begin(), half = std::next(silent), deaf = std::next(half);
  half->say(get.substr(0, 10));
  deaf->flood(requests);
  Browser good(server);
  good.say(get);
  expect_page(good.hear().first);
  EXPECT_TRUE(silent->ended());
  while (runtime->call([this] { return page->connections(); }) > 0)
    ASSERT_LT(SteadyClock::now() - begun, std::chrono::seconds(60));
  EXPECT_GT(SteadyClock::now() - begun, std::chrono::seconds(9));
  EXPECT_TRUE(half->ended());
  EXPECT_TRUE(deaf->ended());
}

TEST_F(Maintenance, ListensBeforeTheAddressIsThere) {
  PrivateNamespace inside;
  start(Endpoint(Address::parse("10.9.0.1").value(), 9041));
  Endpoint other(Address::parse("fd00::9").value(), 9041);
  runtime->call([&] { return page->listen(other); }).value();
  EXPECT_EQ(runtime->call([this] { return page->endpoints(); }), (std::vector<Endpoint>{server, other}));
  ASSERT_EQ(std::system("ip addr add 10.9.0.1/32 dev lo"), 0);
  Browser browser(server);
  browser.say(get);
  expect_page(browser.hear().first);
}

TEST_F(Maintenance, SaysWhyItCannotListen) {
  start();
  auto again = runtime->call([this] { return page->listen(server); });
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), errc::backend_failed);
  EXPECT_NE(again.error().detail().find("in use"), std::string::npos) << again.error().detail();
}

}  // namespace
}  // namespace tornado::test
