#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A child process that a gateway needs and that outlives it.
class ChildSpec {
 public:
  ChildSpec() {}
  std::string name;                      ///< unique, also the name of its record: "wireguard-vpn"; [a-z0-9._-]
  std::vector<std::string> argv;         ///< absolute path first
  std::vector<std::string> environment;  ///< the whole of it, "KEY=value"
  /// Answers whether the child speaks its protocol now, in bounded time. Called until it does, then every
  /// `check_every`; a child that fails it three times in a row is ended and started again.
  std::function<Task<void>()> probe;
  /// How long one that was started may take to answer for the first time; a machine that is slow or does much else
  /// needs many times what an idle one does. One that is adopted has no longer than three checks take.
  Seconds ready_within{30};
  Seconds check_every{5};
};

enum class ChildState : std::uint8_t { stopped, starting, running, backing_off, broken };

class ChildStatus {
 public:
  ChildStatus() {}
  std::string name;
  ChildState state = ChildState::stopped;
  int pid = 0;
  bool adopted = false;  ///< was running before this daemon
  int restarts = 0;
  std::string reason;  ///< of the last failure, for the operator
  Instant since;
};

/// Starts and watches children that survive the daemon, and takes them over again after a restart (I-30).
///
/// A record per child in `directory` (pid, start time, executable, network namespace) is checked in full before a
/// process is adopted, the namespace must be ours, and the probe must answer; nothing else is ever signalled. Children
/// run in a session of their own with no descriptors of the daemon; their output goes to `<name>.log`, begun anew with
/// each start and trimmed while it is watched. A child that dies is started again with exponential backoff (0.2 s to
/// 30 s); five deaths within a minute open the breaker for a minute. Backoff and breaker follow the Runtime's clock,
/// what concerns the process itself follows real time. The destructor leaves the children running. Loop thread.
class TORNADO_API Supervisor {
 public:
  /// `directory` holds records and logs; it is made (0700) if it is not there.
  Supervisor(Runtime& runtime, std::string directory);
  ~Supervisor();

  /// Adopts or starts the child and returns when its probe answers; watches it from then on. After an error the child
  /// is gone, and `ensure` may be called again. Errors: invalid_argument; already_exists (a child of that name is
  /// watched); backend_failed with the cause (not executable, died at once, with the end of its output);
  /// deadline_exceeded (never ready, with the end of its output).
  Task<void> ensure(ChildSpec spec);
  /// Ends a child: SIGTERM, 5 s, SIGKILL; and forgets it. Errors: not_found; backend_failed (it survived).
  Task<void> stop(std::string name);
  /// A child that is dead and rests, from a death or by the breaker, is started now; every other goes on as it is.
  void hurry(const std::string& name);
  std::vector<ChildStatus> status() const;
  /// Waits until a child's state or pid changed since that revision (start with 0). Errors: cancelled.
  Task<std::uint64_t> changed(std::uint64_t since);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
