#pragma once

#include <span>
#include <string>
#include <vector>

#include "verify/packet_codec.hpp"

namespace tornado::inline v1::verify {

/// What was seen of one probe.
class Evidence {
 public:
  Evidence() {}
  bool arrived = false;              ///< it came out of the tunnel on the gateway
  std::vector<std::string> outside;  ///< packets of it that left by another interface, or to another device
  bool delivered = false;            ///< a local socket that waits for it got it
  std::vector<Answer> answers;       ///< `none`: one that no mode gives, see `strange`
  std::string strange;               ///< what that was
};

enum class Verdict : std::uint8_t {
  held,      ///< it came to the gateway and no further, or its mode answered as it should
  leaked,    ///< it left the gateway
  answered,  ///< it reached something on the gateway or beyond that it should not
  error,     ///< nothing is proven
};
std::string_view name(Verdict verdict) noexcept;

/// One line of the outcome.
class Finding {
 public:
  Finding() {}
  std::string probe, what;
  int family = 4;
  Verdict verdict = Verdict::error;
  std::string observed;
};

/// What kind of answer a packet is that came back through the tunnel.
Answer kind_of(const Seen& packet) noexcept;

/// Pure. `lost`: packets the capture had no room for; with any, nothing counts as held.
Finding judge(const Probe& probe, const Evidence& evidence, std::uint64_t lost = 0);

/// The worst of them; `held` for none.
Verdict worst(std::span<const Finding> findings) noexcept;

}  // namespace tornado::inline v1::verify
