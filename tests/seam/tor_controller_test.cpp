#include "tornado/tor_controller.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/file.hpp"
#include "process/child.hpp"
#include "support/scratch.hpp"

using namespace tornado;
namespace asio = boost::asio;

namespace {

/// A controller of a program that speaks like tor.
class TorControllerTest : public ::testing::Test {
 protected:
  TorControllerTest() {
    std::filesystem::copy_file(TORNADO_SOURCE_DIR "/tests/support/fake_tor", scratch_ / "tor");
    options_.program = scratch_ / "tor";
    options_.directory = scratch_ / "state/tor";
    options_.children = scratch_ / "children";
    options_.probe_name.clear();
    std::filesystem::create_directories(scratch_ / "state");
  }
  ~TorControllerTest() override {
    stop();
    TorController last(runtime_, options_);
    auto run = runtime_.spawn(last.run());
    (void)runtime_.wait(last.wish(TorWish::stopped));
    (void)settled(last, [](const TorStatus& status) { return status.phase == TorPhase::stopped; });
  }

  void behave(const std::string& json) { ASSERT_TRUE(replace_file(scratch_ / "behaviour.json", json, 0600)); }
  void start(TorWish wish = TorWish::up) {
    tor_ = std::make_unique<TorController>(runtime_, options_);
    run_ = runtime_.spawn(tor_->run(wish));
  }
  void stop() {
    run_.stop();
    tor_.reset();
  }
  /// The status once a condition holds; fails after 20 s.
  TorStatus settled(TorController& tor, const std::function<bool(const TorStatus&)>& condition) {
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    TorStatus now = tor.status();
    while (!condition(now)) {
      if (std::chrono::steady_clock::now() > limit) {
        ADD_FAILURE() << "still " << name(now.phase) << ": " << now.reason;
        break;
      }
      auto changed = runtime_.wait(tor.changed(now.revision, Seconds(1)));
      if (changed) now = *changed;
    }
    return now;
  }
  TorStatus settled(TorPhase phase) {
    return settled(*tor_, [phase](const TorStatus& status) { return status.phase == phase; });
  }
  TorStatus failing(errc code) {
    return settled(*tor_, [code](const TorStatus& status) { return status.error == code; });
  }
  std::string closed() const {
    std::ifstream in(scratch_ / "closed");
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  test::Scratch scratch_;
  Runtime runtime_;
  TorOptions options_;
  std::unique_ptr<TorController> tor_;
  Background run_;
};

TEST_F(TorControllerTest, IsUpWithAllThreeAndNotBefore) {
  behave(R"({"bootstrap": 99})");
  start();
  auto status = settled(*tor_, [](const TorStatus& now) { return now.bootstrap == 99; });
  EXPECT_EQ(status.phase, TorPhase::bootstrapping);
  EXPECT_EQ(status.summary, "step 99");
  behave(R"({"bootstrap": 100, "established": false})");
  status = settled(*tor_, [](const TorStatus& now) { return now.bootstrap == 100; });
  EXPECT_EQ(status.phase, TorPhase::bootstrapping);
  behave("{}");
  status = settled(TorPhase::up);
  EXPECT_FALSE(status.error);
  EXPECT_EQ(status.version, "0.4.9.11");
  EXPECT_GT(status.pid, 0);
}

TEST_F(TorControllerTest, KeepsItsFilesToItself) {
  start();
  settled(TorPhase::up);
  struct stat entry {};
  ASSERT_EQ(::stat((options_.directory + "/data").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0700u);
  ASSERT_EQ(::stat((options_.directory + "/torrc").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0600u);
}

TEST_F(TorControllerTest, MaintenanceAndStopAreWishesThatNothingElseChanges) {
  start();
  settled(TorPhase::up);
  behave(R"({"events": ["NETWORK_LIVENESS UP"]})");
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::maintenance)));
  EXPECT_EQ(settled(TorPhase::maintenance).wish, TorWish::maintenance);
  stop();
  start();  // D-087: another daemon, the same wish
  EXPECT_EQ(settled(TorPhase::maintenance).wish, TorWish::maintenance);
  int pid = tor_->status().pid;
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
  EXPECT_EQ(settled(TorPhase::stopped).pid, 0);
  EXPECT_FALSE(ProcessIdentity::of(pid));
  stop();
  start();
  EXPECT_EQ(settled(TorPhase::stopped).pid, 0);
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
  settled(TorPhase::up);
}

/// As whoever follows the phase does, stopped in the middle of what it does about it.
asio::awaitable<void> follow_though_cancelled(TorController& tor, asio::cancellation_signal& signal,
                                              std::optional<errc>& told) {
  co_await asio::this_coro::throw_if_cancelled(false);
  signal.emit(asio::cancellation_type::terminal);
  auto changed = co_await tor.changed(tor.status().revision);
  told = changed ? errc::internal : changed.error().code();
}

TEST_F(TorControllerTest, WhoWasCancelledBeforeDoesNotWaitForAChange) {
  start();
  settled(TorPhase::up);
  asio::cancellation_signal signal;
  std::optional<errc> told;
  asio::co_spawn(runtime_.loop(), follow_though_cancelled(*tor_, signal, told),
                 asio::bind_cancellation_slot(signal.slot(), asio::detached));
  runtime_.settle();
  EXPECT_EQ(told, errc::cancelled);
  // Should it wait after all.
  (void)runtime_.wait(tor_->wish(TorWish::maintenance));
  settled(TorPhase::maintenance);
}

TEST_F(TorControllerTest, IsAdoptedByTheNextOne) {
  start();
  int pid = settled(TorPhase::up).pid;
  stop();
  ASSERT_EQ(::kill(pid, 0), 0);
  tor_ = std::make_unique<TorController>(runtime_, options_);
  auto seen = runtime_.wait(tor_->look());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->phase, TorPhase::up) << "before it is adopted";
  run_ = runtime_.spawn(tor_->run());
  auto status = settled(*tor_, [](const TorStatus& now) { return now.adopted; });
  EXPECT_EQ(status.pid, pid);
  EXPECT_EQ(status.phase, TorPhase::up);
}

TEST_F(TorControllerTest, AnotherConfigurationIsStartedAnew) {
  start();
  int pid = settled(TorPhase::up).pid;
  stop();
  options_.extra = {"MaxCircuitDirtiness 300"};
  start();
  EXPECT_NE(settled(TorPhase::up).pid, pid);
}

TEST_F(TorControllerTest, OneWhoseRecordWasLostIsNotStartedTwice) {
  start();
  int pid = settled(TorPhase::up).pid;
  stop();
  std::filesystem::remove(options_.children + "/tor.json");
  start();
  settled(TorPhase::up);
  ::kill(pid, SIGKILL);  // the fake does not lock its directory as tor does
}

TEST_F(TorControllerTest, ADeathIsToldAtOnceAndMended) {
  start();
  int pid = settled(TorPhase::up).pid;
  auto before = std::chrono::steady_clock::now();
  ::kill(pid, SIGKILL);
  auto status = settled(*tor_, [](const TorStatus& now) { return now.phase != TorPhase::up; });
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4));
  EXPECT_FALSE(status.circuit_established);
  status = settled(TorPhase::up);
  EXPECT_NE(status.pid, pid);
  EXPECT_EQ(status.restarts, 1);
}

TEST_F(TorControllerTest, EveryFailureHasItsNameAndARemedy) {
  struct Case {
    std::string behaviour;
    errc code;
  };
  const Case cases[] = {
      {R"({"exit": "[err] Reading config failed--see warnings above."})", errc::tor_config_refused},
      {R"({"exit": "[warn] Could not bind to 10.9.0.1:9040: Address already in use. Is Tor already running?"})",
       errc::tor_port_taken},
      {R"({"exit": "[warn] /x is not owned by this user (root, 0) but by nobody (65534)."})", errc::tor_directory},
      {R"({"exit": "[warn] Error writing to x: No space left on device"})", errc::disk_full},
      {R"({"exit": "what"})", errc::tor_died},
      {R"({"version": "0.4.6.10"})", errc::tor_too_old},
      {R"({"wrong_cookie": true})", errc::tor_authentication},
      {R"({"setconf": "553 Unable to set option: Failed to bind one of the listener ports."})", errc::tor_port_taken},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.behaviour);
    behave(one.behaviour);
    start();
    auto status = failing(one.code);
    EXPECT_EQ(status.phase, TorPhase::failed);
    EXPECT_FALSE(status.reason.empty());
    if (one.code != errc::tor_died) {
      EXPECT_FALSE(status.remedy.empty());
    }
    behave("{}");
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
    settled(TorPhase::stopped);
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
    EXPECT_FALSE(settled(TorPhase::up).error) << "it heals";
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
    settled(TorPhase::stopped);
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
    stop();
  }
}

TEST_F(TorControllerTest, WithoutAProgramItSaysWhatToInstall) {
  options_.program = scratch_ / "nothing";
  start();
  auto status = failing(errc::tor_missing);
  EXPECT_NE(status.remedy.find("apt install tor"), status.remedy.npos);
  EXPECT_EQ(runtime_.wait(tor_->circuits()).error().code(), errc::tor_unavailable);
  std::filesystem::copy_file(scratch_ / "tor", scratch_ / "nothing");
  EXPECT_FALSE(settled(TorPhase::up).error) << "found without anybody's help (D-088)";
}

TEST_F(TorControllerTest, ARestAfterManyFailuresHidesNoCause) {
  auto rests = [](const TorStatus& now) { return now.reason.find("it rests until 2") != now.reason.npos; };
  auto begin = [&](const std::string& behaviour) {
    behave(behaviour);
    start();
    auto status = settled(*tor_, rests);
    EXPECT_EQ(status.phase, TorPhase::failed);
    return status;
  };
  auto end = [&] {
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
    settled(TorPhase::stopped);
    ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
    stop();
  };
  auto status = begin(R"({"exit": "[err] Reading config failed--see warnings above."})");
  EXPECT_EQ(status.error, errc::tor_config_refused);
  EXPECT_NE(status.reason.find("Reading config failed"), status.reason.npos) << status.reason;
  EXPECT_NE(status.remedy.find("tor section"), status.remedy.npos) << status.remedy;
  end();
  status = begin(R"({"exit": "what"})");
  EXPECT_EQ(status.error, errc::tor_breaker);
  EXPECT_NE(status.reason.find("what"), status.reason.npos) << status.reason;
  // A wish ends the rest.
  behave("{}");
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
  EXPECT_FALSE(settled(TorPhase::up).error);
}

TEST_F(TorControllerTest, OneThatEndsAgainAndAgainRestsWithItsCause) {
  start();
  settled(TorPhase::up);
  behave(R"({"exit": "[warn] Could not bind to 10.9.0.1:9040: Address already in use. Is Tor already running?"})");
  ::kill(tor_->status().pid, SIGKILL);
  auto status = settled(*tor_, [](const TorStatus& now) { return now.reason.find("rests until") != now.reason.npos; });
  EXPECT_EQ(status.error, errc::tor_port_taken);
  EXPECT_NE(status.reason.find("five times within a minute"), status.reason.npos) << status.reason;
  EXPECT_NE(status.remedy.find("tor.trans_port"), status.remedy.npos);
  behave("{}");
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
  EXPECT_FALSE(settled(TorPhase::up).error);
}

TEST_F(TorControllerTest, GarbageAndSilenceOnTheControlSocketAreSurvived) {
  start();
  settled(TorPhase::up);
  for (const char* behaviour : {R"({"garbage": true})", R"({"silent": true})"}) {
    SCOPED_TRACE(behaviour);
    behave(behaviour);
    EXPECT_FALSE(runtime_.wait(tor_->traffic()));
    settled(*tor_, [](const TorStatus& now) { return now.phase != TorPhase::up; });
    behave("{}");
    settled(TorPhase::up);
  }
}

TEST_F(TorControllerTest, OneThatOffersOnlyTheCookieItselfIsControlledToo) {
  behave(R"({"methods": "COOKIE"})");
  start();
  EXPECT_FALSE(settled(TorPhase::up).error);
}

TEST_F(TorControllerTest, LosingItsCircuitsEndsUpAtOnce) {
  start();
  settled(TorPhase::up);
  behave(R"({"established": false, "later": ["STATUS_CLIENT NOTICE CIRCUIT_NOT_ESTABLISHED REASON=CLOCK_JUMPED"]})");
  ASSERT_TRUE(runtime_.wait(tor_->traffic()));
  auto status = settled(TorPhase::bootstrapping);
  EXPECT_EQ(status.reason, "no circuit: CLOCK_JUMPED");
  EXPECT_FALSE(status.circuit_established || status.probe_answered);
  behave("{}");
  EXPECT_FALSE(settled(TorPhase::up).error);
}

/// A port that nothing comes from.
class SilentPort {
 public:
  SilentPort() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    endpoint = Endpoint(Address::from_v4(INADDR_LOOPBACK), ntohs(at.sin_port));
  }
  ~SilentPort() { ::close(fd_); }
  SilentPort(const SilentPort&) = delete;
  SilentPort& operator=(const SilentPort&) = delete;
  /// Whether the probe's question has come.
  bool asked() const {
    pollfd one{fd_, POLLIN, 0};
    return ::poll(&one, 1, 0) == 1;
  }
  Endpoint endpoint;

 private:
  int fd_;
};

TEST_F(TorControllerTest, AProbeDoesNotOutliveTheTorItAsks) {
  SilentPort port;
  options_.dns = {port.endpoint};
  options_.probe_name = "www.example.org";
  start();
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!port.asked() && std::chrono::steady_clock::now() < limit)
    runtime_.loop().run_one_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(port.asked());
  const int pid = tor_->status().pid;
  ASSERT_GT(pid, 0);
  const auto before = std::chrono::steady_clock::now();
  ::kill(pid, SIGKILL);
  // What comes next is looked at only after the probe has ended.
  settled(*tor_, [pid](const TorStatus& now) { return now.pid != pid && now.pid != 0; });
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(8)) << "a probe takes ten";
}

TEST_F(TorControllerTest, ProgressEndsWithTheTorThatMadeIt) {
  start();
  EXPECT_EQ(settled(TorPhase::up).bootstrap, 100);
  behave(R"({"mute": true})");
  ::kill(tor_->status().pid, SIGKILL);
  for (TorPhase phase : {TorPhase::failed, TorPhase::launching}) {
    auto status = settled(phase);
    EXPECT_EQ(status.bootstrap, 0) << name(phase);
    EXPECT_EQ(status.summary, "");
    EXPECT_FALSE(status.network_live);
  }
  behave("{}");
  EXPECT_EQ(settled(TorPhase::up).bootstrap, 100);
}

TEST_F(TorControllerTest, AWrongClockIsNamed) {
  behave(R"({"bootstrap": 10, "events": ["STATUS_GENERAL WARN CLOCK_SKEW SKEW=-86400 SOURCE=OR:1.2.3.4:9001"]})");
  start();
  failing(errc::tor_clock_skewed);
  auto status = settled(TorPhase::bootstrapping);
  EXPECT_EQ(status.error, errc::tor_clock_skewed);
  EXPECT_NE(status.reason.find("-86400"), status.reason.npos);
}

TEST_F(TorControllerTest, AWarningEndsWithItsCause) {
  behave(
      R"({"recommended": "obsolete", "events": ["STATUS_GENERAL WARN CLOCK_SKEW SKEW=-300 SOURCE=OR:1.2.3.4:9001"]})");
  start();
  auto both = [](const TorStatus& now) {
    return now.warning.find("obsolete") != now.warning.npos && now.warning.find("-300") != now.warning.npos;
  };
  settled(*tor_, both);
  // The clock is set, which tor notices; asked again for its version, it has nothing to say.
  behave(R"({"events": ["STATUS_GENERAL WARN CLOCK_SKEW SKEW=-300 SOURCE=OR:1.2.3.4:9001",
                        "STATUS_GENERAL NOTICE CLOCK_JUMPED TIME=300"]})");
  ::kill(tor_->status().pid, SIGKILL);
  settled(*tor_, [](const TorStatus& now) { return now.phase == TorPhase::up && now.warning.empty(); });
}

TEST_F(TorControllerTest, ABootstrapThatStandsStillIsCalledStuck) {
  options_.patience = Seconds(1);
  behave(R"({"bootstrap": 40})");
  start();
  auto status = failing(errc::tor_stuck);
  EXPECT_EQ(status.phase, TorPhase::bootstrapping);
  EXPECT_NE(status.reason.find("40 %"), status.reason.npos);
  EXPECT_NE(status.remedy.find("bridges"), status.remedy.npos);
}

TEST_F(TorControllerTest, OneThatIsSlowToBeginHasThePatienceThatIsConfigured) {
  options_.patience = Seconds(1);
  behave(R"({"mute": true})");
  start();
  auto status = failing(errc::tor_unavailable);
  EXPECT_NE(status.reason.find("not ready in time"), status.reason.npos) << status.reason;
  EXPECT_NE(status.remedy.find("tor.patience"), status.remedy.npos);
  behave("{}");
  EXPECT_FALSE(settled(TorPhase::up).error);
}

TEST_F(TorControllerTest, StopDoesNotWaitForOneThatIsSlowToBegin) {
  options_.patience = Seconds(3600);
  behave(R"({"mute": true})");
  start();
  // It runs, and does not answer.
  settled(*tor_, [this](const TorStatus&) { return std::filesystem::exists(options_.children + "/tor.json"); });
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
  settled(TorPhase::stopped);
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
  settled(*tor_, [](const TorStatus& now) { return now.phase == TorPhase::launching; });
  behave("{}");
  EXPECT_FALSE(settled(TorPhase::up).error);
}

TEST_F(TorControllerTest, AnEndDoesNotWaitForOneThatIsSlowToBegin) {
  options_.patience = Seconds(3600);
  behave(R"({"mute": true})");
  // At whatever moment of the launch the end comes.
  for (int turns = 0; turns < 40; ++turns) {
    TorController tor(runtime_, options_);
    bool ended = false;
    auto run = [&]() -> Task<void> {
      (void)co_await tor.run(TorWish::up);
      ended = true;
      co_return Result<void>();
    };
    Background running = runtime_.spawn(run());
    boost::asio::io_context& loop = runtime_.loop();
    loop.restart();
    for (int turn = 0; turn < turns; ++turn) loop.run_one_for(std::chrono::milliseconds(1));
    running.stop();
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!ended && std::chrono::steady_clock::now() < limit) {
      loop.restart();
      loop.run_one_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(ended) << "after " << turns << " turns";
  }
  behave("{}");
}

TEST_F(TorControllerTest, OneThatHasUsedUpItsDataLimitIsLeftAsleep) {
  options_.data_limit = "500 GBytes";
  start();
  const int pid = settled(TorPhase::up).pid;
  behave(R"({"hibernating": "hard", "established": false,
             "later": ["STATUS_CLIENT NOTICE CIRCUIT_NOT_ESTABLISHED REASON=HIBERNATION"]})");
  ASSERT_TRUE(runtime_.wait(tor_->traffic()));
  auto status = failing(errc::tor_data_limit);
  EXPECT_NE(status.phase, TorPhase::up);
  EXPECT_NE(status.reason.find("500 GBytes"), std::string::npos) << status.reason;
  EXPECT_NE(status.reason.find("until 2027-01-01 00:00:00 UTC"), std::string::npos) << status.reason;
  EXPECT_NE(status.remedy.find("tor.data_limit"), std::string::npos);
  // It is the same process: a new one would sleep, too.
  behave(R"({"later": ["STATUS_CLIENT NOTICE CIRCUIT_ESTABLISHED"]})");
  ASSERT_TRUE(runtime_.wait(tor_->traffic()));
  EXPECT_EQ(settled(TorPhase::up).pid, pid);
  EXPECT_EQ(tor_->status().restarts, 0);
}

TEST_F(TorControllerTest, ALostCircuitEndsUp) {
  start();
  settled(TorPhase::up);
  behave(R"({"established": false})");
  ::kill(tor_->status().pid, 0);
  stop();
  start();
  EXPECT_EQ(settled(TorPhase::bootstrapping).circuit_established, false);
}

TEST_F(TorControllerTest, OneDevicesCircuitsAreClosedAndNobodyElses) {
  behave(
      R"({"circuits": ["3 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa", "4 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa",
                          "5 BUILT PURPOSE=GENERAL"],
             "events": ["STREAM 1 NEW 0 x.test:80 SOURCE_ADDR=10.9.0.2:1000", "CIRC 3 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa",
                        "CIRC 4 BUILT PURPOSE=CONFLUX_LINKED CONFLUX_ID=aa", "CIRC 5 BUILT",
                        "STREAM 1 SENTCONNECT 3 x.test:80", "STREAM 2 NEW 0 x.test:80 SOURCE_ADDR=10.9.0.3:1000",
                        "STREAM 2 SENTCONNECT 5 x.test:80"]})");
  start();
  settled(TorPhase::up);
  auto all = runtime_.wait(tor_->circuits());
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ(all->front().sources, std::vector<Address>{Address::parse("10.9.0.2").value()});
  EXPECT_EQ(runtime_.wait(tor_->close_circuits(Address::parse("10.9.0.2").value()))->count, 2);
  EXPECT_EQ(closed(),
            "SIGNAL NEWNYM\nCLOSESTREAM 1 1\nCLOSECIRCUIT 3\nCLOSECIRCUIT 3\nCLOSECIRCUIT 4\nCLOSECIRCUIT 4\n");
  auto nobodys = runtime_.wait(tor_->close_circuits(Address::parse("10.9.0.9").value()));
  ASSERT_TRUE(nobodys);
  EXPECT_EQ(nobodys->count, 0);
  EXPECT_TRUE(nobodys->complete);
  EXPECT_EQ(runtime_.wait(tor_->traffic())->guards, std::vector<std::string>{"guard1 up"});
}

/// What a daemon finds that was not there when a circuit got its streams: one with a stream, and one without.
class CircuitsFromBefore : public TorControllerTest {
 protected:
  void find(const std::string& more = "") {
    behave(R"({"circuits": ["3 BUILT PURPOSE=GENERAL", "4 BUILT PURPOSE=GENERAL"],
               "streams": ["1 SUCCEEDED 3 x.test:80"])" +
           more + "}");
    start();
    settled(TorPhase::up);
  }
  Result<ClosedCircuits> close() { return runtime_.wait(tor_->close_circuits(device_)); }
  const Address device_ = Address::parse("10.9.0.2").value();
};

TEST_F(CircuitsFromBefore, AreBarredAndInDoubtUntilTheyAreGone) {
  find();
  EXPECT_EQ(closed(), "SIGNAL NEWNYM\n") << "no stream of anybody comes on them any more";
  auto ended = close();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->count, 0);
  EXPECT_FALSE(ended->complete) << "3 may be its";
  EXPECT_EQ(runtime_.wait(tor_->new_identity(device_)).value(), 0);
  EXPECT_EQ(closed(), "SIGNAL NEWNYM\n") << "nor is any closed: it may be somebody else's";
  // The control connection is lost, and with it what was known.
  behave(R"({"garbage": true})");
  (void)runtime_.wait(tor_->traffic());
  EXPECT_EQ(close().error().code(), errc::tor_unavailable);
  behave(R"({"circuits": ["4 BUILT PURPOSE=GENERAL"], "events": ["STREAM 2 NEW 0 x.test:80 SOURCE_ADDR=10.9.0.2:1",
              "STREAM 2 SENTCONNECT 4 x.test:80"]})");
  // Up it may be called until the loss is noticed.
  const std::string twice = "SIGNAL NEWNYM\nSIGNAL NEWNYM\n";
  settled(*tor_, [&](const TorStatus& now) { return now.phase == TorPhase::up && closed() == twice; });
  EXPECT_EQ(runtime_.wait(tor_->new_identity(device_)).value(), 1);
  ended = close();
  ASSERT_TRUE(ended);
  EXPECT_TRUE(ended->complete) << "what is there without a stream has nobody's";
}

TEST_F(CircuitsFromBefore, AStreamThatComesLaterCountsToo) {
  // It waited for a circuit when the daemon came.
  behave(R"({"circuits": ["4 BUILT PURPOSE=GENERAL"], "streams": ["1 NEW 0 x.test:80"],
             "events": ["STREAM 7 NEW 0 y.test:80 SOURCE_ADDR=(Tor_internal):0 PURPOSE=DIR_FETCH",
                        "STREAM 7 SENTCONNECT 4 y.test:80", "STREAM 1 SENTCONNECT 4 x.test:80"]})");
  start();
  settled(TorPhase::up);
  EXPECT_FALSE(close()->complete);
}

TEST_F(CircuitsFromBefore, TorsOwnStreamsAreNoDevices) {
  behave(R"({"circuits": ["4 BUILT PURPOSE=GENERAL"],
             "events": ["STREAM 7 NEW 0 y.test:80 SOURCE_ADDR=(Tor_internal):0 PURPOSE=DIR_FETCH",
                        "STREAM 7 SENTCONNECT 4 y.test:80"]})");
  start();
  settled(TorPhase::up);
  EXPECT_TRUE(close()->complete);
}

TEST_F(CircuitsFromBefore, AreNotBarredBeforeTorSaysSo) {
  find(R"(, "rate_limited": true)");
  EXPECT_FALSE(close()->complete);
  std::optional<Result<int>> told;
  auto ask = [&]() -> Task<void> {
    auto closed = co_await tor_->new_identity(device_);
    told = std::move(closed);
    co_return Result<void>();
  };
  Background asking = runtime_.spawn(ask());
  runtime_.settle();
  EXPECT_FALSE(told) << "not before what the device opens next is on circuits it has never used";
}

TEST_F(CircuitsFromBefore, OfAStoppedTorThereAreNone) {
  start();
  settled(TorPhase::up);
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
  settled(TorPhase::stopped);
  ASSERT_TRUE(close());
  EXPECT_TRUE(close()->complete);
}

/// A tor of a service manager, whose part the test plays.
class TorServiceTest : public TorControllerTest {
 protected:
  TorServiceTest() {
    options_.service = scratch_ / "service";
    std::filesystem::create_directories(options_.service + "/config");
    EXPECT_TRUE(replace_file(scratch_ / "unit", "ControlSocket \"" + options_.service +
                                                    "/control\"\nCookieAuthFile \"" + options_.service +
                                                    "/cookie\"\nDisableNetwork 1\n"));
  }
  ~TorServiceTest() override { end_unit(); }
  int begin_unit() {
    unit_ = ::fork();
    if (unit_ == 0) {
      std::string program = options_.program, unit = scratch_ / "unit";
      ::execl(program.c_str(), program.c_str(), "-f", unit.c_str(), nullptr);
      ::_exit(127);
    }
    return unit_;
  }
  /// Waits until it is gone: by our signal, or by itself.
  void end_unit(int number = SIGKILL) {
    if (unit_ == 0) return;
    if (number != 0) ::kill(unit_, number);
    ::waitpid(unit_, nullptr, 0);
    unit_ = 0;
  }
  bool runs() const { return unit_ != 0 && ::waitpid(unit_, nullptr, WNOHANG) == 0; }
  int unit_ = 0;
};

TEST_F(TorServiceTest, IsWaitedForToldItsConfigurationAndFoundUpByTheNextOne) {
  start();
  auto status = failing(errc::tor_unavailable);
  EXPECT_NE(status.reason.find("tor.launch is external"), status.reason.npos) << status.reason;
  EXPECT_NE(status.remedy.find("systemctl start tornado-tor"), status.remedy.npos);
  int pid = begin_unit();
  status = settled(TorPhase::up);
  EXPECT_EQ(status.pid, pid);
  EXPECT_FALSE(status.error);
  auto left = read_file(options_.service + "/config/torrc");
  ASSERT_TRUE(left);
  EXPECT_EQ(*left, torrc(options_).value());
  struct stat entry {};
  ASSERT_EQ(::stat((options_.service + "/config/torrc").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0640u);
  stop();
  EXPECT_TRUE(runs());
  tor_ = std::make_unique<TorController>(runtime_, options_);
  EXPECT_EQ(runtime_.wait(tor_->look())->phase, TorPhase::up) << "untouched";
  run_ = runtime_.spawn(tor_->run());
  EXPECT_EQ(settled(TorPhase::up).pid, pid);
}

TEST_F(TorServiceTest, ItsDeathIsToldAndWhatComesBackIsTakenIn) {
  begin_unit();
  start();
  settled(TorPhase::up);
  end_unit();
  auto status = failing(errc::tor_unavailable);
  EXPECT_EQ(status.pid, 0);
  int pid = begin_unit();
  status = settled(TorPhase::up);
  EXPECT_EQ(status.pid, pid);
  EXPECT_EQ(status.restarts, 1);
}

TEST_F(TorServiceTest, NoWishEndsIt) {
  int pid = begin_unit();
  start();
  settled(TorPhase::up);
  for (auto [wish, phase] : {std::pair(TorWish::stopped, TorPhase::stopped), std::pair(TorWish::up, TorPhase::up),
                             std::pair(TorWish::maintenance, TorPhase::maintenance)}) {
    ASSERT_TRUE(runtime_.wait(tor_->wish(wish)));
    settled(phase);
    EXPECT_TRUE(runs());
  }
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::stopped)));
  settled(TorPhase::stopped);
  end_unit();
  stop();
  start();
  EXPECT_FALSE(settled(TorPhase::stopped).error) << "wanted is what is";
  pid = begin_unit();
  ASSERT_TRUE(runtime_.wait(tor_->wish(TorWish::up)));
  EXPECT_EQ(settled(TorPhase::up).pid, pid);
}

TEST_F(TorServiceTest, WhatItRefusesIsSaidInItsWordsAndWhatNeedsAStartGetsOne) {
  begin_unit();
  behave(R"({"loadconf": "552 Invalid config file: Failed to parse/validate config: Unknown option 'X'."})");
  start();
  auto status = failing(errc::tor_config_refused);
  EXPECT_NE(status.reason.find("Unknown option 'X'"), status.reason.npos);
  EXPECT_FALSE(std::filesystem::exists(options_.service + "/config/torrc")) << "its next start would fail";
  EXPECT_TRUE(runs());
  behave(
      R"({"loadconf": "553 Transition not allowed: While Tor is running, changing TestingTorNetwork is not allowed."})");
  failing(errc::tor_unavailable);
  end_unit(0);
  EXPECT_TRUE(std::filesystem::exists(options_.service + "/config/torrc"));
  behave("{}");
  begin_unit();
  EXPECT_FALSE(settled(TorPhase::up).error);
}

}  // namespace
