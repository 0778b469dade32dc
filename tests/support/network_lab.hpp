#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/descriptor.hpp"
#include "tornado/types.hpp"

/// Network namespaces made by a test, and plain sockets in them. One thread visits them all: a socket stays in the
/// namespace it was made in.
namespace tornado::lab {

/// How long a test waits for something that must happen. What must not happen is followed by something that must.
inline constexpr int patience_ms = 30000;

inline Descriptor opened(int fd) {
  if (fd < 0) throw std::runtime_error(std::string("descriptor: ") + std::strerror(errno));
  return Descriptor(fd);
}

/// A network namespace of its own; it goes with the last descriptor and socket.
class Namespace {
 public:
  Namespace() {
    std::thread([this] {
      if (::unshare(CLONE_NEWNET) == 0) fd_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    }).join();
    if (fd_ < 0) throw std::runtime_error("no network namespaces here");
  }
  ~Namespace() { ::close(fd_); }
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  int fd() const { return fd_; }

  static bool available() {
    bool made = false;
    std::thread([&] { made = ::unshare(CLONE_NEWNET) == 0; }).join();
    return made;
  }

 private:
  int fd_ = -1;
};

/// The calling thread is in a namespace as long as this lives.
class Inside {
 public:
  explicit Inside(const Namespace& where) : back_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (::setns(where.fd(), CLONE_NEWNET) != 0) throw std::runtime_error("setns");
  }
  ~Inside() { ::setns(back_.get(), CLONE_NEWNET); }

 private:
  Descriptor back_;
};

/// Runs a shell command in a namespace and returns what it printed. Throws if it fails.
inline std::string sh(const Namespace& where, const std::string& command) {
  Inside inside(where);
  std::FILE* pipe = ::popen(("set -e; " + command + " 2>&1").c_str(), "r");
  std::string out;
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  if (::pclose(pipe) != 0) throw std::runtime_error(command + ": " + out);
  return out;
}

inline Endpoint endpoint(const std::string& text) {
  return Endpoint::parse(text).value();
}

class SocketAddress {
 public:
  SocketAddress() = default;
  explicit SocketAddress(const Endpoint& endpoint) {
    if (endpoint.address.is_v4()) {
      auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
      v4->sin_family = AF_INET;
      v4->sin_port = htons(endpoint.port);
      std::memcpy(&v4->sin_addr, endpoint.address.bytes().data(), 4);
      size = sizeof *v4;
    } else {
      auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
      v6->sin6_family = AF_INET6;
      v6->sin6_port = htons(endpoint.port);
      std::memcpy(&v6->sin6_addr, endpoint.address.bytes().data(), 16);
      size = sizeof *v6;
    }
  }
  Endpoint read() const {
    char text[INET6_ADDRSTRLEN] = {};
    if (storage.ss_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
      ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
      return Endpoint(*Address::parse(text), ntohs(v4->sin_port));
    }
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return Endpoint(*Address::parse(text), ntohs(v6->sin6_port));
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }

  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
};

inline bool wait_for(int fd, short events, int ms = patience_ms) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, ms) == 1;
}

inline Descriptor make_socket(const Namespace& where, const Endpoint& local, int type, int protocol = 0) {
  Inside inside(where);
  Descriptor out =
      opened(::socket(local.address.is_v4() ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  int on = 1;
  ::setsockopt(out.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!local.address.is_v4()) ::setsockopt(out.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  SocketAddress address(local);
  if (::bind(out.get(), address.get(), address.size) != 0)
    throw std::runtime_error("bind " + local.str() + ": " + std::strerror(errno));
  return out;
}

class Datagram {
 public:
  std::string text;
  Endpoint from;
};

class Udp {
 public:
  Udp(const Namespace& where, const std::string& local) : socket_(make_socket(where, endpoint(local), SOCK_DGRAM)) {}
  /// Failures are as good as a lost packet: the route may be closed.
  void send(const Endpoint& to, const std::string& text) {
    SocketAddress address(to);
    (void)!::sendto(socket_.get(), text.data(), text.size(), 0, address.get(), address.size);
  }
  void send(const std::string& to, const std::string& text) { send(endpoint(to), text); }
  std::optional<Datagram> receive(int ms = patience_ms) {
    if (ms > 0 && !wait_for(socket_.get(), POLLIN, ms)) return std::nullopt;
    char buffer[2048];
    SocketAddress from;
    ssize_t n = ::recvfrom(socket_.get(), buffer, sizeof buffer, 0, from.get(), &from.size);
    if (n < 0) return std::nullopt;
    return Datagram{std::string(buffer, static_cast<std::size_t>(n)), from.read()};
  }
  /// What has arrived already.
  std::optional<Datagram> arrived() { return receive(0); }

 private:
  Descriptor socket_;
};

class Stream {
 public:
  Stream(Descriptor socket, Endpoint peer) : peer(peer), socket_(std::move(socket)) {}
  /// Begins to connect.
  Stream(const Namespace& where, const std::string& local, const std::string& to)
      : peer(endpoint(to)), socket_(make_socket(where, endpoint(local), SOCK_STREAM)) {
    SocketAddress address(peer);
    (void)!::connect(socket_.get(), address.get(), address.size);
  }
  bool connected(int ms = patience_ms) {
    if (!wait_for(socket_.get(), POLLOUT, ms)) return false;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    SocketAddress address;
    return error == 0 && ::getpeername(socket_.get(), address.get(), &address.size) == 0;
  }
  /// The other side answered with a reset, now or to the connection that stood.
  bool refused(int ms = patience_ms) {
    if (!wait_for(socket_.get(), POLLERR | POLLHUP, ms)) return false;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error == ECONNREFUSED || error == ECONNRESET;
  }
  void send(const std::string& text) { (void)!::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL); }
  std::string receive(int ms = patience_ms) {
    if (ms > 0) wait_for(socket_.get(), POLLIN, ms);
    char buffer[2048];
    ssize_t n = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string();
  }
  int segment_size() const {
    int mss = 0;
    socklen_t size = sizeof mss;
    ::getsockopt(socket_.get(), IPPROTO_TCP, 2 /* TCP_MAXSEG */, &mss, &size);
    return mss;
  }

  Endpoint peer;

 private:
  Descriptor socket_;
};

class Listener {
 public:
  Listener(const Namespace& where, const std::string& local)
      : socket_(make_socket(where, endpoint(local), SOCK_STREAM)) {
    if (::listen(socket_.get(), 16) != 0) throw std::runtime_error("listen");
  }
  std::optional<Stream> accept(int ms = patience_ms) {
    if (ms > 0 && !wait_for(socket_.get(), POLLIN, ms)) return std::nullopt;
    SocketAddress from;
    int fd = ::accept4(socket_.get(), from.get(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return std::nullopt;
    return Stream(opened(fd), from.read());
  }
  std::optional<Stream> arrived() { return accept(0); }

 private:
  Descriptor socket_;
};

/// Echo requests.
class Ping {
 public:
  Ping(const Namespace& where, const std::string& local) : v6_(!Address::parse(local)->is_v4()) {
    Endpoint from(*Address::parse(local), 0);
    socket_ = make_socket(where, from, SOCK_RAW, v6_ ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP});
  }
  void send(const std::string& to, std::uint16_t id) {
    unsigned char packet[8] = {static_cast<unsigned char>(v6_ ? 128 : ICMP_ECHO), 0, 0, 0, 0, 0, 0, 1};
    packet[4] = static_cast<unsigned char>(id >> 8);
    packet[5] = static_cast<unsigned char>(id & 255);
    std::uint32_t sum = (packet[0] << 8) + id + 1U;
    sum = (sum & 0xffff) + (sum >> 16);
    packet[2] = static_cast<unsigned char>(~sum >> 8);
    packet[3] = static_cast<unsigned char>(~sum & 255);
    SocketAddress address(Endpoint(*Address::parse(to), 0));
    (void)!::sendto(socket_.get(), packet, sizeof packet, 0, address.get(), address.size);
  }
  /// Waits for an answer; those to others are kept.
  bool answered(std::uint16_t id, int ms = patience_ms) {
    auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
    while (seen_.count(id) == 0) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      if (ms > 0 && !wait_for(socket_.get(), POLLIN, std::max(0, static_cast<int>(left.count())))) return false;
      unsigned char packet[256];
      ssize_t n = ::recv(socket_.get(), packet, sizeof packet, 0);
      if (n < 0) return false;
      const unsigned char* icmp = packet + (v6_ ? 0 : 4 * (packet[0] & 15));
      if (icmp[0] == (v6_ ? 129 : ICMP_ECHOREPLY)) seen_.insert(icmp[4] << 8 | icmp[5]);
    }
    return true;
  }

 private:
  bool v6_;
  Descriptor socket_;
  std::set<int> seen_;
};

/// Whole IP packets, header and all, as no socket of a protocol would send them.
class RawIp {
 public:
  RawIp(const Namespace& where, const std::string& local) : from_(*Address::parse(local)) {
    Inside inside(where);
    socket_ = opened(::socket(from_.is_v4() ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  }
  /// `fragment`: offset in units of eight bytes, of IPv4.
  void send(const std::string& to, unsigned char protocol, std::uint16_t fragment = 0) {
    Address target = *Address::parse(to);
    std::string packet(from_.is_v4() ? 20 : 40, '\0'), payload(64, '\1');
    if (from_.is_v4()) {
      // The kernel fills in length and checksum.
      packet[0] = 0x45;
      packet[6] = static_cast<char>(fragment >> 8);
      packet[7] = static_cast<char>(fragment & 255);
      packet[8] = 64;
      packet[9] = static_cast<char>(protocol);
      packet.replace(12, 4, from_.bytes()).replace(16, 4, target.bytes());
    } else {
      packet[0] = 0x60;
      packet[5] = static_cast<char>(payload.size());
      packet[6] = static_cast<char>(protocol);
      packet[7] = 64;
      packet.replace(8, 16, from_.bytes()).replace(24, 16, target.bytes());
    }
    packet += payload;
    SocketAddress address(Endpoint(target, 0));
    (void)!::sendto(socket_.get(), packet.data(), packet.size(), 0, address.get(), address.size);
  }

 private:
  Address from_;
  Descriptor socket_;
};

/// Everything that arrives at an interface.
class Capture {
 public:
  Capture(const Namespace& where, const std::string& interface) {
    Inside inside(where);
    socket_ = opened(::socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("capture on " + interface);
  }

  struct Packet {
    Address source, destination;
    unsigned char protocol = 0;
    unsigned char type = 0;  ///< first byte after the header of IPv6: of ICMPv6 its type
    bool outgoing = false;

    std::string str() const {
      return source.str() + " -> " + destination.str() + " protocol " + std::to_string(protocol);
    }
    /// What every IPv6 interface says by itself: neighbour discovery and group membership.
    bool housekeeping() const {
      return !source.is_v4() &&
             ((protocol == IPPROTO_ICMPV6 && type >= 130 && type <= 137) || destination == *Address::parse("ff02::16"));
    }
  };

  /// The IP packets so far.
  std::vector<Packet> drain() {
    std::vector<Packet> out;
    unsigned char bytes[2048];
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    ssize_t n;
    while ((n = ::recvfrom(socket_.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size)) >= 0) {
      Packet packet;
      packet.outgoing = from.sll_pkttype == PACKET_OUTGOING;
      if (n >= 20 && bytes[0] >> 4 == 4) {
        packet.source = v4(bytes + 12);
        packet.destination = v4(bytes + 16);
        packet.protocol = bytes[9];
      } else if (n >= 40 && bytes[0] >> 4 == 6) {
        packet.source = v6(bytes + 8);
        packet.destination = v6(bytes + 24);
        packet.protocol = bytes[6];
        if (n > 40) packet.type = bytes[40];
      } else {
        continue;
      }
      out.push_back(packet);
    }
    return out;
  }

 private:
  static Address v4(const unsigned char* at) {
    return Address::from_v4(std::uint32_t{at[0]} << 24 | at[1] << 16 | at[2] << 8 | at[3]);
  }
  static Address v6(const unsigned char* at) {
    std::array<std::uint8_t, 16> bytes;
    std::memcpy(bytes.data(), at, 16);
    return Address::from_v6(bytes);
  }
  Descriptor socket_;
};

/// The calling thread has no capabilities as long as this lives.
class Unprivileged {
 public:
  Unprivileged() { ::syscall(SYS_setresuid, -1, 65534, -1); }
  ~Unprivileged() { ::syscall(SYS_setresuid, -1, 0, -1); }
};

/// Packets of one processor are handled in order: what was sent first has arrived, or not, when the later one has.
inline void stay_on_one_processor() {
  cpu_set_t all, one;
  ::sched_getaffinity(0, sizeof all, &all);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &all)) {
      CPU_SET(cpu, &one);
      break;
    }
  ::sched_setaffinity(0, sizeof one, &one);
}

}  // namespace tornado::lab
