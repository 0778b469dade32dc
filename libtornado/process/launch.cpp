#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/descriptor.hpp"
#include "base/try.hpp"
#include "process/child.hpp"

namespace tornado::inline v1 {
namespace {

Error failed(const std::string& what, int error) {
  return Error(errc::backend_failed, what + ": " + std::strerror(error));
}

/// All that the new process needs, prepared before the fork: afterwards only async-signal-safe calls are allowed,
/// because other threads of ours may have held any lock.
struct Prepared {
  std::vector<char*> argv, environment;
  int null_fd, log_fd;
  int say_fd;   // what the process tells us: its pid, then errno if it could not become the program
  int hear_fd;  // a byte: go on; end of file: do not
  int go_fd;    // our end of it, which the process must not keep open for itself
};

void tell(int fd, int value) {
  (void)!::write(fd, &value, sizeof value);
}

[[noreturn]] void become(const Prepared& p) {
  ::close(p.go_fd);
  tell(p.say_fd, ::getpid());
  char go = 0;
  if (::read(p.hear_fd, &go, 1) != 1) ::_exit(126);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  bool ready = ::dup2(p.null_fd, 0) == 0 && ::dup2(p.log_fd, 1) == 1 && ::dup2(p.log_fd, 2) == 2 &&
               ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 && ::chdir("/") == 0;
  if (ready) ::execve(p.argv[0], p.argv.data(), p.environment.data());
  tell(p.say_fd, errno);
  ::_exit(127);
}

/// Forks twice: the one in the middle makes the session and goes, so that the process has no terminal and no parent.
bool fork_away(const Prepared& p) {
  pid_t middle = ::fork();
  if (middle < 0) return false;
  if (middle == 0) {
    ::setsid();
    pid_t last = ::fork();
    if (last == 0) become(p);
    ::_exit(last < 0 ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool hear(int fd, int& value) {
  ssize_t size;
  do size = ::read(fd, &value, sizeof value);
  while (size < 0 && errno == EINTR);
  return size == sizeof value;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

/// Sockets and not pipes: writing to a process that died must not raise SIGPIPE.
Result<void> channel(Descriptor& reader, Descriptor& writer) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return failed("socketpair", errno);
  reader.reset(fds[0]);
  writer.reset(fds[1]);
  return {};
}

/// The record says what the process is going to be: its executable is still ours.
Result<ProcessIdentity> record_ahead(int pid, const Launch& request) {
  auto identity = ProcessIdentity::of(pid);
  if (!identity) return Error(errc::backend_failed, "the new process died before it began");
  std::unique_ptr<char, decltype(&std::free)> path(::realpath(request.argv[0].c_str(), nullptr), std::free);
  if (!path) return failed(request.argv[0], errno);
  identity->executable = path.get();
  TRY_VOID_PLAIN(write_record(request.record_path, *identity));
  return *identity;
}

}  // namespace

Result<ProcessIdentity> launch(const Launch& request) {
  if (::access(request.argv[0].c_str(), X_OK) != 0) return failed(request.argv[0], errno);
  Descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.get() < 0) return failed("/dev/null", errno);
  Descriptor log(
      ::open(request.log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (log.get() < 0 || ::fchmod(log.get(), 0600) != 0) return failed(request.log_path, errno);
  Descriptor from_child, say, hear_end, to_child;
  TRY_VOID_PLAIN(channel(from_child, say));
  TRY_VOID_PLAIN(channel(hear_end, to_child));
  Prepared prepared{
      pointers(request.argv), pointers(request.environment), null.get(), log.get(), say.get(), hear_end.get(),
      to_child.get()};
  if (!fork_away(prepared)) return Error(errc::backend_failed, "cannot fork");
  say.close();
  hear_end.close();
  int pid = 0, error = 0;
  if (!hear(from_child.get(), pid)) return Error(errc::backend_failed, "the new process died before it began");
  TRY_PLAIN(ProcessIdentity identity, record_ahead(pid, request));
  if (::send(to_child.get(), "", 1, MSG_NOSIGNAL) != 1) return failed("starting " + request.argv[0], errno);
  if (hear(from_child.get(), error)) return failed(request.argv[0], error);
  // A script runs under its interpreter: adoption compares with what really runs.
  auto real = ProcessIdentity::of(pid);
  if (real && real->start_time == identity.start_time && !(*real == identity)) {
    TRY_VOID_PLAIN(write_record(request.record_path, *real));
    return *real;
  }
  return identity;
}

}  // namespace tornado::inline v1
