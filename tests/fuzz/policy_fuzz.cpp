// A policy document: whatever is taken opens in the compiled sets what it opens in words, with no two ranges that
// overlap; whatever is refused says why.
#include <cstdint>
#include <cstdlib>

#include "firewall/ruleset.hpp"
#include "tornado/limits.hpp"

using namespace tornado;

namespace {

/// How many elements of a set have the target.
int hits(const Ruleset& ruleset, std::uint32_t access_class, const AccessTarget& target) {
  int most = 0;
  for (const ElementSet& set : ruleset.sets) {
    bool echo = set.type == SetType::echo4 || set.type == SetType::echo6;
    int here = 0;
    for (const AccessGrant& grant : set.grants)
      here += grant.access_class == access_class && grant.protocol == target.protocol &&
              grant.to.contains(target.address) &&
              (echo || (grant.first_port <= target.port && target.port <= grant.last_port));
    if (here > 1) std::abort();
    most += here;
  }
  return most;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)AccessTarget::parse(text);
  auto policy = AccessPolicy::parse(text);
  if (!policy) {
    if (policy.error().detail().empty()) std::abort();
    return 0;
  }
  AccessRules rules;
  rules.grants = policy->grants();
  Ruleset ruleset;
  ruleset.sets = access_sets(&rules);
  auto users = policy->users();
  users.emplace_back("nobody else");
  for (std::size_t i = 0; i < std::min<std::size_t>(users.size(), 8); ++i) {
    (void)policy->limit_of(users[i]);
    const std::uint32_t access_class = policy->class_of(users[i]);
    for (const char* place : {"1.1.1.1:443", "192.0.2.7:53/udp", "[2001:db8::1]:8080", "10.0.0.1/icmp"}) {
      const AccessTarget target = *AccessTarget::parse(place);
      const bool open = access_class == open_class || hits(ruleset, access_class, target) > 0;
      if (open != policy->explain(users[i], target).allowed) std::abort();
    }
  }
  for (const auto& expectation : policy->test())
    if (expectation.verdict.detail.empty()) std::abort();
  return 0;
}
