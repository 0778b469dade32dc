#include "base/encoding.hpp"

#include <array>

namespace tornado::inline v1 {
namespace {

constexpr std::string_view standard_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view url_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

constexpr std::array<std::int8_t, 256> inverse(std::string_view alphabet) {
  std::array<std::int8_t, 256> table{};
  for (auto& entry : table) entry = -1;
  for (std::size_t i = 0; i < alphabet.size(); ++i)
    table[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::int8_t>(i);
  return table;
}
constexpr auto standard_inverse = inverse(standard_alphabet);
constexpr auto url_inverse = inverse(url_alphabet);

std::string encode(std::string_view bytes, std::string_view alphabet, bool pad) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  std::uint32_t buffer = 0;
  int bits = 0;
  for (char c : bytes) {
    buffer = buffer << 8 | static_cast<std::uint8_t>(c);
    bits += 8;
    while (bits >= 6) out += alphabet[buffer >> (bits -= 6) & 63];
  }
  if (bits > 0) out += alphabet[buffer << (6 - bits) & 63];
  while (pad && out.size() % 4 != 0) out += '=';
  return out;
}

/// Decodes letters only; the left-over bits of the last letter must be zero if `strict`.
std::optional<std::string> decode(std::string_view letters, const std::array<std::int8_t, 256>& table, bool strict) {
  if (letters.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(letters.size() * 3 / 4);
  std::uint32_t buffer = 0;
  int bits = 0;
  for (char c : letters) {
    int value = table[static_cast<std::uint8_t>(c)];
    if (value < 0) return std::nullopt;
    buffer = buffer << 6 | static_cast<std::uint32_t>(value);
    bits += 6;
    if (bits >= 8) out += static_cast<char>(buffer >> (bits -= 8) & 255);
  }
  if (strict && (buffer & ((1U << bits) - 1)) != 0) return std::nullopt;
  return out;
}

}  // namespace

std::string base64(std::string_view bytes) {
  return encode(bytes, standard_alphabet, true);
}

std::string base64url(std::string_view bytes) {
  return encode(bytes, url_alphabet, false);
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  return decode(text, standard_inverse, true);
}

std::optional<std::string> from_base64url(std::string_view text) {
  return decode(text, url_inverse, true);
}

std::optional<std::string> from_base64_lenient(std::string_view text) {
  std::string letters;
  letters.reserve(text.size());
  std::size_t padding = 0;
  for (char c : text) {
    if (c == '=') {
      ++padding;
      if ((letters.size() + padding) % 4 == 0 && letters.size() % 4 >= 2) break;
    } else if (standard_inverse[static_cast<std::uint8_t>(c)] >= 0) {
      if (padding > 0) padding = 0;
      letters += c;
    }
  }
  if (letters.size() % 4 != 0 && (letters.size() + padding) % 4 != 0) return std::nullopt;
  return decode(letters, standard_inverse, false);
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (char c : bytes) {
    out += digits[static_cast<std::uint8_t>(c) >> 4];
    out += digits[static_cast<std::uint8_t>(c) & 15];
  }
  return out;
}

std::optional<std::string> from_hex(std::string_view text) {
  auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (text.size() % 2 != 0) return std::nullopt;
  std::string out;
  out.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

}  // namespace tornado::inline v1
