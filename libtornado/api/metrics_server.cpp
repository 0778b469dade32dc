#include "http/http_server.hpp"
#include "tornado/api_server.hpp"

namespace tornado::inline v1 {
namespace {

HttpLimits limits() {
  HttpLimits out;
  out.connections = 32;
  out.connections_per_address = 16;
  // Monitors keep their connection from one scrape to the next.
  out.idle = Seconds(90);
  out.body = 0;
  return out;
}

class MetricsHandler final : public HttpHandler {
 public:
  explicit MetricsHandler(Gateway& gateway) : gateway_(gateway) {}

  std::optional<HttpResponse> answer_now(HttpRequest& request) override {
    bool reads = request.method == "GET" || request.method == "HEAD";
    HttpResponse out(200, "");
    out.content_type = "text/plain; charset=utf-8";
    if (request.path != "/metrics") {
      out.status = 404;
      out.body = "Metrics are at /metrics.\n";
    } else if (!reads) {
      out.status = 405;
      out.body = "GET or HEAD is expected.\n";
      out.headers.emplace_back("Allow", "GET, HEAD");
    } else {
      out.body = gateway_.metrics();
      out.content_type = MetricText::content_type;
    }
    return out;
  }

  boost::asio::awaitable<HttpResponse> answer(HttpRequest request) override {
    HttpResponse out = *answer_now(request);
    co_return out;
  }

 private:
  Gateway& gateway_;
};

}  // namespace

struct MetricsServer::Impl {
  Impl(Runtime& runtime, Gateway& gateway_)
      : gateway(gateway_), handler(gateway_), server(runtime, handler, limits()) {}
  Gateway& gateway;
  MetricsHandler handler;
  HttpServer server;
};

MetricsServer::MetricsServer(Runtime& runtime, Gateway& gateway) : impl_(std::make_unique<Impl>(runtime, gateway)) {}
MetricsServer::~MetricsServer() = default;

Result<void> MetricsServer::listen() {
  const std::string& where = impl_->gateway.config().metrics.listen;
  if (where.empty()) return {};
  auto endpoint = Endpoint::parse(where);
  if (!endpoint) return endpoint.error();
  return impl_->server.listen(*endpoint);
}

std::vector<Endpoint> MetricsServer::endpoints() const {
  return impl_->server.endpoints();
}

}  // namespace tornado::inline v1
