#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "verify/descriptor.hpp"
#include "verify/probe.hpp"

namespace tornado::inline v1::verify {

/// A packet from its IP header on, and where it was seen.
class Packet {
 public:
  Packet() {}
  std::string bytes;  ///< at most the first 2048
  int interface = 0;
  bool outgoing = false;
};

/// Packets as the links of a network namespace carry them (packet(7)). Blocking program, one thread; needs CAP_NET_RAW.
class Capture {
 public:
  /// Packets that leave by any interface but loopback, and all packets of the interface `lane`. Of the namespace of
  /// the calling thread.
  static Result<Capture> outside(int lane);
  /// Everything on one interface; `send` sends on it.
  static Result<Capture> on(int interface);

  int fd() const noexcept { return socket_.get(); }
  /// What has come since.
  std::vector<Packet> drain();
  /// A whole IP packet, as it is.
  Result<void> send(const std::string& packet);
  /// Packets there was no room for, since the last call.
  std::uint64_t lost();

 private:
  Capture(Descriptor socket, int interface) : socket_(std::move(socket)), interface_(interface) {}
  Descriptor socket_;
  int interface_;
};

/// A local TCP and a local UDP port of every address of this host: what a probe brings there got in. One thread.
class Canary {
 public:
  static Result<Canary> open();
  std::uint16_t tcp_port() const noexcept { return tcp_port_; }
  std::uint16_t udp_port() const noexcept { return udp_port_; }
  int tcp_fd() const noexcept { return tcp_.get(); }
  int udp_fd() const noexcept { return udp_.get(); }
  /// Datagrams that came since.
  std::vector<std::string> datagrams();
  /// Peers of the connections that came since; they are closed.
  std::vector<Endpoint> connections();

 private:
  Canary() {}
  Descriptor tcp_, udp_;
  std::uint16_t tcp_port_ = 0, udp_port_ = 0;
};

}  // namespace tornado::inline v1::verify
