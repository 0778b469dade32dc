#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tornado/error.hpp"
#include "tornado/secret.hpp"

namespace tornado::inline v1 {

/// Argon2id (RFC 9106), version 0x13, in the PHC string form that the reference implementation writes:
/// $argon2id$v=19$m=65536,t=3,p=4$<salt>$<hash>.
class Argon2Hash {
 public:
  /// invalid_argument: another algorithm, version or form, or costs beyond the format's limits.
  static Result<Argon2Hash> parse(std::string_view encoded);
  std::string str() const;

  std::uint32_t memory_kib = 65536, passes = 3, lanes = 4;
  std::string salt, hash;
};

/// The memory of one computation, kept for the next one: the page faults of 64 MiB cost a quarter of a login.
/// One thread at a time.
class Argon2Arena {
 public:
  Argon2Arena();
  ~Argon2Arena();
  Argon2Arena(const Argon2Arena&) = delete;
  Argon2Arena& operator=(const Argon2Arena&) = delete;
  /// Computes the hash for the parameters and salt of `like`, `size` bytes. internal: the library refused.
  Result<std::string> compute(std::string_view password, const Argon2Hash& like, std::size_t size);
  /// Gives the memory back.
  void release();

  struct Memory;

 private:
  std::unique_ptr<Memory> memory_;
};

}  // namespace tornado::inline v1
