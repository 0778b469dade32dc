#pragma once

#include <string_view>

#include "http/http_codec.hpp"

namespace tornado::inline v1 {

/// HTTP status of an error class: the one table that HTTP answers derive from.
int http_status(error_class value) noexcept;
/// Exit status of the admin CLI for an error class (architecture section 12).
int exit_status(error_class value) noexcept;

enum class ClientRoute : std::uint8_t { login, reauth, logout, initiate, heartbeat, disconnect, verify };

/// The answer that unchanged clients expect for an error on a route: status and `detail` of contract 1.4, with the
/// statuses corrected where section 18 says so.
HttpResponse client_error(ClientRoute route, const Error& error);
/// 401 for a token that was refused.
HttpResponse token_error(const Error& error);
HttpResponse detail_response(int status, std::string_view detail);

}  // namespace tornado::inline v1
