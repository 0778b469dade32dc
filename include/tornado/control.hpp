#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tornado/error.hpp"
#include "tornado/event.hpp"
#include "tornado/export.hpp"

namespace tornado::inline v1 {

class Runtime;
class Gateway;

/// The control sockets of a gateway: JSON-RPC 2.0, one document per line of at most 1 MiB.
///
/// `control.sock` (0660, group of the configuration) takes every operation; the caller's uid and all its groups are
/// checked for each (SO_PEERCRED, SO_PEERGROUPS). `status.sock` (0666) takes operations that only count. Method
/// `events.subscribe` with `after` turns the connection into a stream of `event` notifications. Errors carry
/// `data.code` with the stable name of the errc. Loop thread.
class TORNADO_API ControlServer {
 public:
  ControlServer(Runtime& runtime, Gateway& gateway);
  ~ControlServer();
  /// Opens both sockets in the runtime directory. already_exists: another daemon answers there.
  Result<void> listen();
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A client of the control socket. Blocking; no Runtime, no coroutines. One thread at a time.
class TORNADO_API ControlClient {
 public:
  /// Nothing is opened yet. `timeout_seconds` bounds every answer; 1 to 3600.
  explicit ControlClient(std::string path, int timeout_seconds = 60);
  ~ControlClient();
  ControlClient(ControlClient&&) noexcept;

  /// Calls an operation with parameters as a JSON object and returns its result as JSON. Errors: those of the
  /// operation, by name; unavailable (no daemon answers at that path), permission_denied, deadline_exceeded,
  /// protocol_error.
  Result<std::string> call(std::string_view method, std::string_view params_json = "{}");
  /// Starts the event stream after a sequence number; only `next_event` may be called from then on.
  Result<void> subscribe(std::uint64_t after);
  /// Waits for the next event. deadline_exceeded: none within `timeout_seconds`; ask again.
  Result<Event> next_event(int timeout_seconds);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
