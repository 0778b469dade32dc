#pragma once

#include <cerrno>
#include <cstring>
#include <string>

#include "base/descriptor.hpp"
#include "tornado/error.hpp"

namespace tornado::inline v1::verify {

/// The error behind `errno`.
inline Error failed(const std::string& what) {
  bool denied = errno == EPERM || errno == EACCES;
  return Error(denied ? errc::permission_denied : errc::backend_failed, what + ": " + std::strerror(errno));
}

}  // namespace tornado::inline v1::verify
