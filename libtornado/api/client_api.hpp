#pragma once

#include <unordered_map>

#include "api/error_map.hpp"
#include "http/http_server.hpp"
#include "tornado/gateway.hpp"

namespace tornado::inline v1 {

/// The client API of contract section 1, mapped onto the gateway's use cases.
class ClientApi final : public HttpHandler {
 public:
  ClientApi(Runtime& runtime, Gateway& gateway);

  std::optional<HttpResponse> answer_now(HttpRequest& request) override;
  boost::asio::awaitable<HttpResponse> answer(HttpRequest request) override;

 private:
  std::optional<HttpResponse> answer_from_memory(HttpRequest& request);
  MetricCounter& answered(std::string_view path, int status);
  boost::asio::awaitable<HttpResponse> dispatch(const HttpRequest& request);
  HttpResponse health() const;
  HttpResponse pubkey() const;
  boost::asio::awaitable<HttpResponse> login(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> reauth(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> logout(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> initiate(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> heartbeat(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> disconnect(const HttpRequest& request, Caller caller);
  boost::asio::awaitable<HttpResponse> verify(const HttpRequest& request, Caller caller);

  Caller caller_of(const HttpRequest& request) const;
  /// Puts the claims of the bearer token into the caller.
  Result<void> authenticate(const HttpRequest& request, Caller& caller) const;
  bool outside_the_lanes(const Address& source) const;

  Runtime& runtime_;
  Gateway& gateway_;
  std::vector<Prefix> lane_prefixes_;
  const bool trust_forwarded_for_;
  std::unordered_map<int, MetricCounter*> answered_;  // by route and status
};

}  // namespace tornado::inline v1
