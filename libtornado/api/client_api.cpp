#include "api/client_api.hpp"

#include <boost/json/array.hpp>

#include "base/encoding.hpp"
#include "base/json.hpp"
#include "base/uuid.hpp"

namespace json = boost::json;
namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

struct ClientPath {
  std::string_view method, path;
};
constexpr ClientPath routes[] = {
    {"GET", "/health"},
    {"GET", "/auth/pubkey"},
    {"POST", "/auth/login"},
    {"POST", "/auth/reauth"},
    {"POST", "/auth/logout"},
    {"POST", "/vpn/initiate"},
    {"POST", "/session/heartbeat"},
    {"POST", "/session/disconnect"},
    {"POST", "/vpn/verify/id"},
};

/// One entry of a 422 answer; the input is not echoed, it may be a secret.
HttpResponse validation_error(std::string_view type, json::array location, std::string_view message) {
  json::object entry;
  entry["type"] = type;
  entry["loc"] = std::move(location);
  entry["msg"] = message;
  entry["input"] = nullptr;
  json::object body;
  body["detail"] = json::array{std::move(entry)};
  return HttpResponse(422, to_json(body));
}

json::array in_body(std::string_view field) {
  return json::array{"body", field};
}

/// The fields of a JSON body, or the answer that refuses it. Precedence of contract 1.1: syntax, then token, then
/// fields.
class Body {
 public:
  explicit Body(const HttpRequest& request) : empty_(request.body.empty()) {
    if (empty_) return;
    auto parsed = parse_json(request.body);
    if (parsed)
      value_ = std::move(*parsed);
    else
      refusal_ = validation_error("json_invalid", json::array{"body", 0}, "JSON decode error");
  }

  const std::optional<HttpResponse>& syntax() const { return refusal_; }

  /// Texts under these names; the first one that is missing or no text refuses the request.
  std::optional<HttpResponse> read(std::initializer_list<std::pair<std::string_view, std::string*>> fields) const {
    if (empty_) return validation_error("missing", json::array{"body"}, "Field required");
    if (!value_.is_object())
      return validation_error("model_attributes_type", json::array{"body"},
                              "Input should be a valid dictionary or object to extract fields from");
    for (const auto& [name, into] : fields) {
      const auto* field = value_.get_object().if_contains(name);
      if (field == nullptr) return validation_error("missing", in_body(name), "Field required");
      if (!field->is_string()) return validation_error("string_type", in_body(name), "Input should be a valid string");
      *into = std::string(field->get_string());
    }
    return std::nullopt;
  }

  /// Only `true` is true: clients that know nothing of the field are served as ever.
  bool flag(std::string_view name) const {
    const auto* field = value_.is_object() ? value_.get_object().if_contains(name) : nullptr;
    return field != nullptr && field->is_bool() && field->get_bool();
  }

 private:
  bool empty_;
  json::value value_;
  std::optional<HttpResponse> refusal_;
};

json::object to_object(const Tokens& tokens) {
  json::object out;
  out["access_token"] = tokens.access.reveal();
  out["refresh_token"] = tokens.refresh.reveal();
  out["access_jti"] = tokens.access_jti;
  out["refresh_jti"] = tokens.refresh_jti;
  return out;
}

HttpResponse ok(const json::value& body) {
  return HttpResponse(200, to_json(body));
}

HttpResponse beaten(const Beat& beat) {
  return HttpResponse(200, beat.recovered ? R"({"status":"reconnected"})" : R"({"status":"ok"})");
}

}  // namespace

ClientApi::ClientApi(Runtime& runtime, Gateway& gateway)
    : runtime_(runtime), gateway_(gateway), trust_forwarded_for_(gateway.config().client_api.trust_forwarded_for) {
  for (const char* lane : {"vpn", "tor"}) {
    Pool pool = gateway.config().pool(lane);
    lane_prefixes_.push_back(pool.v4);
    if (pool.v6) lane_prefixes_.push_back(*pool.v6);
  }
}

Caller ClientApi::caller_of(const HttpRequest& request) const {
  Address source = request.source;
  if (trust_forwarded_for_ && source.is_v4() && source.is_loopback() && !request.forwarded_for.empty()) {
    // The last entry is the one the proxy on this host has written itself.
    auto comma = request.forwarded_for.rfind(',');
    std::string_view last = comma == std::string::npos ? std::string_view(request.forwarded_for)
                                                       : std::string_view(request.forwarded_for).substr(comma + 1);
    while (last.starts_with(' ')) last.remove_prefix(1);
    if (auto forwarded = Address::parse(last)) source = *forwarded;
  }
  Caller caller = Caller::from(source);
  caller.arrived = runtime_.now();
  caller.label = request.user_agent.substr(0, 64);
  caller.request_id = request.request_id.empty() || request.request_id.size() > 64 ? uuid4() : request.request_id;
  return caller;
}

Result<void> ClientApi::authenticate(const HttpRequest& request, Caller& caller) const {
  constexpr std::string_view scheme = "bearer ";
  std::string_view header = request.authorization;
  bool bearer = header.size() >= scheme.size() &&
                std::equal(scheme.begin(), scheme.end(), header.begin(),
                           [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
  if (!bearer) return Error(errc::token_missing, "Not authenticated");
  auto claims = gateway_.auth().check(header.substr(scheme.size()));
  if (!claims) return claims.error();
  caller.claims = std::move(*claims);
  caller.kind = Caller::Kind::device;
  return {};
}

bool ClientApi::outside_the_lanes(const Address& source) const {
  return std::none_of(lane_prefixes_.begin(), lane_prefixes_.end(),
                      [&](const Prefix& p) { return p.contains(source); });
}

/// Unknown paths have one label: strangers must not make metrics.
MetricCounter& ClientApi::answered(std::string_view path, int status) {
  std::size_t route = 0;
  while (route < std::size(routes) && routes[route].path != path) ++route;
  MetricCounter*& counter = answered_[static_cast<int>(route) * 1000 + status];
  if (counter == nullptr)
    counter = &runtime_.metrics().counter(
        "tornado_api_requests_total", "Requests of the client API by route and status.",
        {{"path", route < std::size(routes) ? std::string(path) : "other"}, {"status", std::to_string(status)}});
  return *counter;
}

std::optional<HttpResponse> ClientApi::answer_now(HttpRequest& request) {
  auto response = answer_from_memory(request);
  if (response) answered(request.path, response->status).add();
  return response;
}

std::optional<HttpResponse> ClientApi::answer_from_memory(HttpRequest& request) {
  if (request.path == "/session/heartbeat" && request.method == "POST" && request.body.empty()) {
    Caller caller = Caller::from(request.source);
    if (trust_forwarded_for_ && !request.forwarded_for.empty()) caller = caller_of(request);
    if (auto authenticated = authenticate(request, caller); !authenticated) return token_error(authenticated.error());
    auto beat = gateway_.heartbeat_now(caller);
    if (!beat) return std::nullopt;
    return *beat ? beaten(**beat) : client_error(ClientRoute::heartbeat, beat->error());
  }
  if (request.path == "/auth/pubkey" && request.method == "GET") return pubkey();
  if (request.path == "/health" && request.method == "GET") return health();
  bool known_path = false, known = false;
  for (const ClientPath& route : routes) {
    known_path = known_path || route.path == request.path;
    known = known || (route.path == request.path && route.method == request.method);
  }
  if (known) return std::nullopt;
  return known_path ? detail_response(405, "Method Not Allowed") : detail_response(404, "Not Found");
}

asio::awaitable<HttpResponse> ClientApi::answer(HttpRequest request) {
  HttpResponse response;
  Stopwatch watch;
  try {
    response = co_await dispatch(request);
  } catch (const std::exception& e) {
    runtime_.log().write(LogLevel::error, "request_threw", {{"path", request.path}, {"detail", e.what()}});
    response = HttpResponse(500, "Internal Server Error");
    response.content_type = "text/plain; charset=utf-8";
  }
  answered(request.path, response.status).add();
  runtime_.metrics()
      .histogram("tornado_api_request_seconds", "Time of requests that wait for something.", {{"path", request.path}})
      .observe(watch.seconds());
  if (response.status >= 500)
    runtime_.log().write(
        LogLevel::warning, "request_failed",
        {{"path", request.path}, {"status", std::to_string(response.status)}, {"body", response.body.substr(0, 200)}});
  co_return response;
}

asio::awaitable<HttpResponse> ClientApi::dispatch(const HttpRequest& request) {
  Caller caller = caller_of(request);
  // A connection from before the tunnel would hang the first request after it (I-13).
  bool leaves_lane = outside_the_lanes(caller.source);
  HttpResponse response;
  if (request.path == "/auth/login") {
    response = co_await login(request, std::move(caller));
    response.close = leaves_lane;
  } else if (request.path == "/auth/reauth") {
    response = co_await reauth(request, std::move(caller));
    response.close = leaves_lane;
  } else if (request.path == "/vpn/initiate") {
    response = co_await initiate(request, std::move(caller));
    response.close = leaves_lane;
  } else if (request.path == "/auth/logout") {
    response = co_await logout(request, std::move(caller));
  } else if (request.path == "/session/heartbeat") {
    response = co_await heartbeat(request, std::move(caller));
  } else if (request.path == "/session/disconnect") {
    response = co_await disconnect(request, std::move(caller));
  } else {
    response = co_await verify(request, std::move(caller));
  }
  co_return response;
}

HttpResponse ClientApi::health() const {
  if (gateway_.ready()) {
    bool whole = true;
    for (const auto& component : gateway_.health()) whole = whole && (component.ready || component.advisory);
    if (whole) return HttpResponse(200, R"({"status":"ok"})");
  }
  json::object body;
  body["status"] = gateway_.ready() ? "degraded" : "starting";
  json::object parts;
  for (const auto& component : gateway_.health()) parts[component.name] = component.ready;
  body["components"] = std::move(parts);
  return HttpResponse(503, to_json(body));
}

HttpResponse ClientApi::pubkey() const {
  if (!gateway_.keys().ring()) return detail_response(503, "unavailable");
  return HttpResponse(200, R"({"pubkey":")" + gateway_.login_key().str() + "\"}");
}

asio::awaitable<HttpResponse> ClientApi::login(const HttpRequest& request, Caller caller) {
  Body body(request);
  if (body.syntax()) co_return *body.syntax();
  Sealed sealed("", "", "");
  auto refused = body.read(
      {{"ephemeral_pubkey", &sealed.ephemeral_pubkey}, {"iv", &sealed.iv}, {"ciphertext", &sealed.ciphertext}});
  if (refused) co_return *refused;
  auto login = co_await gateway_.login(std::move(caller), std::move(sealed));
  if (!login) co_return client_error(ClientRoute::login, login.error());
  json::object user;
  user["id"] = login->user.id.str();
  user["username"] = login->user.username;
  user["email"] = login->user.email;
  user["is_active"] = login->user.active;
  json::object out;
  out["status"] = "ok";
  out["user"] = std::move(user);
  out["tokens"] = to_object(login->tokens);
  out["device_id"] = login->device.id.str();
  co_return ok(out);
}

asio::awaitable<HttpResponse> ClientApi::reauth(const HttpRequest& request, Caller caller) {
  Body body(request);
  std::string token;
  if (body.syntax()) co_return *body.syntax();
  if (auto refused = body.read({{"refresh_token", &token}})) co_return *refused;
  auto refreshed = co_await gateway_.reauth(std::move(caller), std::move(token));
  if (!refreshed) co_return client_error(ClientRoute::reauth, refreshed.error());
  json::object out;
  out["status"] = "ok";
  json::object tokens = to_object(refreshed->tokens);
  tokens["device_id"] = refreshed->device.str();
  out["tokens"] = std::move(tokens);
  co_return ok(out);
}

asio::awaitable<HttpResponse> ClientApi::logout(const HttpRequest& request, Caller caller) {
  Body body(request);
  std::string token;
  if (body.syntax()) co_return *body.syntax();
  if (auto refused = body.read({{"refresh_token", &token}})) co_return *refused;
  auto done = co_await gateway_.logout(std::move(caller), std::move(token));
  if (!done) co_return client_error(ClientRoute::logout, done.error());
  co_return HttpResponse(200, R"({"status":"logged_out"})");
}

asio::awaitable<HttpResponse> ClientApi::initiate(const HttpRequest& request, Caller caller) {
  Body body(request);
  std::string key;
  if (body.syntax()) co_return *body.syntax();
  if (auto authenticated = authenticate(request, caller); !authenticated) co_return token_error(authenticated.error());
  if (auto refused = body.read({{"public_key", &key}})) co_return *refused;
  auto tunnel = co_await gateway_.initiate(std::move(caller), std::move(key), body.flag("preshared_key"));
  if (!tunnel) co_return client_error(ClientRoute::initiate, tunnel.error());
  json::object out;
  out["status"] = "success";
  for (const auto& access : tunnel->lanes) {
    json::object lane;
    lane["ip"] = access.address.str();
    if (access.address6) lane["ip6"] = access.address6->str();
    lane["endpoint"] = access.endpoint;
    lane["server_pubkey"] = access.server_key.str();
    out[access.lane.str()] = std::move(lane);
  }
  json::object session;
  session["heartbeat_ttl"] = tunnel->heartbeat_ttl.count();
  session["hard_ttl"] = tunnel->hard_ttl.count();
  if (tunnel->preshared) session["preshared_key"] = base64(tunnel->preshared->reveal());
  out["session"] = std::move(session);
  co_return ok(out);
}

asio::awaitable<HttpResponse> ClientApi::heartbeat(const HttpRequest& request, Caller caller) {
  Body body(request);
  if (body.syntax()) co_return *body.syntax();
  if (auto authenticated = authenticate(request, caller); !authenticated) co_return token_error(authenticated.error());
  auto beat = co_await gateway_.heartbeat(std::move(caller));
  co_return beat ? beaten(*beat) : client_error(ClientRoute::heartbeat, beat.error());
}

asio::awaitable<HttpResponse> ClientApi::disconnect(const HttpRequest& request, Caller caller) {
  if (auto authenticated = authenticate(request, caller); !authenticated) co_return token_error(authenticated.error());
  auto done = co_await gateway_.disconnect(std::move(caller));
  co_return done ? HttpResponse(200, R"({"status":"disconnected"})")
                 : client_error(ClientRoute::disconnect, done.error());
}

asio::awaitable<HttpResponse> ClientApi::verify(const HttpRequest& request, Caller caller) {
  if (auto authenticated = authenticate(request, caller); !authenticated) co_return token_error(authenticated.error());
  auto user = co_await gateway_.identify(std::move(caller));
  if (!user) co_return client_error(ClientRoute::verify, user.error());
  co_return ok(json::value(user->str()));
}

}  // namespace tornado::inline v1
