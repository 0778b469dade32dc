#include "verify/capture.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/try.hpp"

namespace tornado::inline v1::verify {
namespace {

constexpr int room = 32 << 20;
constexpr std::size_t longest = 2048;

Result<Descriptor> packet_socket() {
  // Bound to no protocol first: nothing may come in before the filter stands.
  Descriptor out(::socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!out) return failed("packet socket (CAP_NET_RAW is needed: run as root)");
  (void)::setsockopt(out.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  return out;
}

Result<void> start(const Descriptor& socket, int interface) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = interface;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return failed("capture");
  return {};
}

/// A busy gateway carries more than we could read: the kernel sorts out what comes in by other interfaces.
Result<void> filter(const Descriptor& socket, int lane) {
  const auto ancillary = [](int field) { return static_cast<std::uint32_t>(SKF_AD_OFF + field); };
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ancillary(SKF_AD_IFINDEX)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(lane), 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(::if_nametoindex("lo")), 2, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ancillary(SKF_AD_PKTTYPE)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, static_cast<std::uint32_t>(longest)),
  };
  sock_fprog whole{static_cast<unsigned short>(std::size(program)), program};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole) != 0) return failed("filter");
  return {};
}

/// A socket of both families on a port the kernel chooses; of IPv4 alone where there is no IPv6.
Result<Descriptor> listening(int type, std::uint16_t& port) {
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in6);
  Descriptor out(::socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  address.ss_family = AF_INET6;
  int off = 0;
  if (out) (void)::setsockopt(out.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (!out || ::bind(out.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
    out = Descriptor(::socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    address.ss_family = AF_INET;
    size = sizeof(sockaddr_in);
    if (!out || ::bind(out.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return failed("a local port");
  }
  if (type == SOCK_STREAM && ::listen(out.get(), 64) != 0) return failed("a local TCP port");
  size = sizeof address;
  ::getsockname(out.get(), reinterpret_cast<sockaddr*>(&address), &size);
  // The port lies at the same place in both families.
  port = ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  return out;
}

Endpoint endpoint_of(const sockaddr_storage& from) {
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(&from);
  if (from.ss_family == AF_INET) return Endpoint(Address::from_v4(ntohl(v4->sin_addr.s_addr)), ntohs(v4->sin_port));
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&from);
  const std::uint8_t* bytes = v6->sin6_addr.s6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    std::uint32_t host = 0;
    for (int i = 12; i < 16; ++i) host = host << 8 | bytes[i];
    return Endpoint(Address::from_v4(host), ntohs(v6->sin6_port));
  }
  std::array<std::uint8_t, 16> copy;
  std::memcpy(copy.data(), bytes, copy.size());
  return Endpoint(Address::from_v6(copy), ntohs(v6->sin6_port));
}

}  // namespace

Result<Capture> Capture::outside(int lane) {
  TRY_PLAIN(auto socket, packet_socket());
  TRY_VOID_PLAIN(filter(socket, lane));
  TRY_VOID_PLAIN(start(socket, 0));
  return Capture(std::move(socket), 0);
}

Result<Capture> Capture::on(int interface) {
  TRY_PLAIN(auto socket, packet_socket());
  TRY_VOID_PLAIN(start(socket, interface));
  return Capture(std::move(socket), interface);
}

std::vector<Packet> Capture::drain() {
  std::vector<Packet> out;
  char bytes[longest];
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    ssize_t n = ::recvfrom(socket_.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (n < 0) return out;
    Packet& packet = out.emplace_back();
    packet.bytes.assign(bytes, static_cast<std::size_t>(n));
    packet.interface = from.sll_ifindex;
    packet.outgoing = from.sll_pkttype == PACKET_OUTGOING;
  }
}

Result<void> Capture::send(const std::string& packet) {
  bool v6 = !packet.empty() && static_cast<unsigned char>(packet[0]) >> 4 == 6;
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(v6 ? ETH_P_IPV6 : ETH_P_IP);
  to.sll_ifindex = interface_;
  ssize_t n = ::sendto(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  return n >= 0 ? Result<void>() : failed("a probe could not be sent");
}

std::uint64_t Capture::lost() {
  tpacket_stats counts{};
  socklen_t size = sizeof counts;
  if (::getsockopt(socket_.get(), SOL_PACKET, PACKET_STATISTICS, &counts, &size) != 0) return 0;
  return counts.tp_drops;
}

Result<Canary> Canary::open() {
  Canary out;
  TRY_PLAIN(out.tcp_, listening(SOCK_STREAM, out.tcp_port_));
  TRY_PLAIN(out.udp_, listening(SOCK_DGRAM, out.udp_port_));
  return out;
}

std::vector<std::string> Canary::datagrams() {
  std::vector<std::string> out;
  char bytes[longest];
  for (ssize_t n; (n = ::recv(udp_.get(), bytes, sizeof bytes, 0)) >= 0;)
    out.emplace_back(bytes, static_cast<std::size_t>(n));
  return out;
}

std::vector<Endpoint> Canary::connections() {
  std::vector<Endpoint> out;
  for (;;) {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    Descriptor one(::accept4(tcp_.get(), reinterpret_cast<sockaddr*>(&from), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!one) return out;
    out.push_back(endpoint_of(from));
  }
}

}  // namespace tornado::inline v1::verify
