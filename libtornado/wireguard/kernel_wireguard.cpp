#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/pace.hpp"
#include "base/try.hpp"
#include "host/rtnl_codec.hpp"
#include "net/netlink_socket.hpp"
#include "tornado/wireguard.hpp"
#include "wireguard/chunk_size.hpp"
#include "wireguard/genl_codec.hpp"
#include "wireguard/interface_queue.hpp"
#include "wireguard/own_key.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::string_view kind = "wireguard";

/// The messages of one interface; a dump that begins anew begins with nothing.
class DumpReader final : public NetlinkSocket::Reader {
 public:
  using Want = genl::DeviceReader::Want;

  DumpReader(std::uint16_t family, Want want, std::size_t expected)
      : family_(family), want_(want), expected_(expected), device_(family) {}
  void begin() override { device_ = genl::DeviceReader(family_, want_, expected_); }
  Result<void> take(const NetlinkMessage& message) override { return device_.take(message); }
  Interface take_interface() { return device_.take_interface(); }

 private:
  std::uint16_t family_;
  Want want_;
  std::size_t expected_;
  genl::DeviceReader device_;
};

/// The first message of an interface names it; whatever follows is peers.
class IdentityReader final : public NetlinkSocket::Reader {
 public:
  explicit IdentityReader(std::uint16_t family) : family_(family), device_(family) {}
  void begin() override { device_ = genl::DeviceReader(family_, genl::DeviceReader::Want::counters, 0); }
  Result<void> take(const NetlinkMessage& message) override {
    TRY_VOID_PLAIN(device_.take(message));
    seen_ = true;
    return Error(errc::cancelled, "the rest is peers");
  }
  bool seen() const noexcept { return seen_; }
  Interface take_interface() {
    Interface out = device_.take_interface();
    out.peers.clear();
    return out;
  }

 private:
  std::uint16_t family_;
  genl::DeviceReader device_;
  bool seen_ = false;
};

bool is_interface_name(const std::string& name) {
  return !name.empty() && name.size() < 16 && name.find('\0') == name.npos;
}

class KernelWireGuard final : public WireGuard {
 public:
  explicit KernelWireGuard(Runtime& runtime)
      : runtime_(runtime), generic_(runtime, NETLINK_GENERIC), route_(runtime, NETLINK_ROUTE) {
    generic_.keep_secrets();
  }

  Task<std::vector<std::string>> list() override;
  Task<Interface> get(std::string name) override { return read(std::move(name), DumpReader::Want::everything); }
  Task<Interface> counters(std::string name) override { return read(std::move(name), DumpReader::Want::counters); }
  Task<Interface> identity(std::string name) override;
  Task<void> set(InterfaceChange change) override;
  void expect(const std::string& name, std::size_t peers) override;
  std::size_t most_peers() const noexcept override { return 1 << 20; }  // MAX_PEERS_PER_DEVICE
  std::size_t waiting() const noexcept override {
    std::size_t out = 0;
    for (const auto& [name, line] : lines_) out += line.queue.waiting();
    return out;
  }

 private:
  /// One interface.
  class Line {
   public:
    Line(Runtime& runtime, const std::string& name) : queue(runtime, name) {}
    InterfaceQueue queue;
    std::size_t peers = 0;  // how many the last reading found
  };

  Result<Line*> line(const std::string& name);
  Task<std::uint16_t> family();
  Result<void> check(const NetlinkReply& reply, const std::string& name);
  Task<Interface> read(std::string name, DumpReader::Want want);
  Task<std::chrono::steady_clock::duration> send(std::string message, bool off_loop, const std::string& name);

  Runtime& runtime_;
  // One for all: two that dump would wait for the same lock of the kernel, and keep two processors busy with it.
  NetlinkSocket generic_;
  NetlinkSocket route_;
  std::map<std::string, Line> lines_;
  std::optional<std::uint16_t> family_;
  ChunkSizes chunks_;
};

Result<KernelWireGuard::Line*> KernelWireGuard::line(const std::string& name) {
  if (!is_interface_name(name)) return Error(errc::interface_missing, name);
  return &lines_.try_emplace(name, runtime_, name).first->second;
}

void KernelWireGuard::expect(const std::string& name, std::size_t peers) {
  auto line = this->line(name);
  if (line && (*line)->peers == 0) (*line)->peers = std::min(peers, most_peers());
}

/// The number that the kernel has given the family; another one after the module was taken out and put in again.
Task<std::uint16_t> KernelWireGuard::family() {
  if (family_) co_return *family_;
  TRY(NetlinkReply reply, co_await generic_.exchange(genl::get_family(std::string(kind))));
  if (reply.ack.error == ENOENT) co_return Error(errc::interface_missing, "the kernel has no WireGuard");
  TRY_VOID(reply.check("WireGuard in the kernel"));
  for (const NetlinkMessage& message : reply.messages) {
    TRY(auto number, genl::decode_family(message));
    if (number) family_ = number;
  }
  if (!family_) co_return Error(errc::protocol_error, "no answer about the family of WireGuard");
  co_return *family_;
}

Result<void> KernelWireGuard::check(const NetlinkReply& reply, const std::string& name) {
  if (reply.ack.error == ENOENT) {
    family_.reset();
    return Error(errc::interface_missing, name + ": the kernel has no WireGuard any more");
  }
  if (reply.ack.error == EOPNOTSUPP) return Error(errc::interface_missing, name + " is no WireGuard interface");
  return reply.check(name);
}

Task<std::vector<std::string>> KernelWireGuard::list() {
  TRY(NetlinkReply reply, co_await route_.exchange(rtnl::list_links()));
  TRY_VOID(reply.check("list links"));
  std::vector<std::string> out;
  for (const NetlinkMessage& message : reply.messages) {
    TRY(auto link, rtnl::decode_link(message));
    if (link && link->kind == kind) out.push_back(std::move(link->name));
  }
  std::sort(out.begin(), out.end());
  co_return out;
}

Task<Interface> KernelWireGuard::read(std::string name, DumpReader::Want want) {
  TRY(Line * line, this->line(name));
  TRY(auto mine, co_await line->queue.enter());
  TRY(std::uint16_t family, co_await this->family());
  DumpReader reader(family, want, line->peers + line->peers / 16);
  TRY(NetlinkReply reply, co_await generic_.dump(genl::get_device(family, name), reader));
  TRY_VOID(check(reply, name));
  Interface out = reader.take_interface();
  line->peers = out.peers.size();
  out.name = std::move(name);
  // What the caller does with it is a slice of its own.
  Pace pace(runtime_);
  co_await pace.yield();
  co_return out;
}

Task<Interface> KernelWireGuard::identity(std::string name) {
  TRY(Line * line, this->line(name));
  TRY(auto mine, co_await line->queue.enter());
  TRY(std::uint16_t family, co_await this->family());
  // A dump that is given up goes on for ever on its socket; it ends with one of its own.
  NetlinkSocket once(runtime_, NETLINK_GENERIC);
  once.keep_secrets();
  IdentityReader reader(family);
  auto reply = co_await once.dump(genl::get_device(family, name), reader);
  if (!reader.seen()) {
    if (!reply) co_return reply.error();
    TRY_VOID(check(*reply, name));
    co_return Error(errc::protocol_error, name + ": no answer");
  }
  Interface out = reader.take_interface();
  out.name = std::move(name);
  co_return out;
}

Task<std::chrono::steady_clock::duration> KernelWireGuard::send(std::string message, bool off_loop,
                                                                const std::string& name) {
  if (off_loop) {
    std::vector<std::string> one;
    one.push_back(std::move(message));
    TRY(NetlinkReply done, co_await generic_.transact_off_loop(std::move(one)));
    TRY_VOID(check(done, name));
    co_return done.sending;
  }
  TRY(NetlinkReply reply, co_await generic_.exchange(std::move(message)));
  TRY_VOID(check(reply, name));
  co_return reply.sending;
}

Task<void> KernelWireGuard::set(InterfaceChange change) {
  TRY_VOID(check_keys(change));
  TRY(Line * line, this->line(change.name));
  TRY(auto mine, co_await line->queue.enter());
  TRY(std::uint16_t family, co_await this->family());
  Pace pace(runtime_);
  genl::ChangeWriter writer(family, change);
  while (!writer.done()) {
    // Before the first one too: callers have chunk after chunk, and nothing of an exchange waits for the kernel.
    co_await pace.yield();
    bool long_work = writer.begins() && (change.private_key || change.replace_peers);
    const std::size_t at = writer.position();
    std::string message = writer.next(chunks_.next(change.peers, at));
    TRY(auto sending, co_await send(std::move(message), long_work, change.name));
    if (writer.written() > 0) chunks_.of(act_of(change.peers[at])).took(writer.written(), sending);
  }
  co_return Result<void>();
}

}  // namespace

std::unique_ptr<WireGuard> kernel_wireguard(Runtime& runtime) {
  return std::make_unique<KernelWireGuard>(runtime);
}

}  // namespace tornado::inline v1
