#include "process/own_process.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

constexpr int attempts = 20, pause_us = 50'000;

}  // namespace

std::string own_path() {
  char path[4096];
  ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  return std::string(path, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
}

Result<Descriptor> lock_state(const std::string& state_dir, const std::string& runtime_dir) {
  TRY_VOID_PLAIN(make_directory(state_dir, 0700));
  TRY_VOID_PLAIN(make_directory(runtime_dir, 0755));
  Descriptor lock(::open((state_dir + "/lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (!lock) return Error(errc::store_unavailable, state_dir + "/lock: " + std::strerror(errno));
  // A daemon that was killed while it started a child leaves the lock to it for a moment.
  bool locked = false;
  for (int attempt = 0; lock && !locked && attempt < attempts; ++attempt) {
    if (attempt > 0) ::usleep(pause_us);
    locked = ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
  }
  if (!locked) return Error(errc::already_exists, state_dir + " is in use by another tornadod");
  TRY_VOID_PLAIN(replace_file(runtime_dir + "/tornadod.pid", std::to_string(::getpid()) + "\n", 0644));
  return lock;
}

}  // namespace tornado::inline v1
