#include "tornado/api_server.hpp"

#include "api/client_api.hpp"
#include "base/try.hpp"
#include "http/http_server.hpp"

namespace tornado::inline v1 {
namespace {

HttpLimits limits_of(const Config::ClientApi& config) {
  HttpLimits limits;
  limits.connections = config.max_connections;
  limits.connections_per_address = config.max_connections_per_address;
  limits.idle = Seconds(config.idle_timeout);
  limits.request = Seconds(config.request_timeout);
  limits.body = static_cast<std::size_t>(config.max_body);
  return limits;
}

}  // namespace

struct ApiServer::Impl {
  Impl(Runtime& runtime, Gateway& gateway_)
      : gateway(gateway_),
        handler(runtime, gateway_),
        server(runtime, handler, limits_of(gateway_.config().client_api)) {}
  Gateway& gateway;
  ClientApi handler;
  HttpServer server;
};

ApiServer::ApiServer(Runtime& runtime, Gateway& gateway) : impl_(std::make_unique<Impl>(runtime, gateway)) {}
ApiServer::~ApiServer() = default;

Task<void> ApiServer::listen(std::vector<int> inherited) {
  for (int fd : inherited) TRY_VOID(impl_->server.adopt(fd));
  if (inherited.empty()) TRY_VOID(impl_->server.listen(impl_->gateway.config().listen_endpoint()));
  impl_->gateway.listening();
  co_return Result<void>();
}

std::vector<Endpoint> ApiServer::endpoints() const {
  return impl_->server.endpoints();
}

Task<void> ApiServer::drain(Seconds within) {
  co_await impl_->server.drain(within);
  co_return Result<void>();
}

}  // namespace tornado::inline v1
