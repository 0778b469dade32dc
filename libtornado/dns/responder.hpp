#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tornado/runtime.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Names and their addresses, of both families.
using DnsNames = std::map<std::string, std::vector<Address>>;

/// What a responder says.
class DnsResponderOptions {
 public:
  DnsResponderOptions(Address v4_, std::optional<Address> v6_ = std::nullopt) : v4(v4_), v6(v6_) {}
  Address v4;                 ///< the answer to every question for an A record
  std::optional<Address> v6;  ///< likewise AAAA; without it there is none, so that devices do not wait for IPv6
  Seconds ttl{1};             ///< 0 to 2^31 - 1: how long devices believe it
  DnsNames names;             ///< answered with these addresses instead, and for as long
};

/// Since the responder was made.
class DnsResponderCounts {
 public:
  DnsResponderCounts() {}
  std::uint64_t answered = 0;  ///< with addresses, or with "no such record"
  std::uint64_t refused = 0;   ///< malformed, other classes and operations
  std::uint64_t ignored = 0;   ///< what is no query gets no answer
  std::uint64_t unsent = 0;    ///< the kernel did not take the answer
};

/// A name server over UDP for a lane without network: every name has the address of the gateway (D-101), the
/// gateway's own names have their real ones (I-22). An answer is at most 8 times as long as the query, with one address
/// for a name 3 times; nothing is kept between two queries. Loop thread; must outlive `run`.
class DnsResponder {
 public:
  DnsResponder(Runtime& runtime, DnsResponderOptions options);
  ~DnsResponder();

  /// Binds; more than once for more addresses, before `run` or meanwhile. The address need not exist yet (IP_FREEBIND):
  /// a lane's interface may come later, and go and come again. Name one address, as answers from an unspecified one
  /// leave by whichever the route has. Errors: backend_failed naming the cause.
  Result<void> listen(const Endpoint& endpoint);
  std::vector<Endpoint> endpoints() const;
  /// Answers until it is cancelled. Errors: cancelled.
  Task<void> run();

  /// Replaces the own names. Upper and lower case, and a dot at the end, make no difference.
  void names(const DnsNames& names);
  const DnsResponderCounts& counts() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
