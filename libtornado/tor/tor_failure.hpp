#pragma once

#include <string>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// What a failed start or command of tor was about, from its error and the end of tor's log.
Error tor_failure(const Error& error);

/// What an operator can do about it; empty: nothing but wait. `service`: tor belongs to a service manager.
std::string tor_remedy(errc code, bool service);

}  // namespace tornado::inline v1
