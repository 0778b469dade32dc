#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "http/http_codec.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// What a server allows.
class HttpLimits {
 public:
  HttpLimits() {}
  int connections = 4096;
  int connections_per_address = 1024;
  Seconds idle{4};      ///< between requests
  Seconds request{10};  ///< from the first byte of a request to its last; the longer of both until the first one begins
  Seconds answer{30};   ///< for a handler, and for a client to take its answer
  std::size_t header = 16384;
  std::size_t body = 65536;
};

/// Answers requests: at once if it can, else by a coroutine.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual std::optional<HttpResponse> answer_now(HttpRequest& request) = 0;
  virtual boost::asio::awaitable<HttpResponse> answer(HttpRequest request) = 0;
};

/// An HTTP/1.1 server over TCP. Connections beyond a limit are closed at once; slow ones by their deadline. Loop
/// thread.
class HttpServer {
 public:
  HttpServer(Runtime& runtime, HttpHandler& handler, HttpLimits limits);
  ~HttpServer();

  /// Binds and listens. Errors: backend_failed naming the cause (port taken, address not ours).
  Result<void> listen(const Endpoint& endpoint);
  /// Serves a listening socket somebody else has opened; the descriptor is ours from now on. Whoever still waits there
  /// when this ends is left to those who have the socket, too.
  Result<void> adopt(int listening_socket);
  std::vector<Endpoint> endpoints() const;
  /// Accepts nothing more and closes connections between requests. What is being answered has until the deadline;
  /// whoever has connected or begun to send and was not answered yet has a second to finish asking (I-12). Nothing a
  /// client does prolongs that; a handler that is still at work is waited for.
  boost::asio::awaitable<void> drain(Seconds within);
  std::size_t connections() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
