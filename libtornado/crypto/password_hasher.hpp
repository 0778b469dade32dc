#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "crypto/password.hpp"
#include "tornado/runtime.hpp"
#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// Passwords to Argon2id hashes and back to a yes or no, on the hashing threads, with memory that is reused.
class PasswordHasher {
 public:
  PasswordHasher(Runtime& runtime, PasswordPolicy policy);

  /// A new hash with a fresh 16-byte salt. overloaded.
  Task<std::string> hash(Secret password);
  /// Whether a password belongs to a stored hash. A hash that is malformed, or costs more than the policy allows,
  /// matches nothing and is reported in the log. overloaded.
  Task<bool> verify(Secret password, std::string encoded);
  /// Costs what a verification costs, and fails: for accounts that do not exist.
  Task<bool> verify_nothing(Secret password);
  /// KiB filled times passes since the start. Any thread.
  std::uint64_t work() const noexcept { return work_; }
  /// Frees the memory of idle computations. Any thread.
  void trim();

 private:
  Result<std::string> compute(const Secret& password, const Argon2Hash& like, std::size_t size);
  bool affordable(const Argon2Hash& hash) const;

  Runtime& runtime_;
  const PasswordPolicy policy_;
  std::atomic<std::uint64_t> work_ = 0;
  std::mutex mutex_;  // arenas are taken by the hashing threads
  std::vector<std::unique_ptr<Argon2Arena>> idle_;
};

}  // namespace tornado::inline v1
