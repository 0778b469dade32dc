#include "process/service_manager.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

namespace tornado::inline v1 {
namespace {

constexpr int first_inherited = 3;

long number(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtol(text, nullptr, 10) : 0;
}

}  // namespace

std::vector<int> inherited_sockets() {
  std::vector<int> out;
  long count = number("LISTEN_PID") == ::getpid() ? std::min(number("LISTEN_FDS"), 16L) : 0;
  for (int fd = first_inherited; fd < first_inherited + count; ++fd) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    out.push_back(fd);
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return out;
}

void notify_service_manager(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || path[0] == '\0') return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::size_t size = std::min(std::strlen(path), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path, size);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  ssize_t sent = ::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), length);
  (void)sent;
  ::close(fd);
}

Task<void> beat_watchdog(Runtime& runtime) {
  const long period = number("WATCHDOG_USEC");
  while (period > 0) {
    notify_service_manager("WATCHDOG=1");
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(std::max(1L, period / 2'000'000)));
    if (!slept) co_return Error(errc::cancelled);
  }
  co_return Result<void>();
}

}  // namespace tornado::inline v1
