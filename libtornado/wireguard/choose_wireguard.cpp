#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>

#include "base/descriptor.hpp"
#include "base/try.hpp"
#include "host/rtnl_codec.hpp"
#include "tornado/wireguard.hpp"
#include "wireguard/genl_codec.hpp"

namespace tornado::inline v1 {
namespace {

/// To load a module takes the kernel a moment; to answer, nothing.
constexpr int patience_seconds = 5;

Error not_asked() {
  return Error(errc::unavailable, std::string("the kernel cannot be asked: ") + std::strerror(errno));
}

/// One request, whose answer is a single message or an error.
Result<NetlinkReply> ask(int protocol, const std::string& request) {
  Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  timeval patience{};
  patience.tv_sec = patience_seconds;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (socket.get() < 0) return not_asked();
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::sendto(socket.get(), request.data(), request.size(), 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) <
      0)
    return not_asked();
  std::string buffer(65'536, '\0');
  ssize_t size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (size < 0) return not_asked();
  TRY_PLAIN(auto messages, split_netlink(std::string_view(buffer.data(), static_cast<std::size_t>(size))));
  NetlinkReply reply;
  for (NetlinkMessage& message : messages) {
    if (message.type == NLMSG_ERROR) {
      TRY_PLAIN(reply.ack, decode_ack(message));
    } else {
      reply.messages.push_back(std::move(message));
    }
  }
  return reply;
}

/// The kind of a link; nothing if it is not there, or cannot be asked for.
std::optional<std::string> kind_of(const std::string& interface) {
  auto reply = ask(NETLINK_ROUTE, rtnl::get_link(interface));
  if (!reply) return std::nullopt;
  for (const NetlinkMessage& message : reply->messages) {
    auto link = rtnl::decode_link(message);
    if (link && *link) return (*link)->kind;
  }
  return std::nullopt;
}

/// Success: the module is there, or was loaded just now.
Result<void> kernel_has_wireguard() {
  TRY_PLAIN(NetlinkReply reply, ask(NETLINK_GENERIC, genl::get_family("wireguard")));
  if (reply.ack.error != 0)
    return Error(errc::failed_precondition,
                 std::string("the kernel has no WireGuard (") + std::strerror(reply.ack.error) + ")");
  return {};
}

}  // namespace

std::string_view name(WireGuardBackend backend) noexcept {
  switch (backend) {
    case WireGuardBackend::kernel:
      return "kernel";
    case WireGuardBackend::memory:
      return "memory";
    default:
      return "userspace";
  }
}

WireGuardChoice choose_wireguard(std::string_view wanted, const std::vector<std::string>& interfaces) {
  if (wanted == "memory") return WireGuardChoice(WireGuardBackend::memory, "as configured; no packet passes");
  if (wanted == "userspace") return WireGuardChoice(WireGuardBackend::userspace, "as configured");
  if (wanted == "kernel") return WireGuardChoice(WireGuardBackend::kernel, "as configured");
  for (const std::string& interface : interfaces) {
    auto kind = kind_of(interface);
    if (kind && *kind != "wireguard")
      return WireGuardChoice(WireGuardBackend::userspace,
                             interface + " is there and no link of the kernel's WireGuard");
  }
  auto there = kernel_has_wireguard();
  if (!there) return WireGuardChoice(WireGuardBackend::userspace, there.error().detail());
  return WireGuardChoice(WireGuardBackend::kernel, "the module answers");
}

}  // namespace tornado::inline v1
