#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/export.hpp"

namespace tornado::inline v1 {

/// What was found about one link of the chain from an account to a packet.
enum class Found : std::uint8_t {
  good,     ///< as it should be
  wrong,    ///< this keeps the device from the network
  note,     ///< worth knowing; not the cause
  unknown,  ///< could not be asked, or follows from something before
};

TORNADO_API std::string_view name(Found found) noexcept;

/// One link: `gateway`, `account`, `sign_in`, `device`, `session`, `lease`, `peer`, `handshake`, `policy`, `firewall`.
class WhyStep {
 public:
  WhyStep(std::string check_, Found found_, std::string detail_, std::string remedy_ = std::string())
      : check(std::move(check_)), found(found_), detail(std::move(detail_)), remedy(std::move(remedy_)) {}
  std::string check;
  Found found;
  std::string detail;  ///< what was seen, for a person
  std::string remedy;  ///< what to do about it; empty where nothing is wrong
};

/// Why a device does or does not reach the network, in the order in which things depend on each other.
class Why {
 public:
  Why() {}
  const WhyStep* first_wrong() const noexcept {
    for (const auto& step : steps)
      if (step.found == Found::wrong) return &step;
    return nullptr;
  }
  std::string subject;  ///< user name, and the device if there is one
  std::vector<WhyStep> steps;
};

}  // namespace tornado::inline v1
