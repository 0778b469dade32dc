#pragma once

#include <sys/types.h>

#include <string>

#include "crypto/seal.hpp"
#include "tornado/types.hpp"
#include "verify/capture.hpp"

namespace tornado::inline v1::verify {

/// The far end of a lane.
class TunnelOptions {
 public:
  TunnelOptions() {}
  std::string program = "wireguard-go";
  std::string socket_dir = "/var/run/wireguard";
  PublicKey server;
  std::uint16_t port = 0;  ///< of the lane's WireGuard, on this host
};

/// A device of a lane in a network namespace of its own: a userspace WireGuard whose UDP socket is in the namespace of
/// the caller and whose interface is in the new one. There are no addresses and no routes in it: what the device sends
/// is written to the interface packet by packet, so that no stack of its own stands between a probe and the lane.
///
/// Blocking, one thread, CAP_NET_ADMIN and CAP_SYS_ADMIN. Everything goes with the object, or with the process.
class Tunnel {
 public:
  /// Errors: permission_denied, not_found (the program), deadline_exceeded, backend_failed.
  static Result<Tunnel> open(const TunnelOptions& options, const X25519Key& key);
  Tunnel(Tunnel&& other) noexcept;
  ~Tunnel();
  Capture& packets() noexcept { return packets_; }

 private:
  Tunnel(Descriptor space, pid_t process, Capture packets);
  Descriptor space_;
  pid_t process_;
  Capture packets_;
};

}  // namespace tornado::inline v1::verify
