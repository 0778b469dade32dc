#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tornado/error.hpp"

namespace tornado::inline v1 {

/// Writes one netlink message: header, family header, attributes. The socket stamps the sequence number.
class NetlinkWriter {
 public:
  /// `room`: bytes set aside, so that writing as many leaves no copy of a secret in memory that was given up.
  NetlinkWriter(std::uint16_t type, std::uint16_t flags, std::size_t room = 0);

  template <class T>
  NetlinkWriter& fixed(const T& header) {
    return raw(&header, sizeof header);
  }
  NetlinkWriter& raw(const void* data, std::size_t size);
  NetlinkWriter& put(std::uint16_t type, std::string_view value);
  NetlinkWriter& put_text(std::uint16_t type, const std::string& text);  ///< with the zero at its end
  NetlinkWriter& put_u8(std::uint16_t type, std::uint8_t value);
  NetlinkWriter& put_u16(std::uint16_t type, std::uint16_t value);
  NetlinkWriter& put_u32(std::uint16_t type, std::uint32_t value);
  NetlinkWriter& put_be32(std::uint16_t type, std::uint32_t value);
  /// Opens a nested attribute; `close` takes what this returns.
  std::size_t open(std::uint16_t type);
  void close(std::size_t nest);
  std::size_t size() const noexcept { return bytes_.size(); }
  std::string take();

 private:
  std::string bytes_;
};

/// One message of a datagram.
class NetlinkMessage {
 public:
  NetlinkMessage() {}
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t sequence = 0;
  std::uint32_t port = 0;
  std::string payload;
};

/// Cuts a datagram into messages. Errors: protocol_error if a length contradicts the bytes.
Result<std::vector<NetlinkMessage>> split_netlink(std::string_view datagram);

/// The attributes of a message or of a nested attribute; views into the bytes it was made from.
class NetlinkAttributes {
 public:
  /// Errors: protocol_error.
  static Result<NetlinkAttributes> parse(std::string_view bytes);
  /// Skips a family header of that size first. Errors: protocol_error.
  static Result<NetlinkAttributes> after(const NetlinkMessage& message, std::size_t header);

  std::optional<std::string_view> find(std::uint16_t type) const noexcept;
  std::optional<std::uint16_t> u16(std::uint16_t type) const noexcept;   ///< empty also for a wrong size
  std::optional<std::uint32_t> u32(std::uint16_t type) const noexcept;   ///< empty also for a wrong size
  std::optional<std::uint32_t> be32(std::uint16_t type) const noexcept;  ///< empty also for a wrong size
  std::optional<std::string> text(std::uint16_t type) const;             ///< up to the first zero
  /// In the order of the bytes: a list has many of the same type.
  const std::vector<std::pair<std::uint16_t, std::string_view>>& all() const noexcept { return all_; }

 private:
  std::vector<std::pair<std::uint16_t, std::string_view>> all_;
};

/// One attribute after the other, without memory of its own:
/// `AttributeWalk walk(bytes); while (walk.next()) ...; TRY_VOID_PLAIN(walk.outcome());`
class AttributeWalk {
 public:
  explicit AttributeWalk(std::string_view bytes) : rest_(bytes) {}
  /// False: there is no other, or the bytes are no attributes (`outcome`).
  bool next() noexcept;
  std::uint16_t type() const noexcept { return type_; }
  std::string_view value() const noexcept { return value_; }
  /// Errors: protocol_error.
  Result<void> outcome() const;

 private:
  std::string_view rest_, value_;
  std::uint16_t type_ = 0;
  const char* wrong_ = nullptr;
};

/// Answer to a request: NLMSG_ERROR or NLMSG_DONE.
class NetlinkAck {
 public:
  NetlinkAck() {}
  int error = 0;     ///< errno, positive; 0 is success
  std::string text;  ///< the kernel's explanation (extended ack), often empty
};
Result<NetlinkAck> decode_ack(const NetlinkMessage& message);

/// What an exchange brought.
class NetlinkReply {
 public:
  NetlinkReply() {}
  /// Success, also for the listed errno values. `what` begins the detail of an error.
  Result<void> check(std::string_view what, std::initializer_list<int> tolerated = {}) const;

  NetlinkAck ack;
  std::vector<NetlinkMessage> messages;
  /// How long the system calls took that sent the request, which is when the kernel executes it. Zero: sent beside the
  /// loop.
  std::chrono::steady_clock::duration sending{};
};

/// What of a dump stays in the reply.
enum class Keep : std::uint8_t { all, last };

/// Collects the answers to the requests with sequence numbers `first` to `last`, of which only the last one is
/// acknowledged.
class NetlinkExchange {
 public:
  NetlinkExchange(std::uint32_t first, std::uint32_t last, Keep keep = Keep::all)
      : first_(first), last_(last), keep_(keep) {}
  /// Answers to others, which may have timed out, are ignored. Errors: protocol_error.
  Result<void> take(NetlinkMessage message);
  bool complete() const noexcept { return complete_; }
  /// What was kept since the last call.
  std::vector<NetlinkMessage> take_messages() { return std::exchange(reply_.messages, {}); }
  /// EINTR stands for a dump whose subject changed underneath (NLM_F_DUMP_INTR): it has to be repeated.
  NetlinkReply take_reply();

 private:
  std::uint32_t first_;
  std::uint32_t last_;
  Keep keep_;
  bool interrupted_ = false;
  bool complete_ = false;
  NetlinkReply reply_;
};

}  // namespace tornado::inline v1
