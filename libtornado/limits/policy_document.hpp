#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tornado/limits.hpp"

namespace tornado::inline v1 {

/// "everyone", "group:staff", "user:alice"; names folded.
class PolicySubject {
 public:
  enum class Kind : std::uint8_t { everyone, group, user };
  Kind kind = Kind::everyone;
  std::string name;
};

class PortRange {
 public:
  AccessProtocol protocol = AccessProtocol::tcp;
  std::uint16_t first = 0, last = 65535;
};

/// An entry of "rights".
class PolicyRight {
 public:
  bool opens(const AccessTarget& target) const noexcept;
  std::string name;
  std::vector<PolicySubject> who;
  std::vector<Prefix> to;  ///< "any" is 0.0.0.0/0 and ::/0
  std::vector<PortRange> ports;
};

/// An entry of "limits".
class PolicyLimit {
 public:
  UserLimit limit;
  std::vector<PolicySubject> who;
};

class PolicyGroup {
 public:
  std::string name;
  std::vector<std::string> members;  ///< folded
};

/// The document, read and checked entry by entry; see `AccessPolicy`.
class PolicyDocument {
 public:
  /// Errors: invalid_argument naming the entry, too_large.
  static Result<PolicyDocument> parse(std::string_view text);

  std::vector<PolicyGroup> groups;
  bool everything_by_default = true;
  std::vector<PolicyRight> rights;
  std::vector<PolicyLimit> limits;
  std::vector<PolicyExpectation> tests;  ///< without verdicts
};

}  // namespace tornado::inline v1
