#include <gtest/gtest.h>

#include "http/http_codec.hpp"

using namespace tornado;

namespace {

constexpr std::size_t most_header = 4096, most_body = 1024;

const std::string login =
    "POST /auth/login?trace=1 HTTP/1.1\r\nHost: vpn.example.org:4605\r\nAuthorization: Bearer abc\r\n"
    "X-Forwarded-For: 203.0.113.9\r\nUser-Agent: client/1\r\nX-Request-ID: r-1\r\nContent-Length: 11\r\n\r\n"
    "{\"a\":\"b\\\"\"}";
const std::string get = "GET /system/public-key HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection: what the parser leaves is offered again with what comes next.
class Connection {
 public:
  Result<void> arrive(std::string_view bytes) {
    buffer_.append(bytes);
    while (!buffer_.empty()) {
      auto used = parser.feed(buffer_);
      if (!used) return used.error();
      buffer_.erase(0, *used);
      if (parser.done()) requests.push_back(parser.take());
      if (*used == 0) break;
    }
    return {};
  }
  std::size_t unread() const { return buffer_.size(); }

  HttpRequestParser parser{most_header, most_body};
  std::vector<HttpRequest> requests;

 private:
  std::string buffer_;
};

void expect_login(const HttpRequest& request) {
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/auth/login");
  EXPECT_EQ(request.query, "trace=1");
  EXPECT_EQ(request.authorization, "Bearer abc");
  EXPECT_EQ(request.forwarded_for, "203.0.113.9");
  EXPECT_EQ(request.user_agent, "client/1");
  EXPECT_EQ(request.request_id, "r-1");
  EXPECT_EQ(request.body, "{\"a\":\"b\\\"\"}");
  EXPECT_TRUE(request.keep_alive);
}

errc refusal(std::string_view bytes) {
  Connection c;
  auto result = c.arrive(bytes);
  EXPECT_FALSE(result) << bytes.substr(0, 80);
  EXPECT_TRUE(c.requests.empty());
  return result ? errc::internal : result.error().code();
}

}  // namespace

TEST(HttpCodec, RequestIsRead) {
  Connection c;
  EXPECT_FALSE(c.parser.begun());
  ASSERT_TRUE(c.arrive(login));
  ASSERT_EQ(c.requests.size(), 1U);
  expect_login(c.requests[0]);
  EXPECT_FALSE(c.parser.begun());
  EXPECT_EQ(c.unread(), 0U);
}

TEST(HttpCodec, TruncatedAtEveryLengthIsNoRequest) {
  for (std::size_t size = 0; size < login.size(); ++size) {
    Connection c;
    ASSERT_TRUE(c.arrive(login.substr(0, size))) << size;
    EXPECT_TRUE(c.requests.empty()) << size;
  }
}

TEST(HttpCodec, SplitAtEveryByte) {
  for (std::size_t cut = 0; cut <= login.size(); ++cut) {
    Connection c;
    ASSERT_TRUE(c.arrive(login.substr(0, cut)));
    ASSERT_TRUE(c.arrive(login.substr(cut)));
    ASSERT_EQ(c.requests.size(), 1U) << cut;
    expect_login(c.requests[0]);
  }
  Connection slow;
  for (char byte : login) ASSERT_TRUE(slow.arrive(std::string_view(&byte, 1)));
  ASSERT_EQ(slow.requests.size(), 1U);
  expect_login(slow.requests[0]);
}

TEST(HttpCodec, PipelinedRequestsComeInOrder) {
  std::string stream = login + get + login + get;
  for (std::size_t cut = 0; cut <= stream.size(); cut += 3) {
    Connection c;
    ASSERT_TRUE(c.arrive(stream.substr(0, cut)));
    ASSERT_TRUE(c.arrive(stream.substr(cut)));
    ASSERT_EQ(c.requests.size(), 4U) << cut;
    expect_login(c.requests[0]);
    EXPECT_EQ(c.requests[1].path, "/system/public-key");
    EXPECT_EQ(c.requests[1].body, "");
    EXPECT_EQ(c.requests[1].authorization, "") << "nothing remains of the former request";
    expect_login(c.requests[2]);
  }
}

TEST(HttpCodec, KeepAliveFollowsVersionAndHeader) {
  auto keep = [](const std::string& text) {
    Connection c;
    EXPECT_TRUE(c.arrive(text));
    EXPECT_EQ(c.requests.size(), 1U) << text;
    return !c.requests.empty() && c.requests[0].keep_alive;
  };
  EXPECT_TRUE(keep("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
  EXPECT_FALSE(keep("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST(HttpCodec, OversizeIsTooLarge) {
  std::string post = "POST / HTTP/1.1\r\nContent-Length: ";
  EXPECT_EQ(refusal(post + "1025\r\n\r\n" + std::string(1025, 'x')), errc::too_large);
  EXPECT_EQ(refusal(post + "1000000000\r\n\r\n"), errc::too_large) << "refused before the body comes";
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nX: " + std::string(most_header, 'x') + "\r\n\r\n"), errc::too_large);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nX: " + std::string(most_header, 'x')), errc::too_large) << "no end in sight";
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 400; ++i) many += "X" + std::to_string(i) + ": value\r\n";
  EXPECT_EQ(refusal(many + "\r\n"), errc::too_large);
  std::string chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(refusal(chunks + "0\r\n\r\n"), errc::too_large);
  Connection full;
  EXPECT_TRUE(full.arrive(post + "1024\r\n\r\n" + std::string(1024, 'x')));
  EXPECT_EQ(full.requests.size(), 1U);
}

TEST(HttpCodec, DribbledHeaderIsTooLargeToo) {
  Connection c;
  ASSERT_TRUE(c.arrive("GET / HTTP/1.1\r\nX: "));
  Result<void> last;
  for (int i = 0; last && i < 6000; ++i) last = c.arrive("x");
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code(), errc::too_large);
}

TEST(HttpCodec, ChunkedBody) {
  std::string text =
      "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\n\r\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Connection c;
    ASSERT_TRUE(c.arrive(text.substr(0, cut)));
    ASSERT_TRUE(c.arrive(text.substr(cut) + get));
    ASSERT_EQ(c.requests.size(), 2U) << cut;
    EXPECT_EQ(c.requests[0].body, "hello world");
  }
}

// Found by http_fuzz: an assertion in Beast failed when the last chunk came in pieces.
TEST(HttpCodec, EmptyChunkedBodyByteByByte) {
  for (std::string end : {"0\r\n\r\n", "0;x=y\r\n\r\n", "0\r\nTrailer: x\r\n\r\n", "1\r\na\r\n0\r\n\r\n"}) {
    Connection c;
    for (char byte : "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + end)
      ASSERT_TRUE(c.arrive(std::string_view(&byte, 1)));
    ASSERT_EQ(c.requests.size(), 1U) << end;
    EXPECT_EQ(c.unread(), 0U);
  }
}

TEST(HttpCodec, ContinueIsWantedOnce) {
  Connection c;
  EXPECT_FALSE(c.parser.wants_continue());
  ASSERT_TRUE(c.arrive("POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"));
  EXPECT_TRUE(c.parser.wants_continue());
  EXPECT_FALSE(c.parser.wants_continue());
  ASSERT_TRUE(c.arrive("{}"));
  ASSERT_EQ(c.requests.size(), 1U);
  EXPECT_EQ(c.requests[0].body, "{}");
  ASSERT_TRUE(c.arrive("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n"));
  EXPECT_FALSE(c.parser.wants_continue());
}

TEST(HttpCodec, GarbageIsAProtocolError) {
  for (const std::string& bytes :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01", 8), std::string("hello\r\n\r\n"), std::string("GET /\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\n: x\r\n\r\n"), std::string("GET / HTTP/1.1\r\nA b: x\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nA: x\0y\r\n\r\n", 26), std::string("G\0T / HTTP/1.1\r\n\r\n", 18),
        std::string("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("HTTP/1.1 200 OK\r\n\r\n")})
    EXPECT_EQ(refusal(bytes), errc::protocol_error) << bytes;
}

// RFC 9112 section 6.3: two lengths, or a length beside chunks, are the stuff of request smuggling.
TEST(HttpCodec, AmbiguousLengthsAreRefused) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), errc::protocol_error);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            errc::protocol_error);
}

TEST(HttpCodec, AnswersAreWritten) {
  HttpResponse response(200, "{\"ok\":true}");
  EXPECT_EQ(serialize(response, true),
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}");
  response.status = 429;
  response.headers.emplace_back("Retry-After", "60");
  EXPECT_EQ(serialize(response, false, true),
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 11\r\nRetry-After: "
            "60\r\nConnection: close\r\n\r\n");
}
