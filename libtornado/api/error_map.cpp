#include "api/error_map.hpp"

#include "base/json.hpp"

namespace tornado::inline v1 {
namespace {

struct Row {
  ClientRoute route;
  errc code;
  int status;
  std::string_view detail;
};

/// Contract 1.4. What is not here follows from the class of the error.
constexpr Row rows[] = {
    {ClientRoute::login, errc::invalid_envelope, 400, "invalid_encrypted_payload"},
    {ClientRoute::login, errc::invalid_credentials, 401, "invalid_credentials"},
    {ClientRoute::login, errc::user_inactive, 401, "user_inactive"},
    {ClientRoute::login, errc::device_limit, 401, "max_devices_exceeded"},
    {ClientRoute::login, errc::throttled, 429, "ip_banned"},
    {ClientRoute::login, errc::missing_fields, 422, "missing_fields"},
    {ClientRoute::reauth, errc::token_expired, 401, "refresh_token_expired"},
    {ClientRoute::reauth, errc::token_invalid, 401, "invalid_refresh_token"},
    {ClientRoute::reauth, errc::token_type, 401, "invalid_refresh_token"},
    {ClientRoute::reauth, errc::token_reused, 401, "token_revoked_reuse_detected"},
    {ClientRoute::reauth, errc::user_inactive, 401, "user_invalid"},
    {ClientRoute::reauth, errc::revoked, 401, "user_invalid"},
    {ClientRoute::reauth, errc::missing_fields, 422, "missing_refresh_token"},
    {ClientRoute::logout, errc::token_invalid, 401, "invalid_refresh_token"},
    {ClientRoute::logout, errc::token_type, 401, "invalid_refresh_token"},
    {ClientRoute::logout, errc::token_expired, 401, "refresh_token_expired"},
    {ClientRoute::logout, errc::missing_fields, 401, "missing_refresh_token"},
    {ClientRoute::initiate, errc::missing_fields, 502, "VPN Manager Error: missing_fields"},
    {ClientRoute::initiate, errc::pool_exhausted, 502, "VPN Manager Error: ipam_failed"},
    {ClientRoute::initiate, errc::backend_failed, 502, "VPN Manager Error: wg_update_failed"},
    {ClientRoute::initiate, errc::interface_missing, 502, "VPN Manager Error: wg_update_failed"},
    {ClientRoute::initiate, errc::deadline_exceeded, 502, "VPN Manager Error: connection_timeout"},
    {ClientRoute::initiate, errc::key_invalid, 400, "VPN Manager Error: invalid_public_key"},
    {ClientRoute::initiate, errc::key_in_use, 409, "VPN Manager Error: public_key_in_use"},
    {ClientRoute::initiate, errc::superseded, 409, "VPN Manager Error: superseded"},
    {ClientRoute::heartbeat, errc::session_expired, 400, "session_expired"},
    {ClientRoute::disconnect, errc::session_expired, 400, "session_expired"},
};

bool about_token(errc code) {
  return code == errc::token_missing || code == errc::token_invalid || code == errc::token_expired ||
         code == errc::token_type || code == errc::revoked || code == errc::user_inactive;
}

bool takes_bearer(ClientRoute route) {
  return route != ClientRoute::login && route != ClientRoute::reauth && route != ClientRoute::logout;
}

}  // namespace

int http_status(error_class value) noexcept {
  switch (value) {
    case error_class::invalid_argument:
      return 422;
    case error_class::unauthenticated:
      return 401;
    case error_class::permission_denied:
      return 403;
    case error_class::not_found:
      return 404;
    case error_class::already_exists:
      return 409;
    case error_class::failed_precondition:
      return 409;
    case error_class::resource_exhausted:
      return 429;
    case error_class::unavailable:
      return 503;
    case error_class::deadline_exceeded:
      return 504;
    case error_class::cancelled:
      return 503;
    case error_class::data_loss:
    case error_class::internal:
      break;
  }
  return 500;
}

int exit_status(error_class value) noexcept {
  switch (value) {
    case error_class::invalid_argument:
      return 2;
    case error_class::not_found:
      return 3;
    case error_class::already_exists:
    case error_class::failed_precondition:
      return 4;
    case error_class::unavailable:
      return 5;
    case error_class::unauthenticated:
    case error_class::permission_denied:
      return 6;
    default:
      return 1;
  }
}

HttpResponse detail_response(int status, std::string_view detail) {
  boost::json::object body;
  body["detail"] = detail;
  return HttpResponse(status, to_json(body));
}

HttpResponse token_error(const Error& error) {
  if (error.code() == errc::token_missing && error.detail() != "missing_token") {
    HttpResponse out = detail_response(401, "Not authenticated");
    out.headers.emplace_back("WWW-Authenticate", "Bearer");
    return out;
  }
  std::string reason(name(error.code()));
  if (error.code() == errc::token_type)
    reason = "wrong_token_type";
  else if (error.code() == errc::token_missing)
    reason = "missing_token";
  else if (error.code() == errc::token_invalid)
    reason = "invalid_token: " + error.detail();
  else if (error.code() == errc::revoked || error.code() == errc::user_inactive)
    reason = "token_revoked";
  return detail_response(401, "Authentication failed: " + reason);
}

HttpResponse client_error(ClientRoute route, const Error& error) {
  for (const Row& row : rows) {
    if (row.route != route || row.code != error.code()) continue;
    HttpResponse out = detail_response(row.status, row.detail);
    if (error.code() == errc::throttled) out.headers.emplace_back("Retry-After", error.detail());
    return out;
  }
  if (takes_bearer(route) && about_token(error.code())) return token_error(error);
  int status = http_status(class_of(error.code()));
  // Doubt is said in one word that no client takes for proof (I-10).
  if (status == 503 || status == 504) {
    HttpResponse out = detail_response(503, "unavailable");
    out.headers.emplace_back("Retry-After", "2");
    return out;
  }
  return detail_response(status, status == 500 ? "internal_error" : name(error.code()));
}

}  // namespace tornado::inline v1
