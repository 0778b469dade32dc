#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// What tells one process from all others, a later one with the same pid included.
class ProcessIdentity {
 public:
  ProcessIdentity() {}
  /// As the process is now; nothing if it has ended or may not be looked at.
  static std::optional<ProcessIdentity> of(int pid);
  bool operator==(const ProcessIdentity&) const = default;

  int pid = 0;
  std::uint64_t start_time = 0;         // clock ticks since boot, field 22 of /proc/pid/stat
  std::string executable;               // /proc/pid/exe, also after the file was replaced
  std::uint64_t network_namespace = 0;  // inode
};

/// A record of a process that outlives its starter: `<directory>/<name>.json`, 0600, replaced atomically. Blocking.
Result<void> write_record(const std::string& path, const ProcessIdentity& identity);
/// Errors: not_found; data_loss (not a record).
Result<ProcessIdentity> read_record(const std::string& path);

/// How to start a process.
class Launch {
 public:
  Launch() {}
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::string log_path;     // stdout and stderr, 0600, begun anew
  std::string record_path;  // written before the program begins to run, so that a crash of ours leaves no stranger
};

/// Starts a process in a session of its own, with no descriptor of ours but its log, not our child: it outlives us.
/// Blocking; any thread. Errors: backend_failed with the cause.
Result<ProcessIdentity> launch(const Launch& request);

/// The end of a log file, in one line fit for a status. Blocking.
std::string log_tail(const std::string& path);
/// Keeps the last 64 KiB of a log that has grown over 1 MiB. Blocking.
void trim_log(const std::string& path);

/// A running process that we watch and may signal. Its pid cannot be taken by another while this exists.
class Process {
 public:
  /// The process with that pid and start time, whatever program it runs by now. Errors: not_found: it has ended.
  static Result<std::unique_ptr<Process>> open(Runtime& runtime, const ProcessIdentity& identity);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const ProcessIdentity& identity() const noexcept;
  bool ended() const;
  void signal(int number);
  /// Waits for the end. False: time is up, `wake` was called, or cancelled. One waiter at a time.
  boost::asio::awaitable<bool> ends_within(std::chrono::milliseconds time);
  void wake();
  /// SIGTERM, and SIGKILL after `grace`. False: it has not ended even so.
  boost::asio::awaitable<bool> finish(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit Process(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
