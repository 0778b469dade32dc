#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/firewall.hpp"

namespace tornado::inline v1 {

/// Somewhere a device may want to go.
class AccessTarget {
 public:
  AccessTarget() {}
  /// "1.1.1.1:443", "1.1.1.1:443/tcp", "[2001:db8::1]:53/udp", "1.1.1.1/icmp" or "2001:db8::1/icmp"; without a protocol
  /// it is tcp. Errors: invalid_argument.
  static Result<AccessTarget> parse(std::string_view text);
  std::string str() const;
  bool operator==(const AccessTarget&) const = default;

  Address address;
  AccessProtocol protocol = AccessProtocol::tcp;
  std::uint16_t port = 0;  ///< 0 for icmp
};

/// Whether a device may go there, and which part of the policy says so.
class AccessVerdict {
 public:
  AccessVerdict() {}
  bool allowed = false;
  std::string rule;    ///< "rights web", "default", "limit guests", "gateway dns", ...
  std::string detail;  ///< in words
};

/// What becomes of a user whose volume of the month is used up.
enum class QuotaAction : std::uint8_t {
  warn,      ///< an event, nothing else
  throttle,  ///< a slower pace for the rest of the month
  block,     ///< nothing but the client API and DNS for the rest of the month
};
TORNADO_API std::string_view name(QuotaAction action) noexcept;

/// How fast a user's devices are, each, and how much all of them together may move in a calendar month (UTC).
class UserLimit {
 public:
  UserLimit() {}
  std::string name;
  std::uint64_t up = 0, down = 0;  ///< bytes a second of each device, from and to it; 0: no limit
  std::uint64_t monthly = 0;       ///< bytes in both directions on all lanes; 0: no quota
  QuotaAction action = QuotaAction::warn;
  std::uint64_t throttle = 0;         ///< bytes a second, each way, once `monthly` is used up
  std::vector<int> warnings{80, 95};  ///< per cent of `monthly`, rising, 1 to 99: an event at each
};

/// What a test of the policy expected and what came out.
class PolicyExpectation {
 public:
  PolicyExpectation() {}
  bool holds() const noexcept { return allowed == verdict.allowed; }
  std::string user;
  AccessTarget target;
  bool allowed = false;  ///< expected
  AccessVerdict verdict;
};

/// Who may reach what, how fast and how much: a document an operator writes, checked and compiled. A value; immutable.
///
/// JSON with comments (docs/operations/policy.md):
///
///     {
///       "groups": {"staff": ["alice", "bob"]},
///       "default": "everything",                       // or "nothing": for those no entry of rights names
///       "rights": [{"name": "web", "who": ["group:staff"], "to": ["any"], "ports": ["tcp/80", "tcp/443", "icmp"]}],
///       "limits": [{"name": "guests", "who": ["user:carol"], "down": "20 Mbit/s", "up": "5 Mbit/s",
///                   "monthly": "50 GB", "then": "throttle", "throttle": "1 Mbit/s", "warn_at": [80, 95]}],
///       "tests": [{"user": "alice", "allow": ["1.1.1.1:443/tcp"], "deny": ["1.1.1.1:25/tcp"]}]
///     }
///
/// Whoever an entry of `rights` names reaches what his entries name together, and nothing else: an allowlist. "any" is
/// every address of both families; "0.0.0.0/0" is IPv4 only, and nothing written in one family opens the other. The
/// first entry of `limits` that names a user counts. The client API and DNS are always in reach.
class TORNADO_API AccessPolicy {
 public:
  /// A policy that limits nobody.
  AccessPolicy();
  ~AccessPolicy();
  AccessPolicy(const AccessPolicy&);
  AccessPolicy(AccessPolicy&&) noexcept;
  AccessPolicy& operator=(const AccessPolicy&);
  AccessPolicy& operator=(AccessPolicy&&) noexcept;

  /// Errors: invalid_argument naming the entry, as in "rights[2].ports: ..."; too_large (1 MiB, 1,000 entries of each
  /// kind, 100,000 compiled grants).
  static Result<AccessPolicy> parse(std::string_view document);

  /// Whether there is nothing in it that the firewall has to know.
  bool empty() const noexcept;
  /// Names of users in groups and entries, folded to lower case, each once.
  std::vector<std::string> users() const;

  /// Of a user name, any case. Without a quota that is used up; see `UserLimit::action`.
  std::uint32_t class_of(std::string_view username) const;
  /// Nothing: no entry names the user.
  std::optional<UserLimit> limit_of(std::string_view username) const;
  /// Of all classes.
  std::vector<AccessGrant> grants() const;
  /// By rights alone: nothing of quotas, lanes and the rest of the ruleset.
  AccessVerdict explain(std::string_view username, const AccessTarget& target) const;
  /// The expectations in the document, each with what it met.
  std::vector<PolicyExpectation> test() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// How a user stands within the month.
class QuotaStanding {
 public:
  QuotaStanding() {}
  std::uint64_t used = 0;   ///< bytes this month
  std::uint64_t limit = 0;  ///< bytes; 0: no quota
  int reached = 0;          ///< the highest threshold in per cent: one of `UserLimit::warnings`, 100, or 0
  QuotaAction action = QuotaAction::warn;
  bool exhausted() const noexcept { return reached >= 100; }
};

/// Where a volume stands under a limit. Pure.
TORNADO_API QuotaStanding standing_of(const UserLimit& limit, std::uint64_t used);

/// A calendar month in UTC, "2026-11"; the next one starts at `end`.
class Month {
 public:
  Month() {}
  static Month of(Instant instant);
  std::string str() const;
  /// So many months earlier.
  Month before(int months) const;
  auto operator<=>(const Month&) const = default;
  int year = 1970;
  unsigned month = 1;
};

}  // namespace tornado::inline v1
