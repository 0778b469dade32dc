#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/probe.hpp"

namespace tornado::inline v1::verify {

/// What makes the packets of one verification known wherever they turn up, addresses and ports rewritten or not: each
/// carries `token` and two hex digits, the number of its probe.
class Marker {
 public:
  /// `token`: 16 lower-case letters and digits, random.
  explicit Marker(std::string token) : token_(std::move(token)) {}
  static Marker random();

  std::string text(std::size_t probe) const;
  /// The number of the probe a packet belongs to, wherever in it the token stands.
  std::optional<std::size_t> find(std::string_view packet) const;

 private:
  std::string token_;
};

/// Source port of TCP and UDP probes: tells which probe an answer without a body belongs to.
std::uint16_t source_port(std::size_t probe) noexcept;

/// The IP packets of a probe, header and checksums included.
std::vector<std::string> encode(const Probe& probe, std::size_t number, const Marker& marker);

/// The last step of a TCP handshake, or its end: sent for the answer to a probe.
std::string tcp_segment(const Probe& probe, std::size_t number, std::uint32_t sequence, std::uint32_t acknowledged,
                        std::uint8_t flags);
inline constexpr std::uint8_t tcp_syn = 0x02, tcp_rst = 0x04, tcp_ack = 0x10;

/// Echo request to the lane's own gateway, which answers it in every mode. `sequence` comes back.
std::string encode_echo(const Address& from, const Address& to, std::uint16_t sequence);

/// The outline of an IP packet; what is cut off or malformed has none.
class Seen {
 public:
  Seen() {}
  Address from, to;
  std::uint8_t protocol = 0;
  std::uint16_t source_port = 0, port = 0;  ///< of TCP and UDP; of an ICMP message 0
  std::uint8_t flags = 0;                   ///< TCP
  std::uint32_t sequence = 0, acknowledged = 0;
  std::uint8_t type = 0;  ///< ICMP
  std::uint16_t echo_sequence = 0;
  std::string str() const;
};
std::optional<Seen> decode(std::string_view packet);

}  // namespace tornado::inline v1::verify
