#pragma once

#include <vector>

#include "verify/tunnel.hpp"
#include "verify/verdict.hpp"

namespace tornado::inline v1::verify {

/// Where the default route of this host leads, as far as it can be found out: `upstream` and `uplink`.
void find_uplink(Surroundings& around);

/// Sends every probe through the tunnel and watches what becomes of it: on every interface of the gateway, on its
/// local ports, and in the answers that come back. Takes about a second, and at most ten where packets get lost.
///
/// Blocking, one thread, in the network namespace of the gateway; needs CAP_NET_RAW. The tunnel and the surroundings
/// outlive it.
class Prober {
 public:
  /// `around` without the ports of the canary, which are filled in. Errors: interface_missing (not the gateway's
  /// namespace), permission_denied.
  static Result<Prober> open(Tunnel& tunnel, Surroundings& around);

  /// deadline_exceeded: the gateway does not answer through the tunnel.
  Result<std::vector<Finding>> run();

 private:
  Prober(Tunnel& tunnel, const Surroundings& around, Capture outside, Canary canary, int lane);
  Result<void> await_handshake();
  Result<void> send_missing();
  bool echo(int patience_ms);
  bool all_arrived() const;
  void watch(int ms);
  void read_once(int ms);
  void saw_outside(const Packet& packet);
  void saw_answer(const Packet& packet);
  void answered(std::size_t number, const Seen& packet);
  void unmarked(const Packet& packet, const Seen& seen);

  Tunnel& tunnel_;
  const Surroundings& around_;
  Capture outside_;
  Canary canary_;
  int lane_;
  Marker marker_;
  std::vector<Probe> probes_;
  std::vector<Evidence> evidence_;
  std::vector<std::string> unmarked_;
  std::uint16_t echo_sent_ = 0, echo_seen_ = 0;
};

}  // namespace tornado::inline v1::verify
