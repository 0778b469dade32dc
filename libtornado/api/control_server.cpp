#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <list>

#include "api/operations.hpp"
#include "api/rpc_codec.hpp"
#include "base/cancellation.hpp"
#include "base/json.hpp"
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "tornado/control.hpp"

namespace asio = boost::asio;
namespace json = boost::json;
using Local = asio::local::stream_protocol;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_line = 3 << 20;
constexpr std::size_t most_connections = 64;

/// Who is at the other end of a local socket.
struct PeerIdentity {
  uid_t uid = static_cast<uid_t>(-1);
  std::vector<gid_t> groups;
};

PeerIdentity identify(int fd) {
  PeerIdentity out;
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return out;
  out.uid = credentials.uid;
  out.groups.resize(65536 / sizeof(gid_t));
  size = static_cast<socklen_t>(out.groups.size() * sizeof(gid_t));
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &size) != 0) size = 0;
  out.groups.resize(size / sizeof(gid_t));
  out.groups.push_back(credentials.gid);
  return out;
}

std::optional<gid_t> group_id(const std::string& name) {
  std::vector<char> buffer(16384);
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return found->gr_gid;
}

bool answers(const std::string& path) {
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  bool up = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return up;
}

json::value to_value(const Event& event) {
  auto fields = parse_json(event.json);
  json::object out;
  out["sequence"] = event.sequence;
  out["time"] = iso8601(event.time);
  out["name"] = event.name;
  out["fields"] = fields ? std::move(*fields) : json::value(json::object());
  return out;
}

}  // namespace

struct ControlServer::Impl {
  Impl(Runtime& runtime_, Gateway& gateway_)
      : runtime(runtime_), gateway(gateway_), operators(group_id(gateway_.config().control.group)), tasks(runtime_) {}

  std::string path(const char* name) const { return gateway.config().runtime_dir + "/" + name; }

  Result<void> open(const char* name, mode_t mode, bool full) {
    std::string where = path(name);
    if (answers(where)) return Error(errc::already_exists, "another daemon answers at " + where);
    ::unlink(where.c_str());
    boost::system::error_code ec;
    Local::acceptor acceptor(runtime.loop());
    acceptor.open(Local(), ec);
    // Nobody but us may connect before the mode is what it should be.
    mode_t former = ::umask(0177);
    if (!ec) acceptor.bind(Local::endpoint(where), ec);
    ::umask(former);
    if (!ec && operators && ::chown(where.c_str(), static_cast<uid_t>(-1), *operators) != 0) {
      // Not ours to give away without CAP_CHOWN: members of the group are then kept out by the mode.
    }
    if (!ec && ::chmod(where.c_str(), mode) != 0) ec.assign(errno, boost::system::system_category());
    if (!ec) acceptor.listen(64, ec);
    if (ec) return Error(errc::backend_failed, where + ": " + ec.message());
    paths.push_back(where);
    auto& kept = acceptors.emplace_back(std::move(acceptor));
    tasks.add("control_accept", accept(kept, full));
    return {};
  }

  Task<void> accept(Local::acceptor& acceptor, bool full) {
    for (;;) {
      Local::socket socket(runtime.loop());
      auto [ec] = co_await acceptor.async_accept(socket, asio::as_tuple(asio::use_awaitable));
      if (ec == asio::error::operation_aborted || !acceptor.is_open()) co_return Error(errc::cancelled);
      if (ec) {
        bool slept = co_await runtime.sleep_until(runtime.now() + std::chrono::milliseconds(50));
        if (!slept) co_return Error(errc::cancelled);
        continue;
      }
      if (connections < most_connections) tasks.add("control_connection", serve(std::move(socket), full));
    }
  }

  bool is_operator(const PeerIdentity& peer) const {
    if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
    return operators && std::find(peer.groups.begin(), peer.groups.end(), *operators) != peer.groups.end();
  }

  Result<void> permit(const Operation& operation, const PeerIdentity& peer, bool full) const {
    if (operation.permission == Permission::status) return {};
    if (!is_operator(peer))
      return Error(errc::permission_denied,
                   "only root and members of the group '" + gateway.config().control.group + "' may do this");
    if (operation.permission == Permission::write && !full)
      return Error(errc::permission_denied, "the status socket only answers questions; use control.sock");
    return {};
  }

  Task<void> serve(Local::socket socket, bool full) {
    struct Count {
      explicit Count(std::size_t& n_) : n(n_) { ++n; }
      ~Count() { --n; }
      std::size_t& n;
    } count(connections);
    PeerIdentity peer = identify(socket.native_handle());
    LineCutter lines(most_line);
    std::array<char, 16384> block;
    for (;;) {
      auto [ec, got] = co_await socket.async_read_some(asio::buffer(block), asio::as_tuple(asio::use_awaitable));
      if (ec) co_return Result<void>();
      auto fed = lines.feed(std::string_view(block.data(), got));
      while (auto line = lines.next()) {
        if (line->empty()) continue;
        bool go_on = co_await handle(socket, *line, peer, full);
        if (!go_on) co_return Result<void>();
        // While it was handled, perhaps: then nothing interrupts the next wait.
        bool cancelled = co_await is_cancelled();
        if (cancelled) co_return Error(errc::cancelled);
      }
      if (!fed) {
        (void)co_await send(socket, rpc_error(json::value(nullptr), fed.error()));
        co_return Result<void>();
      }
    }
  }

  /// To one who does not read when we end, as much as there is room for.
  static asio::awaitable<bool> send(Local::socket& socket, std::string text) {
    bool cancelled = co_await is_cancelled();
    if (cancelled) {
      boost::system::error_code ignored;
      socket.non_blocking(true, ignored);
      socket.write_some(asio::buffer(text), ignored);
      co_return false;
    }
    auto [ec, sent] = co_await asio::async_write(socket, asio::buffer(text), asio::as_tuple(asio::use_awaitable));
    co_return !ec;
  }

  /// False: the connection ends.
  asio::awaitable<bool> handle(Local::socket& socket, const std::string& line, const PeerIdentity& peer, bool full) {
    json::value id;
    auto request = parse_rpc_request(line, id);
    if (!request) co_return co_await send(socket, rpc_error(id, request.error()));
    if (request->method == "events.subscribe") {
      if (!is_operator(peer)) {
        Error refused(errc::permission_denied, "events name people: operators only");
        co_return co_await send(socket, rpc_error(id, refused));
      }
      co_return co_await stream_events(socket, *request);
    }
    auto result = co_await call(*request, peer, full);
    std::string text = result ? rpc_result(id, *result) : rpc_error(id, result.error());
    co_return co_await send(socket, std::move(text));
  }

  Task<json::value> call(const RpcRequest& request, const PeerIdentity& peer, bool full) {
    const Operation* operation = find_operation(request.method);
    if (operation == nullptr) co_return Error(errc::unimplemented, "no operation '" + request.method + "'");
    TRY_VOID(permit(*operation, peer, full));
    TRY(auto arguments, check_arguments(*operation, request.params));
    Caller caller = Caller::operator_named("uid " + std::to_string(peer.uid));
    if (operation->permission == Permission::write)
      runtime.log().write(LogLevel::info, "operator_call", {{"operation", request.method}, {"caller", caller.name}});
    try {
      co_return co_await operation->handler(gateway, std::move(caller), std::move(arguments));
    } catch (const std::exception& e) {
      runtime.log().write(LogLevel::error, "operation_threw", {{"operation", request.method}, {"detail", e.what()}});
    }
    co_return Error(errc::internal, "the operation failed; see the log");
  }

  asio::awaitable<bool> stream_events(Local::socket& socket, const RpcRequest& request) {
    auto after = static_cast<std::uint64_t>(std::max<std::int64_t>(
        0, integer_at(request.params, "after").value_or(static_cast<std::int64_t>(gateway.last_event()))));
    json::object started;
    started["after"] = after;
    bool sent = co_await send(socket, rpc_result(request.id, started));
    if (!sent) co_return false;
    for (;;) {
      auto events = gateway.events(after);
      auto left = hung_up(socket);
      auto first = co_await first_of(std::move(events), std::move(left));
      if (!first || first->index() != 0) co_return false;
      auto& batch = std::get<0>(*first);
      if (!batch) co_return false;
      std::string text;
      if (batch->dropped > 0) {
        json::object lost;
        lost["dropped"] = batch->dropped;
        text += rpc_notification("events.dropped", lost);
      }
      for (const auto& event : batch->events) text += rpc_notification("event", to_value(event));
      after = batch->events.back().sequence;
      bool sent = co_await send(socket, std::move(text));
      if (!sent) co_return false;
    }
  }

  /// Returns when the other side has closed the socket; one that has only finished speaking still listens.
  static asio::awaitable<bool> hung_up(Local::socket& socket) {
    auto [ec] = co_await socket.async_wait(Local::socket::wait_error, asio::as_tuple(asio::use_awaitable));
    co_return !ec;
  }

  Runtime& runtime;
  Gateway& gateway;
  std::optional<gid_t> operators;
  std::list<Local::acceptor> acceptors;
  std::vector<std::string> paths;
  std::size_t connections = 0;
  TaskGroup tasks;
};

ControlServer::ControlServer(Runtime& runtime, Gateway& gateway) : impl_(std::make_unique<Impl>(runtime, gateway)) {}

ControlServer::~ControlServer() {
  close();
}

Result<void> ControlServer::listen() {
  TRY_VOID_PLAIN(impl_->open("control.sock", 0660, true));
  return impl_->open("status.sock", 0666, false);
}

void ControlServer::close() {
  for (const auto& path : impl_->paths) ::unlink(path.c_str());
  impl_->paths.clear();
  boost::system::error_code ignored;
  for (auto& acceptor : impl_->acceptors) acceptor.close(ignored);
}

}  // namespace tornado::inline v1
