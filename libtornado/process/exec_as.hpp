#pragma once

#include <string>
#include <vector>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// Becomes another program without our privileges (I-30): under `account` with its groups if we are root, else under
/// our own; with no capability left in any set that survives, and none to be gained by programs it starts. Returns only
/// to say why not. Errors: not_found (the account), permission_denied, backend_failed. For the process of a launcher:
/// one thread, before anything else.
Error exec_as(const std::string& account, const std::vector<std::string>& argv);

}  // namespace tornado::inline v1
