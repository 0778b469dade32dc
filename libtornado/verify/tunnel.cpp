#include "verify/tunnel.hpp"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <chrono>
#include <optional>
#include <thread>

#include "base/encoding.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"

namespace tornado::inline v1::verify {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds patience{10};
constexpr std::chrono::milliseconds step{20};
constexpr int program_missing = 127;

/// Runs `work` on a thread of its own, which may wander into other namespaces.
template <class Work>
void aside(Work&& work) {
  std::thread(std::forward<Work>(work)).join();
}

Result<Descriptor> make_namespace() {
  Result<Descriptor> out = Error(errc::internal);
  aside([&] {
    if (::unshare(CLONE_NEWNET) != 0)
      out = failed("a network namespace (CAP_SYS_ADMIN is needed: run as root)");
    else if (Descriptor here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); here)
      out = std::move(here);
    else
      out = failed("/proc/thread-self/ns/net");
  });
  return out;
}

/// Ends a process unless it is handed on.
class Process {
 public:
  explicit Process(pid_t pid) : pid_(pid) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ > 0) end(pid_);
  }
  pid_t release() { return std::exchange(pid_, 0); }
  /// How it ended, if it has.
  std::optional<int> ended() {
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  static void end(pid_t pid) {
    ::kill(pid, SIGTERM);
    for (auto until = Clock::now() + std::chrono::seconds(2); Clock::now() < until; std::this_thread::sleep_for(step))
      if (::waitpid(pid, nullptr, WNOHANG) == pid) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }

 private:
  pid_t pid_;
};

pid_t run(const std::string& program, const std::string& interface) {
  const char* argv[] = {program.c_str(), "-f", interface.c_str(), nullptr};
  const char* environment[] = {"LOG_LEVEL=silent", "WG_PROCESS_FOREGROUND=1",
                               "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", nullptr};
  pid_t parent = ::getpid(), pid = ::fork();
  if (pid != 0) return pid;
  // A verification that is killed leaves no process behind.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(program_missing);
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::execvpe(program.c_str(), const_cast<char**>(argv), const_cast<char**>(environment));
  ::_exit(program_missing);
}

std::optional<Descriptor> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return std::nullopt;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Descriptor out(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!out || ::connect(out.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return std::nullopt;
  return out;
}

Result<Descriptor> await_socket(const TunnelOptions& options, const std::string& name, Process& process) {
  for (auto until = Clock::now() + patience; Clock::now() < until; std::this_thread::sleep_for(step)) {
    if (auto socket = connect_to(options.socket_dir + "/" + name + ".sock")) return std::move(*socket);
    auto code = process.ended();
    if (code == program_missing)
      return Error(errc::not_found, options.program +
                                        " could not be run: install it (Debian: wireguard-go), or name "
                                        "it with --wireguard-go");
    if (code)
      return Error(errc::backend_failed,
                   options.program + " ended with status " + std::to_string(*code) + "; is /dev/net/tun there?");
  }
  return Error(errc::deadline_exceeded, options.program + " did not open its socket in " + options.socket_dir);
}

Result<void> configure(const Descriptor& socket, const TunnelOptions& options, const X25519Key& key) {
  const auto& bytes = options.server.bytes();
  std::string_view server(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Secret request("set=1\nprivate_key=" + hex(key.private_key().reveal()) + "\npublic_key=" + hex(server) +
                 "\nendpoint=127.0.0.1:" + std::to_string(options.port) +
                 "\nallowed_ip=0.0.0.0/0\nallowed_ip=::/0\npersistent_keepalive_interval=5\n\n");
  std::string_view rest = request.reveal();
  while (!rest.empty()) {
    ssize_t n = ::send(socket.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n <= 0) return failed("the tunnel's socket");
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  std::string answer;
  char buffer[256];
  while (!answer.ends_with("\n\n")) {
    pollfd entry{socket.get(), POLLIN, 0};
    if (::poll(&entry, 1, 5000) != 1) return Error(errc::deadline_exceeded, "the tunnel's socket does not answer");
    ssize_t n = ::recv(socket.get(), buffer, sizeof buffer, 0);
    if (n <= 0) return failed("the tunnel's socket");
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  if (answer != "errno=0\n\n") return Error(errc::backend_failed, "the tunnel refused its configuration: " + answer);
  return {};
}

/// Moves an interface of this namespace into another one.
Result<void> move_link(int index, int space) {
  struct {
    nlmsghdr head{};
    ifinfomsg link{};
    rtattr attribute{};
    std::int32_t space = 0;
  } request;
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = RTM_NEWLINK;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.link.ifi_index = index;
  request.attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(sizeof request.space));
  request.attribute.rta_type = IFLA_NET_NS_FD;
  request.space = space;
  Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket || ::send(socket.get(), &request, sizeof request, 0) < 0) return failed("netlink");
  struct {
    nlmsghdr head{};
    nlmsgerr error{};
    char rest[256];
  } answer;
  if (::recv(socket.get(), &answer, sizeof answer, 0) < 0) return failed("netlink");
  errno = -answer.error.error;
  return errno == 0 ? Result<void>() : failed("moving the tunnel into its namespace");
}

/// In the namespace: the link goes up, and a socket that reads and writes its packets stays.
Result<Capture> enter(int space, const std::string& name) {
  Result<Capture> out = Error(errc::internal);
  aside([&] {
    if (::setns(space, CLONE_NEWNET) != 0) {
      out = failed("setns");
      return;
    }
    Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::memcpy(request.ifr_name, name.c_str(), std::min(name.size(), sizeof request.ifr_name - 1));
    request.ifr_flags = IFF_UP;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0)
      out = failed("the tunnel's link");
    else
      out = Capture::on(static_cast<int>(::if_nametoindex(name.c_str())));
  });
  return out;
}

}  // namespace

Result<Tunnel> Tunnel::open(const TunnelOptions& options, const X25519Key& key) {
  TRY_PLAIN(auto space, make_namespace());
  const std::string name = "tv" + hex(random_bytes(4));
  Process process(run(options.program, name));
  TRY_PLAIN(auto socket, await_socket(options, name, process));
  TRY_VOID_PLAIN(configure(socket, options, key));
  TRY_VOID_PLAIN(move_link(static_cast<int>(::if_nametoindex(name.c_str())), space.get()));
  TRY_PLAIN(auto packets, enter(space.get(), name));
  return Tunnel(std::move(space), process.release(), std::move(packets));
}

Tunnel::Tunnel(Descriptor space, pid_t process, Capture packets)
    : space_(std::move(space)), process_(process), packets_(std::move(packets)) {}
Tunnel::Tunnel(Tunnel&& other) noexcept
    : space_(std::move(other.space_)),
      process_(std::exchange(other.process_, 0)),
      packets_(std::move(other.packets_)) {}
Tunnel::~Tunnel() {
  if (process_ > 0) Process::end(process_);
}

}  // namespace tornado::inline v1::verify
