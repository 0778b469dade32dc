#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tornado/error.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// A request as its handler sees it.
class HttpRequest {
 public:
  HttpRequest() {}
  std::string method, path, query, body;
  std::string authorization, forwarded_for, user_agent, request_id;
  bool keep_alive = true;
  Address source;
};

/// An answer. `content_length` and `connection` are added when it is written.
class HttpResponse {
 public:
  HttpResponse() {}
  HttpResponse(int status_, std::string body_) : status(status_), body(std::move(body_)) {}
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  bool close = false;
};

/// Bytes of one connection to requests (RFC 9112), one after the other. Pure; Beast is the parser.
class HttpRequestParser {
 public:
  HttpRequestParser(std::size_t most_header, std::size_t most_body);
  ~HttpRequestParser();

  /// Consumes a part of `bytes` and returns how many. Errors: protocol_error, too_large; the connection is lost then.
  Result<std::size_t> feed(std::string_view bytes);
  bool done() const;
  /// Something of the next request has arrived.
  bool begun() const;
  /// The client waits for "100 Continue" before it sends its body; told once.
  bool wants_continue();
  /// The complete request; the parser starts anew.
  HttpRequest take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The bytes of an answer; without its body for HEAD.
std::string serialize(const HttpResponse& response, bool keep_alive, bool head = false);
std::string_view reason_phrase(int status) noexcept;

}  // namespace tornado::inline v1
