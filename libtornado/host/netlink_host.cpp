#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/notifier.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "host/conntrack_codec.hpp"
#include "host/host_state.hpp"
#include "host/rtnl_codec.hpp"
#include "net/netlink_socket.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {
namespace {

struct File {
  explicit File(int fd_) : fd(fd_) {}
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd;
};

Error file_error(const std::string& path, int error) {
  errc code = error == EPERM || error == EACCES || error == EROFS ? errc::permission_denied : errc::backend_failed;
  return Error(code, path + ": " + std::strerror(error));
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

/// Nothing below /proc/sys blocks: it is memory of the kernel.
Result<std::string> sysctl_at(const std::string& path) {
  std::string current(4096, '\0');
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0 && errno == ENOENT) return Error(errc::not_found, path);
  if (file.fd < 0) return file_error(path, errno);
  ssize_t n = ::read(file.fd, current.data(), current.size());
  if (n < 0) return file_error(path, errno);
  current.resize(static_cast<std::size_t>(n));
  return trimmed(std::move(current));
}

Result<void> write_sysctl(const std::string& path, const std::string& value) {
  auto current = sysctl_at(path);
  if (!current && current.error().code() == errc::not_found) return file_error(path, ENOENT);
  if (!current) return current.error();
  if (*current == value) return {};
  File file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.fd < 0) return file_error(path, errno);
  ssize_t n = ::write(file.fd, value.data(), value.size());
  if (n != static_cast<ssize_t>(value.size())) return file_error(path, n < 0 ? errno : EIO);
  return {};
}

class NetlinkHost final : public Host {
 public:
  explicit NetlinkHost(Runtime& runtime)
      : runtime_(runtime),
        route_(runtime, NETLINK_ROUTE),
        netfilter_(runtime, NETLINK_NETFILTER),
        events_(runtime, NETLINK_ROUTE,
                {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE}),
        changes_(runtime),
        listening_(runtime.spawn(listen(events_, changes_))) {}

  Task<std::vector<Link>> links() override {
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::list_links()));
    TRY_VOID(reply.check("list links"));
    std::vector<Link> out;
    for (const NetlinkMessage& message : reply.messages) {
      TRY(auto link, rtnl::decode_link(message));
      if (link) out.push_back(std::move(*link));
    }
    co_return out;
  }

  Task<void> remove_link(std::string name) override {
    Result<int> index = co_await index_of(name);
    if (!index && index.error().code() == errc::interface_missing) co_return Result<void>();
    if (!index) co_return index.error();
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::remove_link(*index)));
    co_return reply.check("remove link " + name, {ENODEV});
  }

  Task<void> ensure_link(std::string name, std::string kind) override {
    TRY_VOID(check_link(name, kind));
    auto there = co_await find(name);
    if (there) co_return check_kind(*there, kind);
    if (there.error().code() != errc::interface_missing) co_return there.error();
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::add_link(name, kind)));
    if (reply.ack.error == EOPNOTSUPP)
      co_return Error(errc::failed_precondition, "the kernel has no links of kind " + kind + " (is its module there?)");
    TRY_VOID(reply.check("add link " + name, {EEXIST}));
    if (reply.ack.error == 0) co_return Result<void>();
    TRY(Link other, co_await find(name));
    co_return check_kind(other, kind);
  }

  Task<void> rename_link(std::string name, std::string becomes) override {
    TRY_VOID(check_link(becomes, "any"));
    TRY(int index, co_await index_of(name));
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::rename_link(index, becomes)));
    // Kernels before 6.2 rename no link that is up.
    if (reply.ack.error == EBUSY) {
      TRY(NetlinkReply down, co_await route_.exchange(rtnl::set_link(index, false, std::nullopt)));
      TRY_VOID(down.check("take down " + name));
      TRY(reply, co_await route_.exchange(rtnl::rename_link(index, becomes)));
    }
    if (reply.ack.error == EEXIST) co_return Error(errc::already_exists, "there is a link " + becomes);
    co_return reply.check("rename link " + name);
  }

  Task<void> set_link(std::string name, bool up, std::optional<std::uint32_t> mtu) override {
    TRY(int index, co_await index_of(name));
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::set_link(index, up, mtu)));
    co_return reply.check("set link " + name);
  }

  Task<std::vector<LinkAddress>> addresses() override {
    TRY(auto all, co_await links());
    std::unordered_map<int, std::string> names;
    for (Link& link : all) names[link.index] = std::move(link.name);
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::list_addresses()));
    TRY_VOID(reply.check("list addresses"));
    std::vector<LinkAddress> out;
    for (const NetlinkMessage& message : reply.messages) {
      TRY(auto listed, rtnl::decode_address(message));
      auto name = listed ? names.find(listed->index) : names.end();
      if (name == names.end()) continue;  // the link came after the links were listed
      listed->address.link = name->second;
      out.push_back(std::move(listed->address));
    }
    co_return out;
  }

  Task<void> ensure_address(LinkAddress address) override {
    TRY_VOID(check(address));
    TRY(int index, co_await index_of(address.link));
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::add_address(index, address)));
    co_return reply.check("add address " + address.address.str(), {EEXIST});
  }

  Task<void> remove_address(LinkAddress address) override {
    TRY_VOID(check(address));
    Result<int> index = co_await index_of(address.link);
    if (!index && index.error().code() == errc::interface_missing) co_return Result<void>();
    if (!index) co_return index.error();
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::remove_address(*index, address)));
    co_return reply.check("remove address " + address.address.str(), {EADDRNOTAVAIL, ENODEV});
  }

  Task<void> ensure_route(Route route) override {
    TRY_VOID(check(route));
    int index = 0;
    if (!route.link.empty()) {
      TRY(index, co_await index_of(route.link));
    }
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::put_route(index, route)));
    co_return reply.check("add route " + route.destination.str());
  }

  Task<void> remove_route(Route route) override {
    TRY_VOID(check(route));
    Result<int> index = 0;
    if (!route.link.empty()) index = co_await index_of(route.link);
    if (!index && index.error().code() == errc::interface_missing) co_return Result<void>();
    if (!index) co_return index.error();
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::remove_route(*index, route)));
    // ENOENT: no such table (IPv6), ENETUNREACH: the same in older kernels.
    co_return reply.check("remove route " + route.destination.str(), {ESRCH, ENOENT, ENETUNREACH});
  }

  Task<void> ensure_rule(RoutingRule rule) override {
    TRY_VOID(check(rule));
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::add_rule(rule)));
    co_return reply.check("add rule", {EEXIST});
  }

  Task<void> remove_rule(RoutingRule rule) override {
    TRY_VOID(check(rule));
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::remove_rule(rule)));
    co_return reply.check("remove rule", {ENOENT});
  }

  Task<std::vector<Route>> list_routes(std::uint32_t table, RouteKind kind) override {
    TRY(auto all, co_await links());
    std::unordered_map<int, std::string> names;
    for (Link& link : all) names[link.index] = std::move(link.name);
    std::vector<Route> out;
    for (bool v6 : {false, true}) {
      TRY(NetlinkReply reply, co_await route_.exchange(rtnl::list_routes(v6, table, kind)));
      // No such table: it has no routes. No such family: neither.
      TRY_VOID(reply.check("list routes", {ENOENT, EAFNOSUPPORT, EOPNOTSUPP}));
      for (const NetlinkMessage& message : reply.messages) {
        TRY(auto listed, rtnl::decode_route(message));
        if (!listed || listed->route.table != table || listed->route.kind != kind) continue;
        if (kind == RouteKind::unicast && names.contains(listed->index)) listed->route.link = names[listed->index];
        if (kind != RouteKind::unicast || !listed->route.link.empty()) out.push_back(std::move(listed->route));
      }
    }
    co_return out;
  }

  Task<std::vector<RoutingRule>> list_rules() override {
    std::vector<RoutingRule> out;
    for (bool v6 : {false, true}) {
      TRY(NetlinkReply reply, co_await route_.exchange(rtnl::list_rules(v6)));
      TRY_VOID(reply.check("list rules", {EAFNOSUPPORT, EOPNOTSUPP}));
      for (const NetlinkMessage& message : reply.messages) {
        TRY(auto rule, rtnl::decode_rule(message));
        if (rule) out.push_back(std::move(*rule));
      }
    }
    co_return out;
  }

  Task<std::string> read_sysctl(std::string name) override {
    TRY_VOID(check_sysctl(name));
    co_return sysctl_at("/proc/sys/" + name);
  }

  Task<void> ensure_sysctl(std::string name, std::string value) override {
    TRY_VOID(check_sysctl(name));
    co_return write_sysctl("/proc/sys/" + name, value);
  }

  Task<void> flush_connections(Address address, Lane lane) override {
    TRY_VOID(check_lane_address(address));
    std::vector<std::string> request(1, delete_connections(connection_mark(address, lane), !address.is_v4()));
    TRY(NetlinkReply reply, co_await netfilter_.transact_off_loop(std::move(request)));
    co_return reply.check("flush connections of " + address.str(), {ENOENT});
  }

  Task<void> flush_network(Prefix pool) override {
    TRY_VOID(check_network(pool));
    if (!pool.base().is_v4() || pool.length() < shortest_marked) co_return co_await flush_listed(pool);
    std::vector<std::string> request(1, delete_connections(pool));
    TRY(NetlinkReply reply, co_await netfilter_.transact_off_loop(std::move(request)));
    co_return reply.check("flush connections of " + pool.str(), {ENOENT});
  }

  Task<std::uint64_t> changed(std::uint64_t since) override {
    bool woken = co_await changes_.wait(since);
    if (!woken) co_return Error(errc::cancelled);
    co_return changes_.revision();
  }

 private:
  /// What is deleted in one turn of the loop; the kernel takes some microseconds for each.
  static constexpr std::size_t deleted_at_once = 128;
  /// Marks of others would be too likely to begin like the addresses of a shorter pool.
  static constexpr int shortest_marked = 16;

  /// Looks at every connection of the family.
  Task<void> flush_listed(Prefix pool) {
    TRY(NetlinkReply reply, co_await netfilter_.exchange(list_connections(!pool.base().is_v4())));
    TRY_VOID(reply.check("list connections"));
    Pace pace(runtime_);
    std::vector<std::string> batch;
    // From the back, and gone when looked at: to free a large list at once takes milliseconds.
    for (auto& listed = reply.messages; !listed.empty(); listed.pop_back()) {
      if (pace.due()) co_await pace.yield();
      TRY(auto connection, decode_connection(listed.back()));
      if (!connection || !pool.contains(connection->source)) continue;
      batch.push_back(delete_connection(*connection));
      if (batch.size() < deleted_at_once) continue;
      std::vector<std::string> full = std::exchange(batch, std::vector<std::string>());
      TRY_VOID(co_await delete_all(std::move(full)));
    }
    if (!batch.empty()) TRY_VOID(co_await delete_all(std::move(batch)));
    co_return Result<void>();
  }

  /// Connections that have ended meanwhile are gone. The socket has the last message but one acknowledged.
  Task<void> delete_all(std::vector<std::string> batch) {
    batch.push_back(batch.back());
    TRY(NetlinkReply reply, co_await netfilter_.transact(std::move(batch)));
    co_return reply.check("delete connections", {ENOENT});
  }

  Task<int> index_of(std::string name) {
    TRY(Link link, co_await find(std::move(name)));
    co_return link.index;
  }

  Task<Link> find(std::string name) {
    if (name.empty() || name.size() > 15) co_return Error(errc::interface_missing, "no link '" + name + "'");
    TRY(NetlinkReply reply, co_await route_.exchange(rtnl::get_link(name)));
    TRY_VOID(reply.check("link " + name));
    for (const NetlinkMessage& message : reply.messages) {
      TRY(auto link, rtnl::decode_link(message));
      if (link) co_return std::move(*link);
    }
    co_return Error(errc::protocol_error, "no answer about link '" + name + "'");
  }

  /// Something that was missed counts as a change, as does anything that cannot be read.
  static Task<void> listen(NetlinkSocket& events, Notifier& changes) {
    for (;;) {
      auto messages = co_await events.receive();
      errc code = messages ? errc::data_loss : messages.error().code();
      changes.notify();
      if (code != errc::data_loss && code != errc::protocol_error) co_return messages.error();
    }
  }

  Runtime& runtime_;
  NetlinkSocket route_;
  NetlinkSocket netfilter_;
  NetlinkSocket events_;
  Notifier changes_;
  Background listening_;
};

}  // namespace

std::unique_ptr<Host> netlink_host(Runtime& runtime) {
  return std::make_unique<NetlinkHost>(runtime);
}

}  // namespace tornado::inline v1
