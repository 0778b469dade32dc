#pragma once

#include <string>

#include "base/descriptor.hpp"
#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// The program of this process, to start it again as another.
std::string own_path();

/// One daemon per state directory: the lock lives as long as the descriptor. Makes both directories, and writes
/// `tornadod.pid` into the second. Errors: already_exists (another daemon has the lock), those of base/file.hpp.
Result<Descriptor> lock_state(const std::string& state_dir, const std::string& runtime_dir);

}  // namespace tornado::inline v1
