#pragma once

#include <cstring>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// A distinct public key per number; not a point anybody has the private half of.
inline PublicKey test_key(std::uint32_t number) {
  std::array<std::uint8_t, PublicKey::size> bytes{};
  bytes.fill(0x42);
  std::memcpy(bytes.data(), &number, sizeof number);
  return PublicKey(bytes);
}

}  // namespace tornado::inline v1
