#include "api/rpc_codec.hpp"

#include "base/json.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

int rpc_code(errc code) {
  switch (code) {
    case errc::protocol_error:
      return -32700;
    case errc::unimplemented:
      return -32601;
    case errc::invalid_argument:
      return -32602;
    default:
      return -32000;
  }
}

json::object envelope(const json::value& id) {
  json::object out;
  out["jsonrpc"] = "2.0";
  out["id"] = id;
  return out;
}

}  // namespace

Result<RpcRequest> parse_rpc_request(std::string_view line, json::value& id_out) {
  id_out = nullptr;
  auto parsed = parse_json(line);
  if (!parsed) return Error(errc::protocol_error, parsed.error().detail());
  if (!parsed->is_object()) return Error(errc::invalid_argument, "a JSON-RPC request is an object");
  auto& object = parsed->get_object();
  if (const auto* id = object.if_contains("id"); id != nullptr && !id->is_structured()) id_out = *id;
  auto method = text_at(object, "method");
  if (text_at(object, "jsonrpc") != "2.0" || !method)
    return Error(errc::invalid_argument, "jsonrpc \"2.0\" and method are mandatory");
  RpcRequest out;
  out.id = id_out;
  out.method = std::move(*method);
  if (auto* params = object.if_contains("params"); params != nullptr && !params->is_null()) {
    if (!params->is_object()) return Error(errc::invalid_argument, "params is an object");
    out.params = std::move(params->get_object());
  }
  return out;
}

std::string rpc_result(const json::value& id, const json::value& result) {
  json::object out = envelope(id);
  out["result"] = result;
  return to_json(out) + "\n";
}

std::string rpc_error(const json::value& id, const Error& error) {
  json::object detail;
  detail["code"] = name(error.code());
  detail["class"] = name(class_of(error.code()));
  json::object body;
  body["code"] = rpc_code(error.code());
  body["message"] = error.detail().empty() ? std::string(name(error.code())) : error.detail();
  body["data"] = std::move(detail);
  json::object out = envelope(id);
  out["error"] = std::move(body);
  return to_json(out) + "\n";
}

std::string rpc_notification(std::string_view method, const json::value& params) {
  json::object out;
  out["jsonrpc"] = "2.0";
  out["method"] = method;
  out["params"] = params;
  return to_json(out) + "\n";
}

std::string rpc_request(std::uint64_t id, std::string_view method, const json::value& params) {
  json::object out = envelope(id);
  out["method"] = method;
  out["params"] = params;
  return to_json(out) + "\n";
}

Result<json::value> parse_rpc_answer(std::string_view line) {
  auto parsed = parse_json(line);
  if (!parsed || !parsed->is_object()) return Error(errc::protocol_error, "the answer is not a JSON object");
  auto& object = parsed->get_object();
  if (auto* result = object.if_contains("result")) return std::move(*result);
  auto* error = object.if_contains("error");
  if (error == nullptr || !error->is_object())
    return Error(errc::protocol_error, "the answer has neither result nor error");
  std::string message = text_at(error->get_object(), "message").value_or("");
  auto* data = error->get_object().if_contains("data");
  auto code = data != nullptr && data->is_object() ? errc_from_name(text_at(data->get_object(), "code").value_or(""))
                                                   : std::nullopt;
  return Error(code.value_or(errc::internal), message);
}

Result<void> LineCutter::feed(std::string_view bytes) {
  buffer_.append(bytes);
  for (std::size_t start = 0;;) {
    auto end = buffer_.find('\n', start);
    if (std::min(end, buffer_.size()) - start > limit_)
      return Error(errc::too_large, "a line is longer than " + std::to_string(limit_) + " bytes");
    if (end == buffer_.npos) return {};
    start = end + 1;
  }
}

std::optional<std::string> LineCutter::next() {
  auto end = buffer_.find('\n');
  if (end == buffer_.npos) return std::nullopt;
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return line;
}

}  // namespace tornado::inline v1
