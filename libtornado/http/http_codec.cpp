#include "http/http_codec.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>

namespace http = boost::beast::http;

namespace tornado::inline v1 {

struct HttpRequestParser::Impl {
  void restart() {
    parser.emplace();
    parser->eager(true);
    parser->header_limit(static_cast<std::uint32_t>(most_header));
    parser->body_limit(most_body);
    continued = false;
    bytes = 0;
  }

  std::size_t most_header, most_body;
  std::optional<http::request_parser<http::string_body>> parser;
  bool continued = false;
  std::size_t bytes = 0;
};

HttpRequestParser::HttpRequestParser(std::size_t most_header, std::size_t most_body) : impl_(std::make_unique<Impl>()) {
  impl_->most_header = most_header;
  impl_->most_body = most_body;
  impl_->restart();
}

HttpRequestParser::~HttpRequestParser() = default;

Result<std::size_t> HttpRequestParser::feed(std::string_view bytes) {
  // Beast 1.81 asserts that what follows a "0\r\n" it has seen comes in one piece; a chunked body ends in 5 bytes.
  if (impl_->parser->is_header_done() && impl_->parser->chunked() && bytes.size() < 5) return std::size_t(0);
  boost::system::error_code ec;
  std::size_t used = impl_->parser->put(boost::asio::buffer(bytes.data(), bytes.size()), ec);
  impl_->bytes += used;
  if (ec == http::error::need_more) ec = {};
  if (ec == http::error::body_limit || ec == http::error::header_limit) return Error(errc::too_large, ec.message());
  if (ec) return Error(errc::protocol_error, ec.message());
  // Beast waits for the whole header before it consumes; its limit is only looked at then.
  if (!impl_->parser->is_header_done() && bytes.size() - used > impl_->most_header)
    return Error(errc::too_large, "header limit exceeded");
  return used;
}

bool HttpRequestParser::done() const {
  return impl_->parser->is_done();
}
bool HttpRequestParser::begun() const {
  return impl_->bytes > 0;
}

bool HttpRequestParser::wants_continue() {
  if (impl_->continued || !impl_->parser->is_header_done() || impl_->parser->is_done()) return false;
  if (!boost::beast::iequals(impl_->parser->get()[http::field::expect], "100-continue")) return false;
  impl_->continued = true;
  return true;
}

HttpRequest HttpRequestParser::take() {
  auto message = impl_->parser->release();
  HttpRequest out;
  out.method = std::string(message.method_string());
  std::string_view target(message.target().data(), message.target().size());
  out.path = std::string(target.substr(0, target.find('?')));
  if (auto mark = target.find('?'); mark != target.npos) out.query = std::string(target.substr(mark + 1));
  out.keep_alive = message.keep_alive();
  out.authorization = std::string(message[http::field::authorization]);
  out.forwarded_for = std::string(message["X-Forwarded-For"]);
  out.user_agent = std::string(message[http::field::user_agent]);
  out.request_id = std::string(message["X-Request-ID"]);
  out.body = std::move(message.body());
  impl_->restart();
  return out;
}

std::string_view reason_phrase(int status) noexcept {
  auto text = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
  return std::string_view(text.data(), text.size());
}

std::string serialize(const HttpResponse& response, bool keep_alive, bool head) {
  std::string out;
  out.reserve(192 + response.body.size());
  out.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ").append(reason_phrase(response.status));
  out.append("\r\nContent-Type: ").append(response.content_type);
  out.append("\r\nContent-Length: ").append(std::to_string(response.body.size()));
  for (const auto& [name, value] : response.headers) out.append("\r\n").append(name).append(": ").append(value);
  if (!keep_alive) out.append("\r\nConnection: close");
  out.append("\r\n\r\n");
  if (!head) out.append(response.body);
  return out;
}

}  // namespace tornado::inline v1
