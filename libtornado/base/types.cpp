#include "tornado/types.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>

#include "base/encoding.hpp"
#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

Error malformed(std::string_view what, std::string_view text) {
  return Error(errc::invalid_argument, "not " + std::string(what) + ": '" + std::string(text.substr(0, 80)) + "'");
}

/// The encodings of points of small order on Curve25519, with the unused top bit cleared.
constexpr std::array<std::string_view, 7> low_order_points{
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  char copy[INET6_ADDRSTRLEN] = {};
  if (text.size() >= sizeof copy || text.find('\0') != text.npos) return malformed("an IP address", text);
  text.copy(copy, text.size());
  Address out;
  if (::inet_pton(AF_INET, copy, out.bytes_.data()) == 1) return out;
  out.v4_ = false;
  if (::inet_pton(AF_INET6, copy, out.bytes_.data()) == 1) return out;
  return malformed("an IP address", text);
}

Address Address::from_v4(std::uint32_t host_order) noexcept {
  Address out;
  std::uint32_t network = htonl(host_order);
  std::memcpy(out.bytes_.data(), &network, 4);
  return out;
}

Address Address::from_v6(const std::array<std::uint8_t, 16>& network_order) noexcept {
  Address out;
  out.bytes_ = network_order;
  out.v4_ = false;
  return out;
}

std::string Address::str() const {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(v4_ ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

bool Address::is_loopback() const noexcept {
  if (v4_) return bytes_[0] == 127;
  static constexpr std::array<std::uint8_t, 16> loopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return bytes_ == loopback6;
}

bool Address::is_unspecified() const noexcept {
  return std::all_of(bytes_.begin(), bytes_.end(), [](std::uint8_t b) { return b == 0; });
}

std::uint32_t Address::v4() const noexcept {
  std::uint32_t network;
  std::memcpy(&network, bytes_.data(), 4);
  return ntohl(network);
}

std::string_view Address::bytes() const noexcept {
  return std::string_view(reinterpret_cast<const char*>(bytes_.data()), v4_ ? 4 : 16);
}

Prefix::Prefix(Address base, int length) : base_(base), length_(length) {
  int bits = base.is_v4() ? 32 : 128;
  if (length < 0 || length > bits) throw std::invalid_argument("prefix length out of range: " + str());
  std::string_view raw = base.bytes();
  for (int bit = length; bit < bits; ++bit)
    if ((static_cast<std::uint8_t>(raw[static_cast<std::size_t>(bit / 8)]) >> (7 - bit % 8) & 1) != 0)
      throw std::invalid_argument("prefix has host bits set: " + str());
}

Result<Prefix> Prefix::parse(std::string_view text) {
  auto slash = text.find('/');
  if (slash == text.npos) return malformed("a prefix (address/length)", text);
  auto base = Address::parse(text.substr(0, slash));
  auto length = number<int>(text.substr(slash + 1));
  if (!base || !length) return malformed("a prefix (address/length)", text);
  try {
    return Prefix(*base, *length);
  } catch (const std::invalid_argument& e) {
    return Error(errc::invalid_argument, e.what());
  }
}

Prefix::Prefix(std::string_view text) {
  auto parsed = parse(text);
  if (!parsed) throw std::invalid_argument(parsed.error().detail());
  *this = *parsed;
}

bool Prefix::contains(const Address& address) const noexcept {
  if (address.is_v4() != base_.is_v4()) return false;
  std::string_view a = base_.bytes(), b = address.bytes();
  int whole = length_ / 8;
  if (a.substr(0, static_cast<std::size_t>(whole)) != b.substr(0, static_cast<std::size_t>(whole))) return false;
  int rest = length_ % 8;
  if (rest == 0) return true;
  auto index = static_cast<std::size_t>(whole);
  int difference = static_cast<std::uint8_t>(a[index]) ^ static_cast<std::uint8_t>(b[index]);
  return difference >> (8 - rest) == 0;
}

bool Prefix::overlaps(const Prefix& other) const noexcept {
  return contains(other.base_) || other.contains(base_);
}

Address Prefix::at(std::uint64_t offset) const noexcept {
  if (base_.is_v4()) return Address::from_v4(base_.v4() + static_cast<std::uint32_t>(offset));
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), base_.bytes().data(), 16);
  for (std::size_t i = 0; i < 8; ++i)
    bytes[15 - i] = static_cast<std::uint8_t>(bytes[15 - i] | (offset >> (8 * i) & 255));
  return Address::from_v6(bytes);
}

std::uint64_t Prefix::offset_of(const Address& address) const noexcept {
  if (base_.is_v4()) return address.v4() - base_.v4();
  std::uint64_t low = 0, base_low = 0;
  for (std::size_t i = 8; i < 16; ++i) {
    low = low << 8 | static_cast<std::uint8_t>(address.bytes()[i]);
    base_low = base_low << 8 | static_cast<std::uint8_t>(base_.bytes()[i]);
  }
  return low - base_low;
}

std::uint64_t Prefix::size() const noexcept {
  int host_bits = (base_.is_v4() ? 32 : 128) - length_;
  return std::uint64_t(1) << std::min(host_bits, 63);
}

std::string Prefix::str() const {
  return base_.str() + "/" + std::to_string(length_);
}

Result<Endpoint> Endpoint::parse(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == text.npos) return malformed("an endpoint (address:port)", text);
  std::string_view host = text.substr(0, colon);
  bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  auto address = Address::parse(host);
  auto port = number<std::uint16_t>(text.substr(colon + 1));
  if (!address || !port || address->is_v4() == bracketed) return malformed("an endpoint (address:port)", text);
  return Endpoint(*address, *port);
}

std::string Endpoint::str() const {
  std::string host = address.is_v4() ? address.str() : "[" + address.str() + "]";
  return host + ":" + std::to_string(port);
}

Result<PublicKey> PublicKey::parse(std::string_view text) {
  auto bytes = text.size() == 44 ? from_base64(text) : std::nullopt;
  if (!bytes || bytes->size() != size) return Error(errc::key_invalid, "a key is 32 bytes in base64, 44 characters");
  std::array<std::uint8_t, size> raw{};
  std::memcpy(raw.data(), bytes->data(), size);
  return PublicKey(raw);
}

std::string PublicKey::str() const {
  return base64(std::string_view(reinterpret_cast<const char*>(bytes_.data()), size));
}

bool PublicKey::is_zero() const noexcept {
  return std::all_of(bytes_.begin(), bytes_.end(), [](std::uint8_t b) { return b == 0; });
}

bool PublicKey::is_low_order() const noexcept {
  auto masked = bytes_;
  masked[31] &= 0x7f;
  std::string text = hex(std::string_view(reinterpret_cast<const char*>(masked.data()), size));
  return std::find(low_order_points.begin(), low_order_points.end(), text) != low_order_points.end();
}

std::string iso8601(Instant instant) {
  if (instant == Instant()) return {};
  auto day = std::chrono::floor<std::chrono::days>(instant);
  std::chrono::year_month_day date(day);
  std::chrono::hh_mm_ss time(instant - day);
  char text[48];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()), static_cast<int>(time.subseconds().count()));
  return text;
}

Result<Instant> parse_iso8601(std::string_view text) {
  if (text.empty()) return Instant();
  int year = 0, ms = 0;
  unsigned month = 0, day = 0, hour = 0, minute = 0, second = 0;
  int used = 0;
  std::string copy(text);
  int fields = std::sscanf(copy.c_str(), "%4d-%2u-%2uT%2u:%2u:%2u.%3dZ%n", &year, &month, &day, &hour, &minute, &second,
                           &ms, &used);
  std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
  bool whole = fields == 7 && static_cast<std::size_t>(used) == copy.size();
  if (!whole || !date.ok() || hour > 23 || minute > 59 || second > 60) return malformed("a time", text);
  return Instant(std::chrono::sys_days(date)) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second) + std::chrono::milliseconds(ms);
}

Lane::Lane(std::string_view text) {
  if (text.empty()) return;
  static std::mutex mutex;
  // Lanes that are static may outlive any other.
  static auto& texts = *new std::set<std::string, std::less<>>;
  std::lock_guard lock(mutex);
  auto known = texts.find(text);
  text_ = known == texts.end() ? &*texts.emplace(text).first : &*known;
}

const std::string& Lane::str() const noexcept {
  static const std::string none;
  return text_ == nullptr ? none : *text_;
}

std::strong_ordering Lane::operator<=>(const Lane& other) const noexcept {
  return text_ == other.text_ ? std::strong_ordering::equal : str().compare(other.str()) <=> 0;
}

namespace {

/// Of the addresses behind the block that `memory` begins with.
constexpr std::size_t addresses_at = 8;

LaneAddress* addresses_in(void* memory) noexcept {
  return std::launder(reinterpret_cast<LaneAddress*>(static_cast<std::byte*>(memory) + addresses_at));
}

}  // namespace

LaneAddresses::LaneAddresses(const std::vector<LaneAddress>& addresses) {
  static_assert(sizeof(Block) <= addresses_at && addresses_at % alignof(LaneAddress) == 0);
  if (addresses.empty()) return;
  void* memory = ::operator new(addresses_at + addresses.size() * sizeof(LaneAddress));
  auto* first = reinterpret_cast<LaneAddress*>(static_cast<std::byte*>(memory) + addresses_at);
  try {
    std::uninitialized_copy(addresses.begin(), addresses.end(), first);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  block_ = new (memory) Block;
  block_->count = static_cast<std::uint32_t>(addresses.size());
}

std::span<const LaneAddress> LaneAddresses::all() const noexcept {
  if (block_ == nullptr) return {};
  return std::span<const LaneAddress>(addresses_in(block_), block_->count);
}

void LaneAddresses::let_go() noexcept {
  if (block_->holders.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  std::destroy_n(addresses_in(block_), block_->count);
  block_->~Block();
  ::operator delete(block_);
}

}  // namespace tornado::inline v1
