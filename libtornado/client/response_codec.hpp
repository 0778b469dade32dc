#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// Bytes of one connection to one HTTP answer (RFC 9112). Pure; Beast is the parser.
class HttpResponseParser {
 public:
  explicit HttpResponseParser(std::size_t most_body);
  ~HttpResponseParser();

  /// Errors: protocol_error, too_large.
  Result<void> feed(std::string_view bytes);
  /// The connection has ended; without a length this ends the body. Errors: protocol_error (too early), unavailable
  /// (nothing has come).
  Result<void> end();
  bool done() const;
  int status() const;
  const std::string& body() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The bytes of a request with `Connection: close`; without a body for GET.
std::string http_request(std::string_view method, std::string_view path, std::string_view host,
                         std::string_view bearer_token, std::string_view body);

}  // namespace tornado::inline v1
