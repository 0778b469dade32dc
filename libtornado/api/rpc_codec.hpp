#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// A JSON-RPC 2.0 request. Batches are not taken.
class RpcRequest {
 public:
  RpcRequest() {}
  boost::json::value id;
  std::string method;
  boost::json::object params;
};

/// invalid_argument: not a request; `id_out` is what an error answer must carry.
Result<RpcRequest> parse_rpc_request(std::string_view line, boost::json::value& id_out);
/// Answers end in a newline.
std::string rpc_result(const boost::json::value& id, const boost::json::value& result);
std::string rpc_error(const boost::json::value& id, const Error& error);
std::string rpc_notification(std::string_view method, const boost::json::value& params);
std::string rpc_request(std::uint64_t id, std::string_view method, const boost::json::value& params);
/// The result of an answer, or its error under our names. protocol_error: not an answer.
Result<boost::json::value> parse_rpc_answer(std::string_view line);

/// Cuts a byte stream into lines. too_large: a line exceeds the limit; nothing more is taken then.
class LineCutter {
 public:
  explicit LineCutter(std::size_t limit) : limit_(limit) {}
  Result<void> feed(std::string_view bytes);
  std::optional<std::string> next();
  bool partial() const noexcept { return !buffer_.empty(); }

 private:
  std::size_t limit_;
  std::string buffer_;
};

}  // namespace tornado::inline v1
