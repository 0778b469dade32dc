#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace tornado::inline v1 {

/// Puts the calling thread into network and mount namespaces of its own, with loopback up and an empty
/// /run/wireguard, and back again. Make it before the Runtime: threads and children made meanwhile live inside.
class PrivateNamespace {
 public:
  PrivateNamespace() : net_(open_self("net")), mount_(open_self("mnt")) {
    check(::unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "unshare (the tests of real interfaces need root)");
    check(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "making mounts private");
    ::mkdir("/run/wireguard", 0755);
    check(::mount("tmpfs", "/run/wireguard", "tmpfs", 0, nullptr) == 0, "mounting /run/wireguard");
    raise_loopback();
  }
  ~PrivateNamespace() {
    (void)::setns(net_, CLONE_NEWNET);
    (void)::setns(mount_, CLONE_NEWNS);
    ::close(net_);
    ::close(mount_);
  }
  PrivateNamespace(const PrivateNamespace&) = delete;
  PrivateNamespace& operator=(const PrivateNamespace&) = delete;

 private:
  static void check(bool good, const std::string& what) {
    if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));
  }
  static int open_self(const std::string& kind) {
    int fd = ::open(("/proc/thread-self/ns/" + kind).c_str(), O_RDONLY | O_CLOEXEC);
    check(fd >= 0, "opening the " + kind + " namespace");
    return fd;
  }
  static void raise_loopback() {
    int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    bool up = ::ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    ::close(fd);
    check(up, "raising loopback");
  }

  int net_, mount_;
};

}  // namespace tornado::inline v1
