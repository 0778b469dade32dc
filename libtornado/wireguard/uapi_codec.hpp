#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/key_index.hpp"
#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

// The text protocol of userspace WireGuard (wireguard.com/xplatform): "set=1" and "get=1" with lines "key=value",
// ended by an empty line; keys are written in hex.

inline constexpr std::string_view uapi_get_request = "get=1\n\n";
inline constexpr std::size_t uapi_peers_per_request = 32;

/// The requests of a change, to be sent one after another, each after the answer to the one before. They are secret
/// because the first may carry the private key, and the others preshared keys.
std::vector<Secret> uapi_set_requests(const InterfaceChange& change);

/// Reads one answer, in pieces of any size. The private key is turned into what is public, and no copy of it stays
/// here; preshared keys go to their peers. The caller wipes its own buffers.
///
/// Every line is untrusted: what is not the protocol ends in protocol_error. Unknown keys of good form are skipped, as
/// the protocol asks of its readers. A peer that appears twice is merged.
class UapiParser {
 public:
  static constexpr std::size_t max_line = 1024;
  static constexpr std::size_t max_peers = 1 << 20;
  static constexpr std::size_t max_allowed = 1 << 22;

  enum class Want : std::uint8_t { everything, counters /* allowed IPs are skipped */ };

  /// `expected`: for how many peers to have room from the beginning.
  explicit UapiParser(Want want = Want::everything, std::size_t expected = 0);
  ~UapiParser();
  UapiParser(const UapiParser&) = delete;
  UapiParser& operator=(const UapiParser&) = delete;

  /// Takes bytes. Errors: protocol_error, also for bytes after the end of the answer; the parser is of no more use
  /// then.
  Result<void> feed(std::string_view bytes);
  /// True after the empty line that ends an answer.
  bool done() const noexcept { return done_; }
  /// The number after "errno="; 0 means done. Meaningful once `done`.
  long status() const noexcept { return status_; }
  /// What a "get=1" answer described, without its name. Once, when `done`.
  Interface take() { return std::move(interface_); }

 private:
  Result<void> line(std::string_view text);
  Result<void> interface_line(std::string_view key, std::string_view value);
  Result<void> peer_line(std::string_view key, std::string_view value);
  static Result<void> preshared(Peer& peer, std::string_view value);
  Result<void> begin_peer(std::string_view value);
  static Result<void> skip(std::string_view key);
  void clear_partial() noexcept;

  const Want want_;
  std::string partial_;  // a line that has not ended yet; never grows beyond its first capacity
  Interface interface_;
  KeyIndex index_;
  std::size_t current_ = 0;
  bool in_peer_ = false;
  std::size_t allowed_ = 0;
  Seconds handshake_seconds_{0};
  bool ended_ = false;  // "errno=" was read
  bool done_ = false;
  long status_ = 0;
};

}  // namespace tornado::inline v1
