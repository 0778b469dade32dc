#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "tornado/error.hpp"

namespace tornado::inline v1::verify {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_;
};

/// The error behind `errno`.
inline Error failed(const std::string& what) {
  bool denied = errno == EPERM || errno == EACCES;
  return Error(denied ? errc::permission_denied : errc::backend_failed, what + ": " + std::strerror(errno));
}

}  // namespace tornado::inline v1::verify
