#include "tornado/supervisor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "process/child.hpp"
#include "support/test_process.hpp"
#include "tornado/manual_clock.hpp"

using namespace tornado;

namespace {

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() : runtime_(RuntimeOptions().clock(clock_)) {
    char name[] = "/tmp/supervisor.XXXXXX";
    directory_ = ::mkdtemp(name);
    begin();
  }
  ~SupervisorTest() override {
    for (const char* name : {"a", "b"}) (void)runtime_.wait(supervisor_->stop(name));
    supervisor_.reset();
    // A shell's own child, such as touch, may outlive it for a moment and still make its file.
    std::error_code bad;
    do std::filesystem::remove_all(directory_, bad);
    while (bad == std::errc::directory_not_empty);
  }

  void begin() { supervisor_ = std::make_unique<Supervisor>(runtime_, directory_); }

  /// A child that runs a shell script; it counts as ready once it has made `<name>.ready`.
  ChildSpec script(const std::string& name, const std::string& text) {
    ChildSpec spec;
    spec.name = name;
    spec.argv = {"/bin/sh", "-c", text};
    spec.environment = {"PATH=/usr/bin:/bin", "READY=" + directory_ + "/" + name + ".ready"};
    spec.ready_within = Seconds(10);
    spec.check_every = Seconds(1);
    std::string ready = directory_ + "/" + name + ".ready";
    spec.probe = [ready]() -> Task<void> { return probe(ready); };
    return spec;
  }
  static Task<void> probe(std::string ready) {
    if (::access(ready.c_str(), F_OK) != 0) co_return Error(errc::unavailable, "not ready");
    co_return Result<void>();
  }

  Result<void> ensure(ChildSpec spec) { return runtime_.wait(supervisor_->ensure(std::move(spec))); }
  ChildStatus status(const std::string& name) {
    for (const ChildStatus& status : supervisor_->status())
      if (status.name == name) return status;
    return ChildStatus();
  }
  /// Turns the loop until a condition holds. Fails after 20 s.
  void wait_for(const std::function<bool()>& condition) {
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), limit)
          << static_cast<int>(status("a").state) << " " << status("a").reason << " " << status("a").restarts;
      runtime_.settle();
      ::usleep(1000);
    }
  }
  static bool alive(int pid) { return pid > 0 && ProcessIdentity::of(pid).has_value(); }
  std::string file(const std::string& name) const {
    std::ifstream in(directory_ + "/" + name);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }

  ManualClock clock_;
  Runtime runtime_;
  std::string directory_;
  std::unique_ptr<Supervisor> supervisor_;
};

// It is ready only after its last exec: until then its record names the shell that it no longer is.
const std::string stays =
    "[ -p $READY.pipe ] || mkfifo $READY.pipe; exec 3<>$READY.pipe; touch $READY; read -r word <&3";

TEST_F(SupervisorTest, starts_a_child_apart_from_us) {
  int leaked = ::open("/dev/null", O_RDONLY);  // no close-on-exec
  ASSERT_TRUE(ensure(script("a", "ls -l /proc/$$/fd; env; touch $READY; exec sleep 1000")));
  ::close(leaked);
  ChildStatus now = status("a");
  EXPECT_EQ(now.state, ChildState::running);
  EXPECT_FALSE(now.adopted);
  ASSERT_TRUE(alive(now.pid));
  EXPECT_NE(::getsid(now.pid), ::getsid(0));
  EXPECT_NE(::getsid(now.pid), now.pid);
  std::string log = file("a.log");
  EXPECT_NE(log.find("0 -> /dev/null"), log.npos) << log;
  EXPECT_EQ(log.find(" " + std::to_string(leaked) + " -> /dev/null"), log.npos) << log;
  EXPECT_EQ(log.find("HOME="), log.npos) << "only the given environment";
  struct stat entry {};
  for (const char* name : {"/a.log", "/a.json"}) {
    ASSERT_EQ(::stat((directory_ + name).c_str(), &entry), 0);
    EXPECT_EQ(entry.st_mode & 0777, 0600u) << name;
  }
  EXPECT_EQ(ensure(script("a", stays)).error().code(), errc::already_exists);
}

TEST_F(SupervisorTest, stops_a_child_and_forgets_it) {
  ASSERT_TRUE(ensure(script("a", stays)));
  int pid = status("a").pid;
  EXPECT_TRUE(runtime_.wait(supervisor_->stop("a")));
  EXPECT_FALSE(alive(pid));
  EXPECT_TRUE(supervisor_->status().empty());
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/a.json"));
  EXPECT_EQ(runtime_.wait(supervisor_->stop("a")).error().code(), errc::not_found);
}

TEST_F(SupervisorTest, leaves_children_running_and_adopts_them) {
  ASSERT_TRUE(ensure(script("a", stays)));
  int pid = status("a").pid;
  supervisor_.reset();
  ASSERT_TRUE(alive(pid));
  begin();
  ASSERT_TRUE(ensure(script("a", stays)));
  EXPECT_EQ(status("a").pid, pid);
  EXPECT_TRUE(status("a").adopted);
  ::kill(pid, SIGKILL);
  wait_for([&] { return status("a").state == ChildState::backing_off; });
}

TEST_F(SupervisorTest, adopts_a_child_that_became_another_program_after_it_was_ready) {
  ASSERT_TRUE(ensure(script("a", stays + "; exec sleep 1000")));
  int pid = status("a").pid;
  std::ofstream(directory_ + "/a.ready.pipe") << "go on\n";
  wait_for([&] {
    auto record = read_record(directory_ + "/a.json");
    return record && record->executable.ends_with("/sleep");
  });
  supervisor_.reset();
  begin();
  ASSERT_TRUE(ensure(script("a", stays)));
  EXPECT_EQ(status("a").pid, pid);
  EXPECT_TRUE(status("a").adopted);
}

TEST_F(SupervisorTest, leaves_a_child_running_that_was_still_starting) {
  {
    Background starting = runtime_.spawn(supervisor_->ensure(script("a", "sleep 0.3; " + stays)));
    wait_for([&] { return status("a").pid != 0; });
  }
  int pid = status("a").pid;
  supervisor_.reset();
  EXPECT_TRUE(alive(pid));
  begin();
  ASSERT_TRUE(ensure(script("a", stays)));
  EXPECT_EQ(status("a").pid, pid);
}

TEST_F(SupervisorTest, sees_a_death_at_once_and_starts_the_child_again) {
  ChildSpec spec = script("a", stays);
  spec.check_every = Seconds(3600);
  ASSERT_TRUE(ensure(spec));
  int pid = status("a").pid;
  ::kill(pid, SIGKILL);
  wait_for([&] { return status("a").state == ChildState::backing_off; });
  EXPECT_EQ(status("a").pid, 0);
  clock_.advance(std::chrono::milliseconds(199));
  runtime_.settle();
  EXPECT_EQ(status("a").state, ChildState::backing_off);
  clock_.advance(std::chrono::milliseconds(1));
  wait_for([&] { return status("a").state == ChildState::running; });
  EXPECT_NE(status("a").pid, pid);
  EXPECT_EQ(status("a").restarts, 1);
}

TEST_F(SupervisorTest, opens_the_breaker_after_five_deaths_within_a_minute) {
  ASSERT_TRUE(ensure(script("a", "echo tired; " + stays)));
  for (int death = 1; death <= 5; ++death) {
    // The file from its first life makes it ready before it has said anything.
    wait_for([&] { return status("a").state == ChildState::running && file("a.log") == "tired\n"; });
    ::kill(status("a").pid, SIGKILL);
    wait_for([&] { return status("a").restarts == death && status("a").state != ChildState::running; });
    if (death < 5) {
      EXPECT_EQ(status("a").state, ChildState::backing_off);
      clock_.advance(std::chrono::milliseconds(100 << death));
    }
  }
  EXPECT_EQ(status("a").state, ChildState::broken);
  EXPECT_EQ(status("a").reason, "died: tired");
  clock_.advance(Seconds(59));
  runtime_.settle();
  EXPECT_EQ(status("a").state, ChildState::broken);
  clock_.advance(Seconds(1));
  wait_for([&] { return status("a").state == ChildState::running; });
}

TEST_F(SupervisorTest, starts_at_once_a_child_that_rests_if_it_is_told_to_hurry) {
  ASSERT_TRUE(ensure(script("a", stays)));
  int pid = status("a").pid;
  supervisor_->hurry("a");
  supervisor_->hurry("nobody");
  runtime_.settle();
  EXPECT_EQ(status("a").pid, pid) << "one that lives is left alone";
  ::kill(pid, SIGKILL);
  wait_for([&] { return status("a").state == ChildState::backing_off; });
  supervisor_->hurry("a");
  wait_for([&] { return status("a").state == ChildState::running; });
}

TEST_F(SupervisorTest, stops_a_child_that_is_backing_off) {
  ASSERT_TRUE(ensure(script("a", stays)));
  ::kill(status("a").pid, SIGKILL);
  wait_for([&] { return status("a").state == ChildState::backing_off; });
  EXPECT_TRUE(runtime_.wait(supervisor_->stop("a")));
  EXPECT_TRUE(supervisor_->status().empty());
}

TEST_F(SupervisorTest, ends_a_child_that_never_becomes_ready) {
  ChildSpec spec = script("a", "echo pid $$; echo cannot open the device >&2; exec sleep 1000");
  spec.ready_within = Seconds(1);
  auto result = ensure(spec);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), errc::deadline_exceeded);
  EXPECT_NE(result.error().detail().find("cannot open the device"), std::string::npos) << result.error().detail();
  std::istringstream log(file("a.log"));
  std::string word;
  int pid = 0;
  log >> word >> pid;
  ASSERT_GT(pid, 1);
  EXPECT_FALSE(alive(pid));
  EXPECT_EQ(status("a").state, ChildState::stopped);
  EXPECT_TRUE(ensure(script("a", stays))) << "ensure may be called again";
}

TEST_F(SupervisorTest, reports_a_child_that_dies_before_it_is_ready) {
  auto result = ensure(script("a", "echo no such device; exit 3"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), errc::backend_failed);
  EXPECT_NE(result.error().detail().find("no such device"), std::string::npos) << result.error().detail();
}

TEST_F(SupervisorTest, reports_a_program_that_cannot_run) {
  ChildSpec spec = script("a", stays);
  spec.argv = {"/nonexistent/program"};
  EXPECT_EQ(ensure(spec).error().code(), errc::backend_failed);
  spec.argv = {"program"};
  EXPECT_EQ(ensure(spec).error().code(), errc::invalid_argument);
  spec.name = "../a";
  EXPECT_EQ(ensure(spec).error().code(), errc::invalid_argument);
}

TEST_F(SupervisorTest, restarts_a_child_that_stopped_answering) {
  ASSERT_TRUE(ensure(script("a", stays)));
  int pid = status("a").pid;
  std::filesystem::remove(directory_ + "/a.ready");
  wait_for([&] { return status("a").state == ChildState::backing_off; });
  EXPECT_FALSE(alive(pid));
  EXPECT_TRUE(status("a").reason.starts_with("stopped answering")) << status("a").reason;
}

/// A stranger with every part of the record right but one.
class WrongRecord : public SupervisorTest, public ::testing::WithParamInterface<int> {};

TEST_P(WrongRecord, is_neither_adopted_nor_killed) {
  TestProcess stranger({"/bin/sleep", "1000"});
  std::optional<ProcessIdentity> identity;
  wait_for([&] {
    identity = ProcessIdentity::of(stranger.pid());
    return identity && identity->executable.find("sleep") != std::string::npos;
  });
  ProcessIdentity record = *identity;
  if (GetParam() == 0) record.start_time += 1;
  if (GetParam() == 1) record.executable = "/usr/bin/wireguard-go";
  if (GetParam() == 2) record.network_namespace += 1;
  ASSERT_TRUE(write_record(directory_ + "/a.json", record));
  if (GetParam() == 3) std::ofstream(directory_ + "/a.json") << "{\"pid\": " << stranger.pid() << "}";
  if (GetParam() == 4) std::ofstream(directory_ + "/a.json") << "[1e999, garbage";
  ASSERT_TRUE(ensure(script("a", stays)));
  EXPECT_FALSE(status("a").adopted);
  EXPECT_NE(status("a").pid, stranger.pid());
  EXPECT_TRUE(runtime_.wait(supervisor_->stop("a")));
  EXPECT_TRUE(alive(stranger.pid()));
}

INSTANTIATE_TEST_SUITE_P(EveryPart, WrongRecord, ::testing::Range(0, 5));

TEST_F(SupervisorTest, replaces_an_adopted_child_that_does_not_answer) {
  ASSERT_TRUE(ensure(script("a", "sleep 0.05; " + stays)));
  int pid = status("a").pid;
  supervisor_.reset();
  std::filesystem::remove(directory_ + "/a.ready");
  begin();
  ChildSpec spec = script("a", stays);
  spec.ready_within = Seconds(1);
  ASSERT_TRUE(ensure(spec));
  EXPECT_NE(status("a").pid, pid);
  EXPECT_FALSE(status("a").adopted);
  EXPECT_FALSE(alive(pid));
}

TEST_F(SupervisorTest, tells_of_changes) {
  std::uint64_t seen = runtime_.wait(supervisor_->changed(0)).value();
  ASSERT_TRUE(ensure(script("a", stays)));
  EXPECT_GT(runtime_.wait(supervisor_->changed(seen)).value(), seen);
}

TEST_F(SupervisorTest, keeps_logs_small) {
  std::string path = directory_ + "/a.log";
  std::ofstream(path) << std::string(3 << 20, 'x') << "the end\n";
  trim_log(path);
  EXPECT_EQ(std::filesystem::file_size(path), 64u * 1024);
  EXPECT_TRUE(log_tail(path).ends_with("the end"));
}

}  // namespace
