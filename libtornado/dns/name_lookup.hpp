#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Addresses of a host name, or of an address written as text, as the host resolves them. Blocking. not_found.
Result<std::vector<Address>> resolve_host(const std::string& name);

/// Looks a name up as the host does (getaddrinfo(3): hosts file, DNS), without waiting for a resolver that is silent.
///
/// Such a call takes as long as the resolver's own timeouts, half a minute and more, and cannot be stopped. It has a
/// thread of its own, one at a time, that nobody joins: whoever lost patience leaves it to itself, and its answer is
/// for who asks next. Loop thread; the destructor waits for nothing.
class NameLookup {
 public:
  using Resolve = std::function<Result<std::vector<Address>>(const std::string&)>;

  /// `resolve` is called in that thread, perhaps when the NameLookup has gone; tests have their own.
  NameLookup(Runtime& runtime, std::string name, Resolve resolve = resolve_host);
  ~NameLookup();
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;

  const std::string& name() const noexcept;

  /// Begins a lookup, unless one goes on or has an answer that nobody has taken. Error: unavailable (there is no thread
  /// to be had).
  Result<void> begin();

  /// There is an answer that nobody has taken: `addresses` does not wait for it.
  bool answered() const noexcept;

  /// The answer to a lookup that begins now, goes on already, or ended while nobody waited. An address written as text
  /// is answered at once. Errors: those of `resolve` (internal: it threw); deadline_exceeded after `patience`, which is
  /// more than 0; that of `begin`; cancelled (also if the NameLookup goes).
  Task<std::vector<Address>> addresses(Seconds patience);

 private:
  struct State;
  static Task<std::vector<Address>> wait(std::shared_ptr<State> state, Seconds patience);
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
