#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tornado/error.hpp"
#include "tornado/export.hpp"

namespace tornado::inline v1 {

/// A point in time: UTC, milliseconds since 1970. The default value means "never" or "not known".
using Instant = std::chrono::sys_time<std::chrono::milliseconds>;

/// The wall clock was set forward or (negative) back, and somebody has noticed.
class ClockStep {
 public:
  /// `since`: what was read from `since` to `noticed` was read after the step.
  ClockStep(std::chrono::milliseconds by_, Instant since_, Instant noticed_)
      : by(by_), since(since_), noticed(noticed_) {}
  bool is_after(Instant moment) const noexcept { return moment >= since && moment <= noticed; }
  std::chrono::milliseconds by;
  Instant since, noticed;
};
using Seconds = std::chrono::seconds;

/// A short text in 16 bytes: a UUID (RFC 9562, lower case with hyphens) as its number, other texts of up to 15 bytes in
/// place, longer ones on the heap. Gateways keep some twenty of them for each session. Ordered and compared as text.
class TORNADO_API NameText {
 public:
  NameText() noexcept = default;
  explicit NameText(std::string_view text);
  NameText(const NameText& other) : bytes_(other.bytes_) {
    if (is_long()) copy_long();
  }
  NameText(NameText&& other) noexcept : bytes_(std::exchange(other.bytes_, Bytes{})) {}
  NameText& operator=(NameText other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~NameText() {
    if (is_long()) free_long();
  }

  std::string str() const;
  bool empty() const noexcept { return bytes_[kind_at] == 0; }
  std::size_t hash() const noexcept;
  std::strong_ordering operator<=>(const NameText& other) const noexcept;
  bool operator==(const NameText& other) const noexcept {
    // A text has one representation, so only long ones can be equal in different bytes.
    return bytes_ == other.bytes_ || (is_long() && other.is_long() && long_text() == other.long_text());
  }

 private:
  using Bytes = std::array<std::uint8_t, 16>;
  // The byte in which a UUID has its variant, binary 10: otherwise the length of what is in place, or `long_kind`.
  static constexpr std::size_t kind_at = 8;
  static constexpr std::uint8_t long_kind = 0x40;
  static constexpr std::size_t most_text = 36;  // of a UUID

  bool is_uuid() const noexcept { return (bytes_[kind_at] & 0xc0) == 0x80; }
  bool is_long() const noexcept { return bytes_[kind_at] == long_kind; }
  bool read_uuid(std::string_view text) noexcept;
  std::string_view view(std::array<char, most_text>& room) const noexcept;
  const std::string& long_text() const noexcept;
  void copy_long();
  void free_long() noexcept;

  alignas(std::uint64_t) Bytes bytes_{};
};

/// A text with a meaning of its own, so that a lane cannot be passed where a device is wanted.
/// At most 128 bytes by convention; checked where the text enters the system.
template <class Tag>
class Name {
 public:
  Name() = default;
  explicit Name(std::string_view text) : text_(text) {}

  std::string str() const { return text_.str(); }
  bool empty() const noexcept { return text_.empty(); }
  std::size_t hash() const noexcept { return text_.hash(); }
  auto operator<=>(const Name&) const = default;
  bool operator==(const Name&) const = default;

 private:
  NameText text_;
};

/// "vpn", "tor", later one per tenant: a name, not an enumeration. There are few, and each session names them five
/// times: a lane is a pointer to its text, and every text that was ever one stays for the life of the process.
/// Ordered as text. Any thread.
class TORNADO_API Lane {
 public:
  Lane() noexcept = default;
  explicit Lane(std::string_view text);

  const std::string& str() const noexcept;
  bool empty() const noexcept { return text_ == nullptr; }
  std::size_t hash() const noexcept { return std::hash<const void*>()(text_); }
  std::strong_ordering operator<=>(const Lane& other) const noexcept;
  bool operator==(const Lane&) const noexcept = default;

 private:
  const std::string* text_ = nullptr;  // one for each text
};

using Owner = Name<struct OwnerTag>;        ///< who holds leases and peers: a device, an agent, a router
using UserId = Name<struct UserTag>;        ///< UUID, lower case with hyphens
using DeviceId = Name<struct DeviceTag>;    ///< UUID, lower case with hyphens
using SignInId = Name<struct SignInTag>;    ///< one refresh-token family; UUID
using Instance = Name<struct InstanceTag>;  ///< one connection of a device; UUIDv7 (RFC 9562), sorts by time

/// Owner under which the leases and peers of a device stand.
inline Owner owner_of(const DeviceId& device) {
  return Owner(device.str());
}

/// An IPv4 or IPv6 address. IPv4 is kept apart from IPv4-mapped IPv6. The default value is 0.0.0.0.
class TORNADO_API Address {
 public:
  Address() = default;
  /// Dotted IPv4 or RFC 4291 IPv6 without zone and prefix. Errors: invalid_argument.
  static Result<Address> parse(std::string_view text);
  static Address from_v4(std::uint32_t host_order) noexcept;
  static Address from_v6(const std::array<std::uint8_t, 16>& network_order) noexcept;

  std::string str() const;
  bool is_v4() const noexcept { return v4_; }
  bool is_loopback() const noexcept;
  bool is_unspecified() const noexcept;
  std::uint32_t v4() const noexcept;
  /// 4 or 16 bytes in network order.
  std::string_view bytes() const noexcept;
  auto operator<=>(const Address&) const = default;
  bool operator==(const Address&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
  bool v4_ = true;
};

/// An address block in CIDR notation with no host bit set.
class TORNADO_API Prefix {
 public:
  Prefix() = default;
  /// Errors: invalid_argument (malformed, host bits set, length out of range).
  static Result<Prefix> parse(std::string_view text);
  /// Throws std::invalid_argument; for literals.
  explicit Prefix(std::string_view text);
  Prefix(Address base, int length);

  const Address& base() const noexcept { return base_; }
  int length() const noexcept { return length_; }
  bool contains(const Address& address) const noexcept;
  bool overlaps(const Prefix& other) const noexcept;
  /// The address at an offset from the base. The offset must lie inside the block.
  Address at(std::uint64_t offset) const noexcept;
  /// Offset of an address of this block from its base; only the low 64 bits count in IPv6.
  std::uint64_t offset_of(const Address& address) const noexcept;
  /// Number of addresses, saturating at 2^63.
  std::uint64_t size() const noexcept;
  std::string str() const;
  auto operator<=>(const Prefix&) const = default;
  bool operator==(const Prefix&) const = default;

 private:
  Address base_;
  int length_ = 0;
};

/// Address and UDP or TCP port.
class TORNADO_API Endpoint {
 public:
  Endpoint() = default;
  Endpoint(Address address_, std::uint16_t port_) : address(address_), port(port_) {}
  /// "192.0.2.1:80" or "[2001:db8::1]:80". Errors: invalid_argument.
  static Result<Endpoint> parse(std::string_view text);
  std::string str() const;
  auto operator<=>(const Endpoint&) const = default;
  bool operator==(const Endpoint&) const = default;

  Address address;
  std::uint16_t port = 0;
};

/// A Curve25519 public key (RFC 7748): 32 bytes, written in standard base64 (44 characters).
class TORNADO_API PublicKey {
 public:
  static constexpr std::size_t size = 32;

  PublicKey() = default;
  explicit PublicKey(const std::array<std::uint8_t, size>& bytes) : bytes_(bytes) {}
  /// Exactly 44 characters of canonical base64. Errors: key_invalid.
  static Result<PublicKey> parse(std::string_view base64);
  std::string str() const;
  const std::array<std::uint8_t, size>& bytes() const noexcept { return bytes_; }
  bool is_zero() const noexcept;
  /// The seven encodings whose shared secret is all zero (RFC 7748 section 6.1), non-canonical ones included.
  bool is_low_order() const noexcept;
  auto operator<=>(const PublicKey&) const = default;
  bool operator==(const PublicKey&) const = default;

 private:
  std::array<std::uint8_t, size> bytes_{};
};

/// The addresses one owner has on one lane.
class LaneAddress {
 public:
  LaneAddress() = default;
  LaneAddress(Lane lane_, Address v4_, std::optional<Address> v6_ = std::nullopt)
      : lane(std::move(lane_)), v4(v4_), v6(v6_) {}
  bool operator==(const LaneAddress&) const = default;

  Lane lane;
  Address v4;
  std::optional<Address> v6;
};

/// The addresses of one owner, a lane each. Copies share them: lease, session and peer of an owner have the same ones.
/// One block of memory for all copies, a pointer for each; copies may be used on different threads.
class TORNADO_API LaneAddresses {
 public:
  LaneAddresses() noexcept = default;
  LaneAddresses(const std::vector<LaneAddress>& addresses);  // NOLINT(google-explicit-constructor)
  LaneAddresses(std::initializer_list<LaneAddress> addresses) : LaneAddresses(std::vector<LaneAddress>(addresses)) {}
  LaneAddresses(const LaneAddresses& other) noexcept : block_(other.block_) {
    if (block_ != nullptr) block_->holders.fetch_add(1, std::memory_order_relaxed);
  }
  LaneAddresses(LaneAddresses&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  LaneAddresses& operator=(LaneAddresses other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~LaneAddresses() {
    if (block_ != nullptr) let_go();
  }

  auto begin() const noexcept { return all().begin(); }
  auto end() const noexcept { return all().end(); }
  std::size_t size() const noexcept { return all().size(); }
  bool empty() const noexcept { return all().empty(); }
  const LaneAddress& front() const noexcept { return all().front(); }
  const LaneAddress& operator[](std::size_t at) const noexcept { return all()[at]; }
  /// Lives as long as any copy of these addresses.
  std::span<const LaneAddress> all() const noexcept;
  bool operator==(const LaneAddresses& other) const noexcept {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  /// Those of which `holds` is true.
  template <class Predicate>
  LaneAddresses where(Predicate holds) const {
    std::vector<LaneAddress> out;
    for (const LaneAddress& address : all())
      if (holds(address)) out.push_back(address);
    return out.size() == size() ? *this : LaneAddresses(out);
  }

 private:
  /// Followed by the addresses.
  struct Block {
    std::atomic<std::uint32_t> holders{1};
    std::uint32_t count = 0;
  };
  void let_go() noexcept;

  Block* block_ = nullptr;
};

/// ISO 8601 in UTC with milliseconds, "2026-01-02T03:04:05.678Z"; empty for the default Instant.
TORNADO_API std::string iso8601(Instant instant);
/// Reads what `iso8601` writes. Errors: invalid_argument.
TORNADO_API Result<Instant> parse_iso8601(std::string_view text);

}  // namespace tornado::inline v1

template <class Tag>
struct std::hash<tornado::Name<Tag>> {
  std::size_t operator()(const tornado::Name<Tag>& name) const noexcept { return name.hash(); }
};
template <>
struct std::hash<tornado::Lane> {
  std::size_t operator()(const tornado::Lane& lane) const noexcept { return lane.hash(); }
};
template <>
struct std::hash<tornado::Address> {
  std::size_t operator()(const tornado::Address& address) const noexcept {
    return std::hash<std::string_view>()(address.bytes());
  }
};
template <>
struct std::hash<tornado::PublicKey> {
  std::size_t operator()(const tornado::PublicKey& key) const noexcept {
    return std::hash<std::string_view>()(
        std::string_view(reinterpret_cast<const char*>(key.bytes().data()), key.bytes().size()));
  }
};
