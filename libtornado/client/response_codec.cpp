#include "client/response_codec.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace http = boost::beast::http;

namespace tornado::inline v1 {

struct HttpResponseParser::Impl {
  http::response_parser<http::string_body> parser;
  std::string pending;
};

namespace {

constexpr std::uint32_t most_header = 65536;

Error refused(const boost::system::error_code& ec) {
  bool large = ec == http::error::body_limit || ec == http::error::header_limit;
  return Error(large ? errc::too_large : errc::protocol_error, "the answer is not HTTP: " + ec.message());
}

}  // namespace

HttpResponseParser::HttpResponseParser(std::size_t most_body) : impl_(std::make_unique<Impl>()) {
  impl_->parser.eager(true);
  impl_->parser.header_limit(most_header);
  impl_->parser.body_limit(most_body);
}

HttpResponseParser::~HttpResponseParser() = default;

Result<void> HttpResponseParser::feed(std::string_view bytes) {
  impl_->pending.append(bytes);
  while (!impl_->pending.empty() && !impl_->parser.is_done()) {
    boost::system::error_code ec;
    std::size_t used = impl_->parser.put(boost::asio::buffer(impl_->pending.data(), impl_->pending.size()), ec);
    impl_->pending.erase(0, used);
    if (ec && ec != http::error::need_more) return refused(ec);
    if (ec == http::error::need_more || used == 0) break;
  }
  if (impl_->pending.size() > most_header) return Error(errc::too_large, "the header of the answer is too large");
  return {};
}

Result<void> HttpResponseParser::end() {
  // Beast asserts that it has seen something.
  if (!impl_->parser.got_some()) return Error(errc::unavailable, "the connection was closed without an answer");
  boost::system::error_code ec;
  if (!impl_->parser.is_done()) impl_->parser.put_eof(ec);
  if (ec || !impl_->parser.is_done()) return Error(errc::protocol_error, "the answer ended too early");
  return {};
}

bool HttpResponseParser::done() const {
  return impl_->parser.is_done();
}
int HttpResponseParser::status() const {
  return static_cast<int>(impl_->parser.get().result_int());
}
const std::string& HttpResponseParser::body() const {
  return impl_->parser.get().body();
}

std::string http_request(std::string_view method, std::string_view path, std::string_view host,
                         std::string_view bearer_token, std::string_view body) {
  std::string out;
  out.reserve(256 + bearer_token.size() + body.size());
  out.append(method).append(" ").append(path).append(" HTTP/1.1\r\nHost: ").append(host);
  out.append("\r\nConnection: close\r\nUser-Agent: tornado-client\r\nAccept: application/json");
  if (!bearer_token.empty()) out.append("\r\nAuthorization: Bearer ").append(bearer_token);
  if (method != "GET") {
    out.append("\r\nContent-Type: application/json\r\nContent-Length: ").append(std::to_string(body.size()));
  }
  out.append("\r\n\r\n");
  if (method != "GET") out.append(body);
  return out;
}

}  // namespace tornado::inline v1
