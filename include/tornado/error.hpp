#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "tornado/export.hpp"

namespace tornado::inline v1 {

/// Everything that can go wrong, one value per cause a caller can act on.
///
/// The name of a value (see `name`) is stable and travels on the wire; the number is not and does not.
enum class errc : std::uint16_t {
  internal = 1,         ///< a bug or an exception nobody expected; the operation ended, the process did not
  invalid_argument,     ///< an argument is malformed or out of range
  invalid_config,       ///< a configuration key is unknown, malformed or contradicts another one
  invalid_envelope,     ///< a sealed login could not be opened (contract 1.3)
  invalid_credentials,  ///< unknown account or wrong password; never told apart
  user_inactive,        ///< the password was right, the account is suspended
  missing_fields,       ///< a mandatory field is empty
  token_missing,        ///< no bearer token
  token_invalid,        ///< signature, form, issuer, audience or type of a token is wrong
  token_expired,        ///< the signature is good, `exp` has passed
  token_type,           ///< an access token was wanted and a refresh token was given, or the reverse
  token_reused,         ///< a refresh token was used twice; its family is revoked
  revoked,              ///< account, device or sign-in behind a token is no longer valid
  throttled,            ///< too many failures; try again later
  overloaded,           ///< a bounded queue is full; try again later
  device_limit,         ///< every slot of the account is taken by an online device
  not_found,            ///< no such object
  already_exists,       ///< an object with that identity exists, or ranges overlap
  conflict,             ///< the object is already in the wanted state, or changed meanwhile
  failed_precondition,  ///< the object is not in a state that allows this
  permission_denied,    ///< the caller may not do this
  pool_exhausted,       ///< no address is left in a pool
  key_invalid,          ///< a WireGuard key is malformed, of low order, or one of our own
  key_in_use,           ///< the key belongs to another owner
  interface_missing,    ///< the WireGuard interface does not exist
  superseded,           ///< a newer request of the same device took the place of this one
  session_expired,      ///< proof that the device has no session any more
  store_unavailable,    ///< database or live store cannot answer now
  disk_full,            ///< no space left; nothing was changed
  unavailable,          ///< in doubt: a part needed for an answer is missing right now
  backend_failed,       ///< WireGuard, firewall or kernel refused a change
  protocol_error,       ///< a peer sent bytes that are not its protocol
  too_large,            ///< a message exceeds its limit
  deadline_exceeded,    ///< no answer in time
  cancelled,            ///< the caller gave up or the runtime stops
  wrong_thread,         ///< a blocking call was made on the loop thread
  data_loss,            ///< stored data is damaged or contradicts itself
  unimplemented,        ///< this implementation of a seam does not have the verb
  tor_missing,          ///< the tor program is not there or cannot be run
  tor_too_old,          ///< tor is older than 0.4.7
  tor_config_refused,   ///< tor does not take its configuration
  tor_port_taken,       ///< another program holds a port that tor listens on
  tor_directory,        ///< tor cannot use its data directory
  tor_died,             ///< tor has ended and is started again
  tor_breaker,          ///< tor has ended too often; it rests before the next start
  tor_stuck,            ///< tor makes no progress towards the network
  tor_data_limit,       ///< the data limit of tor is used up; it sleeps until the month is over
  tor_clock_skewed,     ///< the clock of this host is wrong; tor cannot use the network
  tor_authentication,   ///< tor's control socket and its cookie do not belong together
  tor_unavailable,      ///< tor does not run, or its control socket does not answer
};

/// Canonical class of an error; HTTP status, exit code and Python exception derive from it.
enum class error_class : std::uint8_t {
  invalid_argument,
  unauthenticated,
  permission_denied,
  not_found,
  already_exists,
  failed_precondition,
  resource_exhausted,
  unavailable,
  deadline_exceeded,
  cancelled,
  data_loss,
  internal,
};

/// Stable snake_case name of a code, for example "pool_exhausted". Never empty.
TORNADO_API std::string_view name(errc code) noexcept;

/// Stable snake_case name of a class.
TORNADO_API std::string_view name(error_class value) noexcept;

/// The code with that name, if there is one. Used by clients of the control socket.
TORNADO_API std::optional<errc> errc_from_name(std::string_view name) noexcept;

/// Class of a code.
TORNADO_API error_class class_of(errc code) noexcept;

/// A code and a short text for logs and operators. The text never reaches a client of the client API.
class Error {
 public:
  Error() = default;
  Error(errc code, std::string detail = {}) : code_(code), detail_(std::move(detail)) {}

  errc code() const noexcept { return code_; }
  const std::string& detail() const noexcept { return detail_; }

 private:
  errc code_ = errc::internal;
  std::string detail_;
};

/// Thrown only by `Result::value` and by constructors that are given an impossible configuration.
class TORNADO_API Exception : public std::runtime_error {
 public:
  explicit Exception(Error error);
  const Error& error() const noexcept { return error_; }

 private:
  Error error_;
};

/// A value or an Error: the part of std::expected<T, Error> that Tornado uses.
///
/// `operator*` and `operator->` require a value, `error()` requires none; `value()` throws Exception instead.
/// Distinct objects may be used from distinct threads.
template <class T>
class [[nodiscard]] Result {
 public:
  Result() requires std::is_default_constructible_v<T> : state_(std::in_place_index<0>) {}

  template <class U = T>
  requires(std::is_constructible_v<T, U&&> && !std::is_same_v<std::remove_cvref_t<U>, Error> &&
           !std::is_same_v<std::remove_cvref_t<U>, errc> && !std::is_same_v<std::remove_cvref_t<U>, Result>)
      Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  Result(errc code) : Result(Error(code)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }

  T value() && {
    if (!has_value()) throw Exception(error());
    return std::move(**this);
  }
  const T& value() const& {
    if (!has_value()) throw Exception(error());
    return **this;
  }
  const Error& error() const noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  Result(errc code) : error_(Error(code)) {}

  bool has_value() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return has_value(); }
  void value() const {
    if (error_) throw Exception(*error_);
  }
  const Error& error() const noexcept { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace tornado::inline v1
