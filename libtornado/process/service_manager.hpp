#pragma once

#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Listening sockets handed over by the service manager (sd_listen_fds(3)); the variables are taken from the
/// environment, so that children do not see them.
std::vector<int> inherited_sockets();

/// Tells the service manager, if there is one (sd_notify(3)): "READY=1", "WATCHDOG=1", "STOPPING=1", "STATUS=...".
void notify_service_manager(std::string_view state);

/// Tells it twice in a period of its watchdog that the loop turns; returns at once without one.
Task<void> beat_watchdog(Runtime& runtime);

}  // namespace tornado::inline v1
