// A tor that a service manager runs (I-30): waited for, told its configuration, never started and never ended by
// signal.
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/try.hpp"
#include "tor/tor_controller_impl.hpp"
#include "tor/tor_failure.hpp"

namespace tornado::inline v1 {
namespace {

/// The torrc for the next start of the unit, readable for the group that the directory belongs to.
Result<void> leave_torrc(const std::string& directory, const std::string& configuration) {
  // Tor may write here: what lies there is not looked at, and nothing is done by name to what we have made.
  struct stat above {};
  if (::lstat(directory.c_str(), &above) != 0 || !S_ISDIR(above.st_mode))
    return Error(errc::not_found, directory + " is no directory");
  return replace_file(directory + "/torrc", configuration, 0640, above.st_gid);
}

/// Some options hold from the start of a process to its end.
bool wants_a_start(const Error& error) {
  return error.detail().find("While Tor is running") != std::string::npos;
}

}  // namespace

/// Gives tor our configuration if it has another: at once where it can change it while it runs, else by its next start,
/// which the unit sees to. What it refuses it gets neither way, and goes on without the network.
Task<void> TorController::Impl::configure() {
  auto leave = [this] { return leave_torrc(options.service + "/config", configuration); };
  TRY(auto told, co_await control->order("GETINFO process/pid"));
  int pid = std::atoi(std::string(told.value("process/pid").value_or("0")).c_str());
  if (served_before != 0 && served_before != pid) ++status.restarts;
  served_before = status.pid = pid;
  TRY(auto mark, co_await control->order("GETCONF ContactInfo"));
  if (configuration.ends_with("ContactInfo " + std::string(mark.value("ContactInfo").value_or("")) + "\n")) {
    (void)co_await runtime.offload(Blocking::file, leave);
    co_return Result<void>();
  }
  auto loaded = co_await control->load(configuration);
  if (!loaded && !wants_a_start(loaded.error())) {
    (void)co_await control->ask("SETCONF DisableNetwork=1");
    co_return tor_failure(loaded.error());
  }
  auto left = co_await runtime.offload(Blocking::file, leave);
  if (loaded) {
    if (!left) runtime.log().write(LogLevel::warning, "torrc_not_left", {{"reason", left.error().detail()}});
    co_return Result<void>();
  }
  if (!left) co_return Error(errc::tor_directory, options.service + ": " + left.error().detail());
  (void)co_await control->ask("SIGNAL HALT");
  co_return Error(errc::tor_unavailable, "tor is started anew: " + loaded.error().detail());
}

/// Its death is told at once, as that of a child.
void TorController::Impl::service_ended() {
  status.pid = 0;
  forget_progress();
  if (status.wish == TorWish::stopped) return;
  failed(Error(errc::tor_unavailable, "tor has ended; tor.launch is external: is its service running?"));
}

/// The unit keeps its process: off the network, with its ports closed, is as good as gone.
Task<void> TorController::Impl::rest_service() {
  auto reached = co_await ensure_control();
  if (reached) co_return co_await ensure_network(false);
  status.pid = 0;
  // Nobody runs, or it begins anew, which it does without the network.
  if (reached.error().code() == errc::tor_unavailable) co_return Result<void>();
  co_return reached;
}

}  // namespace tornado::inline v1
