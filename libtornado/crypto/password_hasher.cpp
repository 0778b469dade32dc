#include "crypto/password_hasher.hpp"

#include <openssl/crypto.h>

#include "base/try.hpp"
#include "base/uuid.hpp"

namespace tornado::inline v1 {

PasswordHasher::PasswordHasher(Runtime& runtime, PasswordPolicy policy) : runtime_(runtime), policy_(policy) {}

Result<std::string> PasswordHasher::compute(const Secret& password, const Argon2Hash& like, std::size_t size) {
  std::unique_ptr<Argon2Arena> arena;
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      arena = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!arena) arena = std::make_unique<Argon2Arena>();
  auto result = arena->compute(password.reveal(), like, size);
  work_ += static_cast<std::uint64_t>(like.memory_kib) * static_cast<std::uint64_t>(like.passes);
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(arena));
  return result;
}

Task<std::string> PasswordHasher::hash(Secret password) {
  Argon2Hash wanted;
  wanted.memory_kib = policy_.memory_kib;
  wanted.passes = policy_.passes;
  wanted.lanes = policy_.lanes;
  wanted.salt = random_bytes(16);
  auto work = [&]() -> Result<std::string> { return compute(password, wanted, 32); };
  TRY(wanted.hash, co_await runtime_.offload(Blocking::hashing, work));
  co_return wanted.str();
}

bool PasswordHasher::affordable(const Argon2Hash& hash) const {
  return hash.memory_kib <= policy_.most_memory_kib && hash.passes <= policy_.most_passes &&
         hash.lanes <= policy_.most_lanes;
}

Task<bool> PasswordHasher::verify(Secret password, std::string encoded) {
  auto stored = Argon2Hash::parse(encoded);
  if (!stored || !affordable(*stored)) {
    runtime_.log().write(LogLevel::error, "password_hash_unusable",
                         {{"detail", stored ? "costs too much" : "malformed"}});
    co_return co_await verify_nothing(std::move(password));
  }
  auto work = [&]() -> Result<std::string> { return compute(password, *stored, stored->hash.size()); };
  TRY(auto computed, co_await runtime_.offload(Blocking::hashing, work));
  co_return CRYPTO_memcmp(computed.data(), stored->hash.data(), computed.size()) == 0;
}

Task<bool> PasswordHasher::verify_nothing(Secret password) {
  Argon2Hash like;
  like.memory_kib = policy_.memory_kib;
  like.passes = policy_.passes;
  like.lanes = policy_.lanes;
  like.salt = std::string(16, '\0');
  auto work = [&]() -> Result<std::string> { return compute(password, like, 32); };
  TRY(auto computed, co_await runtime_.offload(Blocking::hashing, work));
  (void)computed;
  co_return false;
}

void PasswordHasher::trim() {
  std::lock_guard lock(mutex_);
  idle_.clear();
}

}  // namespace tornado::inline v1
