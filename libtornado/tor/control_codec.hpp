#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// One line of a reply of the Tor control protocol (control-spec, section 2.3), without its status.
class ControlLine {
 public:
  ControlLine() {}
  std::string text;
  std::optional<std::string> data;  ///< what followed a `+` line, dots unstuffed, lines ended by '\n'
};

/// A reply, or an asynchronous event (status 650).
class ControlReply {
 public:
  ControlReply() {}
  bool ok() const noexcept { return status >= 200 && status < 300; }
  bool event() const noexcept { return status >= 600; }
  /// The value of `key=value` in an answer to GETINFO; data form included.
  std::optional<std::string_view> value(std::string_view key) const;
  /// "552 Unrecognized key", for an error.
  std::string text() const;

  int status = 0;
  std::vector<ControlLine> lines;
};

/// Splits what a control socket sends into replies. Bytes may come in any portions.
class ControlParser {
 public:
  static constexpr std::size_t line_limit = 1 << 20, reply_limit = 1 << 24;

  /// Errors: protocol_error (not the protocol), too_large. After an error nothing more is taken.
  Result<void> feed(std::string_view bytes);
  /// The next complete reply.
  std::optional<ControlReply> next();

 private:
  Result<void> line(std::string_view text);
  Result<void> head(std::string_view text);

  std::string rest_;
  ControlReply open_;
  std::size_t size_ = 0;  // of the open reply
  bool in_data_ = false, broken_ = false;
  std::deque<ControlReply> ready_;
};

/// `text` as a QuotedString: in double quotes, with backslashes before quotes and backslashes.
std::string quoted(std::string_view text);

/// Words of a line: `KEY=value`, `KEY="quoted value"`, and words without a key in order.
class ControlWords {
 public:
  /// Errors: protocol_error (an unended quote).
  static Result<ControlWords> parse(std::string_view line);
  /// Empty if there is none.
  std::string_view operator[](std::string_view key) const;
  std::string_view at(std::size_t index) const;

  std::vector<std::string> plain;
  std::map<std::string, std::string, std::less<>> keyed;
};

/// Answer to PROTOCOLINFO 1.
class ProtocolInfo {
 public:
  /// Errors: protocol_error.
  static Result<ProtocolInfo> parse(const ControlReply& reply);
  bool offers(std::string_view method) const;

  std::vector<std::string> methods;  ///< NULL, HASHEDPASSWORD, COOKIE, SAFECOOKIE
  std::string cookie_file, tor_version;
};

/// SAFECOOKIE (control-spec, section 3.24): both sides prove that they know the cookie of 32 bytes.
class SafeCookie {
 public:
  SafeCookie(std::string cookie, std::string client_nonce)
      : cookie_(std::move(cookie)), nonce_(std::move(client_nonce)) {}
  std::string challenge() const;  ///< the command
  /// Checks the answer in constant time and gives the AUTHENTICATE command. Errors: protocol_error;
  /// tor_authentication (the server does not know the cookie).
  Result<std::string> authenticate(const ControlReply& answer) const;

 private:
  std::string cookie_, nonce_;
};

/// The version of a tor, "0.4.8.10" or "Tor 0.4.8.10 (git-...)": comparable numbers. Empty: not a version.
std::vector<int> tor_version(std::string_view text);

/// A line of circuit-status, or of a CIRC event without its first word.
class CircuitLine {
 public:
  /// Errors: protocol_error.
  static Result<CircuitLine> parse(std::string_view line);
  std::string id, status, purpose, time_created, conflux, reason;
  std::vector<std::pair<std::string, std::string>> path;  ///< fingerprint (40 hex digits) and nickname
};

/// A STREAM event without its first word. The target is not kept: operators see load, never destinations.
class StreamLine {
 public:
  /// Errors: protocol_error.
  static Result<StreamLine> parse(std::string_view line);
  std::string id, status, circuit;
  std::string source;  ///< address of the client without its port; empty if not said
};

/// The answer to status/bootstrap-phase, or a BOOTSTRAP status event from its severity on.
class BootstrapLine {
 public:
  /// Errors: protocol_error.
  static Result<BootstrapLine> parse(std::string_view line);
  bool warning = false;
  int percent = 0;  ///< 0 to 100
  std::string tag, summary, problem;
};

}  // namespace tornado::inline v1
