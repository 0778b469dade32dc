#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "net/netlink_codec.hpp"
#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// Requests and answers of generic netlink and of its family "wireguard" (linux/wireguard.h).
namespace genl {

/// The kernel loads the module of a family that is asked for.
std::string get_family(const std::string& name);
/// Nothing: a message of another type, or one without a number. Errors: protocol_error.
Result<std::optional<std::uint16_t>> decode_family(const NetlinkMessage& message);

/// A dump of one interface with all of its peers.
std::string get_device(std::uint16_t family, const std::string& name);

inline constexpr std::size_t peers_per_message = 32;

/// Writes a change as messages, to be sent one after another, each after the answer to the one before. The change must
/// outlive the writer.
class ChangeWriter {
 public:
  ChangeWriter(std::uint16_t family, const InterfaceChange& change);

  /// True once every message was written; there is at least one.
  bool done() const noexcept { return done_; }
  /// What comes next is about the interface itself: a private key costs one X25519 for each peer that is there, and
  /// replacing removes them all. Only the first message can be that.
  bool begins() const noexcept { return head_; }
  /// The next message, with at most `most` peers. A peer with more allowed IPs than fit below the limit of an
  /// attribute, 64 KiB, goes on in the next one. The first message holds the private key: wipe it.
  std::string next(std::size_t most = peers_per_message);
  /// Peers in the message that was written last.
  std::size_t written() const noexcept { return written_; }
  /// Of the peer that the next message begins with.
  std::size_t position() const noexcept { return peer_; }

 private:
  NetlinkWriter begin() const;
  std::string head() const;
  bool append(NetlinkWriter& out);

  std::uint16_t family_;
  const InterfaceChange& change_;
  std::size_t peer_ = 0;     // the next one
  std::size_t allowed_ = 0;  // how many of its allowed IPs are written
  std::size_t written_ = 0;
  bool head_ = false;
  bool done_ = false;
};

/// Reads the messages of `get_device`. Private keys are skipped and not copied.
///
/// A peer whose allowed IPs go on in the next message comes first there, and is merged. Every message is untrusted:
/// what is not the protocol ends in protocol_error. Unknown attributes are skipped.
class DeviceReader {
 public:
  static constexpr std::size_t max_peers = 1 << 20;
  static constexpr std::size_t max_allowed = 1 << 22;

  enum class Want : std::uint8_t { everything, counters /* allowed IPs and preshared keys are skipped */ };

  /// `expected`: for how many peers to have room from the beginning.
  explicit DeviceReader(std::uint16_t family, Want want = Want::everything, std::size_t expected = 0)
      : family_(family), want_(want) {
    interface_.peers.reserve(expected);
  }

  Result<void> take(const NetlinkMessage& message);
  /// What the messages described. Once.
  Interface take_interface() { return std::move(interface_); }

 private:
  Result<void> attribute(std::uint16_t type, std::string_view value);
  Result<void> peers(std::string_view bytes);
  Result<void> peer(std::string_view bytes);
  Result<void> attribute(Peer& peer, std::uint16_t type, std::string_view value);
  Result<void> allowed(std::string_view bytes, Peer& peer);
  Result<Peer*> peer_with(const PublicKey& key);

  std::uint16_t family_;
  Want want_;
  Interface interface_;
  std::size_t count_ = 0;  // of allowed IPs
};

}  // namespace genl
}  // namespace tornado::inline v1
