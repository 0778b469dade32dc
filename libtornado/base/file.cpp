#include "base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/descriptor.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

Error failure(const std::string& path) {
  int cause = errno;
  errc code = cause == ENOENT                      ? errc::not_found
              : cause == ENOSPC || cause == EDQUOT ? errc::disk_full
                                                   : errc::store_unavailable;
  return Error(code, path + ": " + std::strerror(cause));
}

std::string parent_of(const std::string& path) {
  auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure(path);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return failure(path);
  std::string content;
  char block[16384];
  for (;;) {
    ssize_t got = ::read(file.get(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(path);
    if (got == 0) return content;
    content.append(block, static_cast<std::size_t>(got));
    if (content.size() > limit)
      return Error(errc::too_large, path + " is larger than " + std::to_string(limit) + " bytes");
  }
}

Result<void> replace_file(const std::string& path, std::string_view content, unsigned mode,
                          std::optional<unsigned> group) {
  std::string temporary = path + ".tmp." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  Descriptor file(::open(temporary.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode));
  if (file.get() < 0) return failure(temporary);
  auto undo = [&](Error why) -> Result<void> {
    ::unlink(temporary.c_str());
    return why;
  };
  if (group && ::fchown(file.get(), static_cast<uid_t>(-1), *group) != 0) return undo(failure(temporary));
  if (::fchmod(file.get(), mode) != 0) return undo(failure(temporary));
  if (auto written = write_all(file.get(), content, temporary); !written) return undo(written.error());
  if (::fsync(file.get()) != 0) return undo(failure(temporary));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return undo(failure(path));
  Descriptor directory(::open(parent_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return failure(path);
  return {};
}

Result<void> make_directory(const std::string& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
    return Error(errc::store_unavailable, path + " is not a directory");
  }
  if (errno != ENOENT) return failure(path);
  TRY_VOID_PLAIN(make_directory(parent_of(path), 0755));
  return ::mkdir(path.c_str(), mode) == 0 ? Result<void>() : failure(path);
}

}  // namespace tornado::inline v1
