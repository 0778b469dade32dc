#include "base/uuid.hpp"

#include <openssl/rand.h>

#include <cstdlib>

#include "base/encoding.hpp"

namespace tornado::inline v1 {
namespace {

std::string format(std::string raw, char version) {
  raw[6] = static_cast<char>((raw[6] & 0x0f) | version << 4);
  raw[8] = static_cast<char>((raw[8] & 0x3f) | 0x80);
  std::string text = hex(raw);
  for (std::size_t at : {8, 13, 18, 23}) text.insert(at, 1, '-');
  return text;
}

}  // namespace

std::string random_bytes(std::size_t count) {
  std::string out(count, '\0');
  // Without randomness no key and no id is safe; there is nothing to go on with.
  if (RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(count)) != 1) std::abort();
  return out;
}

std::string uuid4() {
  return format(random_bytes(16), 4);
}

std::string uuid7(Instant now) {
  std::string raw = random_bytes(16);
  auto ms = static_cast<std::uint64_t>(now.time_since_epoch().count());
  for (std::size_t i = 0; i < 6; ++i) raw[i] = static_cast<char>(ms >> (40 - 8 * i) & 255);
  return format(std::move(raw), 7);
}

bool is_uuid(std::string_view text) noexcept {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
    char c = text[i];
    bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (hyphen ? c != '-' : !digit) return false;
  }
  return true;
}

}  // namespace tornado::inline v1
