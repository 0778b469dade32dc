#include "tornado/error.hpp"

#include <array>

namespace tornado::inline v1 {
namespace {

struct Entry {
  errc code;
  std::string_view name;
  error_class klass;
};

constexpr std::array entries{
    Entry{errc::internal, "internal", error_class::internal},
    Entry{errc::invalid_argument, "invalid_argument", error_class::invalid_argument},
    Entry{errc::invalid_config, "invalid_config", error_class::invalid_argument},
    Entry{errc::invalid_envelope, "invalid_envelope", error_class::invalid_argument},
    Entry{errc::invalid_credentials, "invalid_credentials", error_class::unauthenticated},
    Entry{errc::user_inactive, "user_inactive", error_class::unauthenticated},
    Entry{errc::missing_fields, "missing_fields", error_class::invalid_argument},
    Entry{errc::token_missing, "token_missing", error_class::unauthenticated},
    Entry{errc::token_invalid, "token_invalid", error_class::unauthenticated},
    Entry{errc::token_expired, "token_expired", error_class::unauthenticated},
    Entry{errc::token_type, "token_type", error_class::unauthenticated},
    Entry{errc::token_reused, "token_reused", error_class::unauthenticated},
    Entry{errc::revoked, "revoked", error_class::unauthenticated},
    Entry{errc::throttled, "throttled", error_class::resource_exhausted},
    Entry{errc::overloaded, "overloaded", error_class::unavailable},
    Entry{errc::device_limit, "device_limit", error_class::resource_exhausted},
    Entry{errc::not_found, "not_found", error_class::not_found},
    Entry{errc::already_exists, "already_exists", error_class::already_exists},
    Entry{errc::conflict, "conflict", error_class::already_exists},
    Entry{errc::failed_precondition, "failed_precondition", error_class::failed_precondition},
    Entry{errc::permission_denied, "permission_denied", error_class::permission_denied},
    Entry{errc::pool_exhausted, "pool_exhausted", error_class::resource_exhausted},
    Entry{errc::key_invalid, "key_invalid", error_class::invalid_argument},
    Entry{errc::key_in_use, "key_in_use", error_class::already_exists},
    Entry{errc::interface_missing, "interface_missing", error_class::unavailable},
    Entry{errc::superseded, "superseded", error_class::cancelled},
    Entry{errc::session_expired, "session_expired", error_class::not_found},
    Entry{errc::store_unavailable, "store_unavailable", error_class::unavailable},
    Entry{errc::disk_full, "disk_full", error_class::unavailable},
    Entry{errc::unavailable, "unavailable", error_class::unavailable},
    Entry{errc::backend_failed, "backend_failed", error_class::unavailable},
    Entry{errc::protocol_error, "protocol_error", error_class::internal},
    Entry{errc::too_large, "too_large", error_class::invalid_argument},
    Entry{errc::deadline_exceeded, "deadline_exceeded", error_class::deadline_exceeded},
    Entry{errc::cancelled, "cancelled", error_class::cancelled},
    Entry{errc::wrong_thread, "wrong_thread", error_class::failed_precondition},
    Entry{errc::data_loss, "data_loss", error_class::data_loss},
    Entry{errc::unimplemented, "unimplemented", error_class::internal},
    Entry{errc::tor_missing, "tor_missing", error_class::failed_precondition},
    Entry{errc::tor_too_old, "tor_too_old", error_class::failed_precondition},
    Entry{errc::tor_config_refused, "tor_config_refused", error_class::invalid_argument},
    Entry{errc::tor_port_taken, "tor_port_taken", error_class::unavailable},
    Entry{errc::tor_directory, "tor_directory", error_class::unavailable},
    Entry{errc::tor_died, "tor_died", error_class::unavailable},
    Entry{errc::tor_breaker, "tor_breaker", error_class::unavailable},
    Entry{errc::tor_stuck, "tor_stuck", error_class::unavailable},
    Entry{errc::tor_data_limit, "tor_data_limit", error_class::resource_exhausted},
    Entry{errc::tor_clock_skewed, "tor_clock_skewed", error_class::unavailable},
    Entry{errc::tor_authentication, "tor_authentication", error_class::unavailable},
    Entry{errc::tor_unavailable, "tor_unavailable", error_class::unavailable},
};

constexpr bool in_order() {
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (entries[i].code != static_cast<errc>(i + 1)) return false;
  return true;
}
static_assert(in_order(), "the table is indexed by the value of the code");

const Entry& entry(errc code) noexcept {
  auto index = static_cast<std::size_t>(code) - 1;
  return index < entries.size() ? entries[index] : entries[0];
}

}  // namespace

std::string_view name(errc code) noexcept {
  return entry(code).name;
}

error_class class_of(errc code) noexcept {
  return entry(code).klass;
}

std::optional<errc> errc_from_name(std::string_view wanted) noexcept {
  for (const Entry& e : entries)
    if (e.name == wanted) return e.code;
  return std::nullopt;
}

std::string_view name(error_class value) noexcept {
  constexpr std::array<std::string_view, 12> names{"invalid_argument",   "unauthenticated", "permission_denied",
                                                   "not_found",          "already_exists",  "failed_precondition",
                                                   "resource_exhausted", "unavailable",     "deadline_exceeded",
                                                   "cancelled",          "data_loss",       "internal"};
  return names[static_cast<std::size_t>(value)];
}

Exception::Exception(Error error)
    : std::runtime_error(std::string(name(error.code())) + ": " + error.detail()), error_(std::move(error)) {}

}  // namespace tornado::inline v1
