#pragma once

#include "tornado/firewall.hpp"
#include "tornado/history.hpp"
#include "tornado/ipam.hpp"
#include "tornado/limits.hpp"
#include "tornado/live_store.hpp"
#include "tornado/session_store.hpp"
#include "tornado/tor_controller.hpp"
#include "tornado/users.hpp"
#include "tornado/why.hpp"
#include "tornado/wireguard.hpp"

namespace tornado::inline v1 {

/// A part of the gateway that does not work.
class BrokenPart {
 public:
  std::string name, detail;
  bool advisory = false;
};

/// How one lane has the device.
class LaneFacts {
 public:
  explicit LaneFacts(Lane lane_) : lane(std::move(lane_)) {}
  Lane lane;
  std::string interface;
  std::uint16_t listen_port = 0;
  LaneMode mode = LaneMode::open;
  std::optional<Error> unreadable;  ///< the interface could not be asked
  std::optional<Peer> peer;
  bool preshared_right = true;  ///< the peer has the session's preshared key, or none if the session has none
};

/// Everything that can be asked about one account and one of its devices, as it was at one moment.
class WhyFacts {
 public:
  WhyFacts() {}
  Instant now;
  bool ready = true;
  std::vector<BrokenPart> broken;
  User user;
  std::vector<ThrottleState> throttles;  ///< of the account
  std::vector<Device> signed_in;         ///< devices with a live sign-in
  std::optional<Device> device;          ///< the one asked about, signed out or not; else the signed in one used last
  std::optional<Session> session;
  std::optional<Session> last_ended;
  std::optional<Lease> lease;
  std::vector<LaneFacts> lanes;
  std::optional<UserLimit> limit;  ///< that counts for the account
  QuotaStanding standing;
  bool reaches_nothing = false;        ///< the policy gives the account no right at all
  std::vector<std::string> exhausted;  ///< lanes without a free address
  std::optional<TorStatus> tor;        ///< none: the gateway runs without
  Seconds handshake_margin{200};
};

/// Judges the facts. Pure.
Why explain(const WhyFacts& facts);

}  // namespace tornado::inline v1
