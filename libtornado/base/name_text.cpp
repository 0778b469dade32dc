#include <algorithm>
#include <cstring>

#include "tornado/types.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t uuid_length = 36;
constexpr std::string_view digits = "0123456789abcdef";

constexpr bool is_hyphen(std::size_t at) {
  return at == 8 || at == 13 || at == 18 || at == 23;
}

int value_of(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

}  // namespace

NameText::NameText(std::string_view text) {
  if (text.size() < bytes_.size()) {
    std::size_t before = std::min(text.size(), kind_at);
    std::copy_n(text.begin(), before, bytes_.begin());
    std::copy(text.begin() + static_cast<std::ptrdiff_t>(before), text.end(), bytes_.begin() + kind_at + 1);
    bytes_[kind_at] = static_cast<std::uint8_t>(text.size());
  } else if (!read_uuid(text)) {
    auto* kept = new std::string(text);
    bytes_ = {};
    std::memcpy(bytes_.data(), &kept, sizeof kept);
    bytes_[kind_at] = long_kind;
  }
}

bool NameText::read_uuid(std::string_view text) noexcept {
  if (text.size() != uuid_length) return false;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < uuid_length; ++i) {
    if (is_hyphen(i)) {
      if (text[i] != '-') return false;
      continue;
    }
    int value = value_of(text[i]);
    if (value < 0) return false;
    std::uint8_t& byte = bytes_[nibble / 2];
    byte = static_cast<std::uint8_t>((nibble % 2 == 0 ? 0 : byte << 4) | value);
    ++nibble;
  }
  return is_uuid();
}

std::string_view NameText::view(std::array<char, most_text>& room) const noexcept {
  if (is_long()) return long_text();
  if (!is_uuid()) {
    std::size_t size = bytes_[kind_at], before = std::min(size, kind_at);
    std::copy_n(bytes_.begin(), before, room.begin());
    std::copy_n(bytes_.begin() + kind_at + 1, size - before, room.begin() + before);
    return {room.data(), size};
  }
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < uuid_length; ++i) {
    if (is_hyphen(i)) {
      room[i] = '-';
      continue;
    }
    std::uint8_t byte = bytes_[nibble / 2];
    room[i] = digits[nibble % 2 == 0 ? byte >> 4 : byte & 15];
    ++nibble;
  }
  return {room.data(), uuid_length};
}

std::string NameText::str() const {
  std::array<char, most_text> room;
  return std::string(view(room));
}

std::size_t NameText::hash() const noexcept {
  if (is_long()) return std::hash<std::string>()(long_text());
  return std::hash<std::string_view>()(std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size()));
}

std::strong_ordering NameText::operator<=>(const NameText& other) const noexcept {
  if (is_uuid() && other.is_uuid()) return bytes_ <=> other.bytes_;
  std::array<char, most_text> left, right;
  return view(left) <=> other.view(right);
}

const std::string& NameText::long_text() const noexcept {
  const std::string* kept = nullptr;
  std::memcpy(&kept, bytes_.data(), sizeof kept);
  return *kept;
}

void NameText::copy_long() {
  auto* copy = new std::string(long_text());
  std::memcpy(bytes_.data(), &copy, sizeof copy);
}

void NameText::free_long() noexcept {
  delete &long_text();
}

}  // namespace tornado::inline v1
