#include "process/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/cancellation.hpp"
#include "base/try.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t log_limit = 1 << 20;
constexpr std::size_t log_kept = 64 * 1024;
constexpr std::size_t tail_size = 500;

std::string read_link(const std::string& path) {
  char text[4096];
  ssize_t size = ::readlink(path.c_str(), text, sizeof text);
  return size < 0 ? std::string() : std::string(text, static_cast<std::size_t>(size));
}

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Fields after the name, which stands in parentheses and may hold anything.
struct Stat {
  char state = 0;
  std::uint64_t start_time = 0;
};

std::optional<Stat> stat_of(int pid) {
  std::string text = read_all("/proc/" + std::to_string(pid) + "/stat");
  std::size_t after_name = text.rfind(')');
  if (after_name == text.npos) return std::nullopt;
  std::istringstream fields(text.substr(after_name + 1));
  Stat out;
  fields >> out.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> out.start_time;
  if (!fields) return std::nullopt;
  return out;
}

Error failed(const std::string& what) {
  return Error(errc::backend_failed, what + ": " + std::strerror(errno));
}

std::string end_of(const std::string& path, std::size_t most) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  auto size = static_cast<std::size_t>(file.tellg());
  std::size_t begin = size > most ? size - most : 0;
  std::string text(size - begin, '\0');
  file.seekg(static_cast<std::streamoff>(begin));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

}  // namespace

std::optional<ProcessIdentity> ProcessIdentity::of(int pid) {
  auto stat = stat_of(pid);
  if (!stat || stat->state == 'Z' || stat->state == 'X') return std::nullopt;
  std::string directory = "/proc/" + std::to_string(pid);
  ProcessIdentity out;
  out.pid = pid;
  out.start_time = stat->start_time;
  out.executable = read_link(directory + "/exe");
  constexpr std::string_view deleted = " (deleted)";
  if (out.executable.ends_with(deleted)) out.executable.resize(out.executable.size() - deleted.size());
  struct stat net {};
  if (out.executable.empty() || ::stat((directory + "/ns/net").c_str(), &net) != 0) return std::nullopt;
  out.network_namespace = net.st_ino;
  return out;
}

Result<void> write_record(const std::string& path, const ProcessIdentity& identity) {
  boost::json::object record{{"pid", identity.pid},
                             {"start_time", identity.start_time},
                             {"executable", identity.executable},
                             {"network_namespace", identity.network_namespace}};
  std::string text = boost::json::serialize(record) + "\n", temporary = path + ".tmp";
  int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return failed(temporary);
  bool good = ::fchmod(fd, 0600) == 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
              ::fsync(fd) == 0;
  good = ::close(fd) == 0 && good;
  if (!good || ::rename(temporary.c_str(), path.c_str()) != 0) return failed(path);
  int directory = ::open(path.substr(0, path.rfind('/') + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    (void)::fsync(directory);
    ::close(directory);
  }
  return {};
}

Result<ProcessIdentity> read_record(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return Error(errc::not_found, path);
  boost::system::error_code bad;
  auto parsed = boost::json::parse(read_all(path), bad);
  const auto* record = bad ? nullptr : parsed.if_object();
  ProcessIdentity out;
  auto number = [&](const char* key, auto& value) {
    const auto* field = record != nullptr ? record->if_contains(key) : nullptr;
    boost::system::error_code wrong;
    if (field != nullptr) value = field->to_number<std::remove_reference_t<decltype(value)>>(wrong);
    return field != nullptr && !wrong;
  };
  bool good = number("pid", out.pid) && number("start_time", out.start_time) &&
              number("network_namespace", out.network_namespace) && out.pid > 1;
  const auto* executable = good ? record->if_contains("executable") : nullptr;
  if (executable == nullptr || !executable->is_string()) return Error(errc::data_loss, path + " is not a record");
  out.executable = executable->as_string();
  return out;
}

std::string log_tail(const std::string& path) {
  std::string text = end_of(path, tail_size), out;
  for (char c : text) {
    bool printable = c >= ' ' && c <= '~';
    if (printable || (!out.empty() && out.back() != ' ')) out += printable ? c : ' ';
  }
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

void trim_log(const std::string& path) {
  struct stat now {};
  if (::stat(path.c_str(), &now) != 0 || static_cast<std::size_t>(now.st_size) <= log_limit) return;
  std::string kept = end_of(path, log_kept);
  int fd = ::open(path.c_str(), O_WRONLY | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  (void)!::write(fd, kept.data(), kept.size());
  ::close(fd);
}

struct Process::Impl {
  Impl(Runtime& runtime, ProcessIdentity identity_, int fd)
      : identity(std::move(identity_)), descriptor(runtime.loop(), fd), timer(runtime.loop()) {}
  ProcessIdentity identity;
  asio::posix::stream_descriptor descriptor;  // a pidfd: readable once the process has ended
  asio::steady_timer timer;
};

Process::Process(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Process::~Process() = default;

Result<std::unique_ptr<Process>> Process::open(Runtime& runtime, const ProcessIdentity& identity) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0));
  if (fd < 0) return Error(errc::not_found, "no such process");
  // Only now, that the pid cannot change hands unnoticed.
  auto now = ProcessIdentity::of(identity.pid);
  if (!now || now->start_time != identity.start_time) {
    ::close(fd);
    return Error(errc::not_found, "another process has this pid");
  }
  (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return std::unique_ptr<Process>(new Process(std::make_unique<Impl>(runtime, std::move(*now), fd)));
}

const ProcessIdentity& Process::identity() const noexcept {
  return impl_->identity;
}

bool Process::ended() const {
  pollfd poll{impl_->descriptor.native_handle(), POLLIN, 0};
  return ::poll(&poll, 1, 0) == 1;
}

void Process::signal(int number) {
  (void)::syscall(SYS_pidfd_send_signal, impl_->descriptor.native_handle(), number, nullptr, 0);
}

void Process::wake() {
  impl_->descriptor.cancel();
}

asio::awaitable<bool> Process::ends_within(std::chrono::milliseconds time) {
  if (ended()) co_return true;
  auto waiting = std::make_shared<bool>(true);
  impl_->timer.expires_after(time);
  impl_->timer.async_wait([waiting, impl = impl_.get()](const boost::system::error_code& ec) {
    if (!ec && *waiting) impl->descriptor.cancel();
  });
  co_await impl_->descriptor.async_wait(asio::posix::descriptor_base::wait_read, asio::as_tuple(asio::use_awaitable));
  *waiting = false;
  impl_->timer.cancel();
  co_return ended();
}

asio::awaitable<bool> Process::finish(std::chrono::milliseconds grace) {
  signal(SIGTERM);
  bool gone = co_await ends_within(grace);
  bool cancelled = co_await is_cancelled();
  if (gone || cancelled) co_return gone;
  signal(SIGKILL);
  co_return co_await ends_within(grace);
}

}  // namespace tornado::inline v1
