// What a stopping server owes to those who are connected (I-12).
#include "http/http_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <list>
#include <thread>

namespace tornado::test {
namespace {

class Hello final : public HttpHandler {
 public:
  std::optional<HttpResponse> answer_now(HttpRequest& request) override {
    return HttpResponse(200, request.path == "/large" ? std::string(64 << 20, 'x') : "hello");
  }
  boost::asio::awaitable<HttpResponse> answer(HttpRequest) override { co_return HttpResponse(500, ""); }
};

class Caller {
 public:
  explicit Caller(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval limit{10, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  }
  ~Caller() { ::close(fd_); }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  void say(std::string_view text) { (void)!::send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  /// What comes next, or nothing at the end.
  std::string hear() {
    char block[4096];
    ssize_t got = ::recv(fd_, block, sizeof block, 0);
    return got > 0 ? std::string(block, static_cast<std::size_t>(got)) : std::string();
  }
  /// The server has closed the connection.
  bool ended() {
    char byte;
    return ::recv(fd_, &byte, 1, 0) == 0;
  }

 private:
  int fd_;
};

class Draining : public ::testing::Test {
 protected:
  void SetUp() override {
    runtime.call([this] { return server->listen(Endpoint(Address::parse("127.0.0.1").value(), 0)); }).value();
    port = runtime.call([this] { return server->endpoints()[0].port; });
  }
  void TearDown() override {
    if (stopping.joinable()) stopping.join();
    loop.reset();
    server.reset();
  }
  /// Begins once the server has as many connections.
  void drain(std::size_t connections, Seconds within = Seconds(5)) {
    while (runtime.call([this] { return server->connections(); }) < connections)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    begun = std::chrono::steady_clock::now();
    stopping = std::thread([this, within] {
      runtime.wait(drained(within)).value();
      took = std::chrono::steady_clock::now() - begun;
    });
    while (runtime.call([this] { return !server->endpoints().empty(); })) std::this_thread::yield();
  }
  Task<void> drained(Seconds within) {
    co_await server->drain(within);
    co_return Result<void>();
  }

  static constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  Runtime runtime;
  Hello handler;
  std::unique_ptr<HttpServer> server = std::make_unique<HttpServer>(runtime, handler, HttpLimits());
  std::optional<LoopThread> loop{runtime.start()};
  std::uint16_t port = 0;
  std::thread stopping;
  std::chrono::steady_clock::time_point begun;
  std::chrono::steady_clock::duration took{};
};

TEST_F(Draining, WhoeverHasConnectedIsStillAnswered) {
  Caller fresh(port), half(port);
  half.say(request.substr(0, 10));
  drain(2);
  fresh.say(request);
  half.say(request.substr(10));
  for (Caller* caller : {&fresh, &half}) {
    std::string answer = caller->hear();
    EXPECT_NE(answer.find("200 OK"), std::string::npos) << answer;
    EXPECT_NE(answer.find("Connection: close"), std::string::npos) << answer;
    EXPECT_EQ(caller->hear(), "");
  }
  stopping.join();
  EXPECT_LT(took, std::chrono::milliseconds(900));
}

TEST_F(Draining, WhoeverConnectsAtThatMomentIsAnswered) {
  std::list<Caller> callers;
  std::promise<void> ended;
  auto drain_now = [&] {
    boost::asio::co_spawn(runtime.loop(), drained(Seconds(5)),
                          [&](std::exception_ptr, Result<void>) { ended.set_value(); });
  };
  // A turn of the loop later, one of them has just been accepted and the next one already, but nobody was told.
  auto later = [&] { boost::asio::post(runtime.loop(), drain_now); };
  runtime.call([&] {
    for (int i = 0; i < 3; ++i) callers.emplace_back(port).say(request);
    boost::asio::post(runtime.loop(), later);
    return true;
  });
  for (Caller& caller : callers) EXPECT_NE(caller.hear().find("200 OK"), std::string::npos);
  EXPECT_EQ(ended.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

/// No new descriptor for anybody in this process.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &former_);
    int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_GE(lowest, 0);
    ::close(lowest);
    rlimit now = former_;
    now.rlim_cur = static_cast<rlim_t>(lowest);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &former_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit former_{};
};

TEST_F(Draining, EndsWithoutADescriptorLeft) {
  std::optional<Caller> caller;
  std::optional<NoDescriptors> none;
  runtime.call([&] {
    caller.emplace(port);
    none.emplace();
    return true;
  });
  drain(0);
  stopping.join();
  EXPECT_LT(took, std::chrono::seconds(5));
  EXPECT_EQ(caller->hear(), "");
}

TEST_F(Draining, AConnectionBetweenRequestsGoesAtOnce) {
  Caller pooled(port);
  pooled.say(request);
  EXPECT_NE(pooled.hear().find("200 OK"), std::string::npos);
  drain(1);
  EXPECT_EQ(pooled.hear(), "");
  stopping.join();
  EXPECT_LT(took, std::chrono::milliseconds(900));
}

class Limited : public Draining {
 protected:
  Limited(Seconds idle, Seconds request) {
    HttpLimits limits;
    limits.idle = idle;
    limits.request = limits.answer = request;
    server = std::make_unique<HttpServer>(runtime, handler, limits);
  }
};

class Patient : public Limited {
 protected:
  Patient() : Limited(Seconds(60), Seconds(60)) {}
};

TEST_F(Patient, ASilentOneHoldsItUpForSecondsOnly) {
  Caller silent(port);
  drain(1, Seconds(60));
  EXPECT_EQ(silent.hear(), "");
  stopping.join();
  EXPECT_LT(took, std::chrono::seconds(10));
}

TEST_F(Patient, OneThatTricklesHasNoMoreTimeThanASilentOne) {
  Caller trickling(port);
  drain(1, Seconds(60));
  for (std::size_t i = 0; i < 15; ++i) {
    trickling.say(request.substr(i, 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(trickling.hear(), "");
  stopping.join();
  EXPECT_LT(took, std::chrono::seconds(10));
}

TEST_F(Patient, AnAnswerThatNobodyTakesEndsWithTheDrain) {
  Caller late(port), before(port);
  before.say("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  drain(2, Seconds(2));
  late.say("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  stopping.join();
  EXPECT_GT(took, std::chrono::milliseconds(1500));
  EXPECT_LT(took, std::chrono::seconds(10));
}

class Impatient : public Limited {
 protected:
  Impatient() : Limited(Seconds(3), Seconds(3)) {}
};

TEST_F(Impatient, TimeInWhichTheServerStoodStillIsNobodysDelay) {
  Caller half(port), answered(port);
  half.say(request.substr(0, 10));
  answered.say(request);
  EXPECT_NE(answered.hear().find("200 OK"), std::string::npos);
  runtime.call([] {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
    return true;
  });
  half.say(request.substr(10));
  EXPECT_NE(half.hear().find("200 OK"), std::string::npos);
}

class ImpatientBetweenRequests : public Limited {
 protected:
  ImpatientBetweenRequests() : Limited(Seconds(1), Seconds(60)) {}
};

TEST_F(ImpatientBetweenRequests, WaitLongerForTheFirstOne) {
  Caller fresh(port), pooled(port);
  pooled.say(request);
  EXPECT_NE(pooled.hear().find("200 OK"), std::string::npos);
  EXPECT_TRUE(pooled.ended());
  fresh.say(request);
  EXPECT_NE(fresh.hear().find("200 OK"), std::string::npos);
}

}  // namespace
}  // namespace tornado::test
