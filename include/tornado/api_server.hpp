#pragma once

#include <memory>
#include <vector>

#include "tornado/gateway.hpp"

namespace tornado::inline v1 {

/// The HTTP server of the client API (contract section 1). Loop thread.
class TORNADO_API ApiServer {
 public:
  /// Limits and addresses come from the gateway's configuration; the gateway must outlive the server.
  ApiServer(Runtime& runtime, Gateway& gateway);
  ~ApiServer();

  /// Takes over listening sockets that somebody else has opened (systemd, or the process before this one), so that
  /// clients wait during a restart instead of being refused (I-12); without any it binds `client_api.listen` itself.
  /// backend_failed names the cause.
  Task<void> listen(std::vector<int> inherited = {});
  std::vector<Endpoint> endpoints() const;
  /// Accepts nothing more, ends what runs within `within`.
  Task<void> drain(Seconds within = Seconds(5));

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Metrics for a monitor: GET /metrics on `metrics.listen`, in the text exposition format of Prometheus, version 0.0.4.
///
/// Nothing asks who reads: they hold numbers and no names, and by default the listener is on loopback, which no lane
/// reaches. Loop thread; the destructor ends its connections.
class TORNADO_API MetricsServer {
 public:
  /// The gateway must outlive the server.
  MetricsServer(Runtime& runtime, Gateway& gateway);
  ~MetricsServer();

  /// Listens where the configuration says; nowhere if it says nothing. Errors: backend_failed naming the cause (port
  /// taken, address not ours).
  Result<void> listen();
  std::vector<Endpoint> endpoints() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
