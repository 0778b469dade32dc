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
  std::string name;                       ///< unique, also the name of its record: "wireguard-vpn"
  std::vector<std::string> argv;          ///< absolute path first
  std::vector<std::string> environment;   ///< the whole of it, "KEY=value"
  /// Answers whether the child speaks its protocol now. Called until it does, then every `check_every`.
  std::function<Task<void>()> probe;
  Seconds ready_within{10};
  Seconds check_every{5};
};

enum class ChildState : std::uint8_t { stopped, starting, running, backing_off, broken };

class ChildStatus {
 public:
  ChildStatus() {}
  std::string name;
  ChildState state = ChildState::stopped;
  int pid = 0;
  bool adopted = false;          ///< was running before this daemon
  int restarts = 0;
  std::string reason;            ///< of the last failure, for the operator
  Instant since;
};

/// Starts and watches children that survive the daemon, and takes them over again after a restart (I-30).
///
/// A record per child in `directory` (pid, start time, executable, network namespace) is checked in full before a
/// process is adopted, and the probe must answer; nothing else is ever signalled. Children run in a session of their
/// own with no descriptors of the daemon. A child that dies is started again with exponential backoff (0.2 s to
/// 30 s); five deaths within a minute open the breaker for a minute. Loop thread.
class TORNADO_API Supervisor {
 public:
  Supervisor(Runtime& runtime, std::string directory);
  ~Supervisor();

  /// Adopts or starts the child and returns when its probe answers; watches it from then on. Errors:
  /// backend_failed with the cause (not executable, died at once, with the end of its output), deadline_exceeded.
  Task<void> ensure(ChildSpec spec);
  /// Ends a child: SIGTERM, 5 s, SIGKILL; and forgets it. not_found.
  Task<void> stop(std::string name);
  std::vector<ChildStatus> status() const;
  /// Waits until a child's state or pid changed since that revision (start with 0).
  Task<std::uint64_t> changed(std::uint64_t since);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
