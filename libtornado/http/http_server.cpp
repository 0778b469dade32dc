#include "http/http_server.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <list>
#include <set>

#include "base/cancellation.hpp"
#include "base/notifier.hpp"
#include "base/task_group.hpp"

namespace asio = boost::asio;
using asio::ip::tcp;

namespace tornado::inline v1 {
namespace {

constexpr Seconds first_request{1};
constexpr Seconds stood_still{1};
constexpr int backlog = 4096;

using SteadyTime = std::chrono::steady_clock::time_point;

Address address_of(const asio::ip::address& address) {
  if (address.is_v4()) return Address::from_v4(address.to_v4().to_uint());
  auto v6 = address.to_v6();
  if (v6.is_v4_mapped()) return Address::from_v4(asio::ip::make_address_v4(asio::ip::v4_mapped, v6).to_uint());
  return Address::from_v6(v6.to_bytes());
}

HttpResponse refusal(const Error& error) {
  bool large = error.code() == errc::too_large;
  HttpResponse out(large ? 413 : 400,
                   large ? R"({"detail":"Request Entity Too Large"})" : R"({"detail":"Bad Request"})");
  out.close = true;
  return out;
}

}  // namespace

struct HttpServer::Impl {
  struct Connection {
    Connection(tcp::socket socket_, Address source_, const HttpLimits& limits)
        : socket(std::move(socket_)), source(source_), parser(limits.header, limits.body) {}
    tcp::socket socket;
    Address source;
    HttpRequestParser parser;
    SteadyTime allowed_at, deadline;
    bool answering = false;
    bool answered = false;

    /// Somebody waits for an answer, or is about to. Between requests clients know that a connection may go.
    bool awaited() const {
      boost::system::error_code ec;
      return answering || !answered || parser.begun() || socket.available(ec) > 0;
    }
  };
  using Connections = std::list<Connection>;

  Impl(Runtime& runtime_, HttpHandler& handler_, HttpLimits limits_)
      : runtime(runtime_),
        handler(handler_),
        limits(limits_),
        sweep(runtime_.loop()),
        ended(runtime_),
        tasks(runtime_) {}

  asio::awaitable<Result<void>> accept(tcp::acceptor& acceptor) {
    asio::steady_timer pause(runtime.loop());
    for (;;) {
      // A cancellation ends only the wait that is under way: one that has just ended does not see it.
      bool cancelled = co_await is_cancelled();
      if (cancelled) co_return Error(errc::cancelled);
      tcp::socket socket(runtime.loop());
      auto [ec] = co_await acceptor.async_accept(socket, asio::as_tuple(asio::use_awaitable));
      if (!ec) {
        welcome(std::move(socket));
        continue;
      }
      if (ec == asio::error::operation_aborted || !acceptor.is_open()) co_return Error(errc::cancelled);
      // Out of descriptors, most likely: waiting frees some.
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }

  /// Those who were connected before we stop listening: closing the socket would reset them. At an adopted one
  /// they wait for who comes after us (I-12).
  void accept_waiting(tcp::acceptor& acceptor) {
    boost::system::error_code ec;
    acceptor.non_blocking(true, ec);
    for (int i = 0; i < backlog && !ec; ++i) {
      tcp::socket socket(runtime.loop());
      acceptor.accept(socket, ec);
      if (!ec) welcome(std::move(socket));
    }
  }

  void welcome(tcp::socket socket) {
    boost::system::error_code ec;
    auto remote = socket.remote_endpoint(ec);
    if (ec) return;
    Address source = address_of(remote.address());
    int& from_there = per_address[source];
    bool full =
        static_cast<int>(connections.size()) >= limits.connections || from_there >= limits.connections_per_address;
    if (full) {
      if (from_there == 0) per_address.erase(source);
      return;
    }
    ++from_there;
    socket.set_option(tcp::no_delay(true), ec);
    auto it = connections.emplace(connections.end(), std::move(socket), source, limits);
    // What the first request came in may have to be sent several times.
    allow(*it, std::max(limits.idle, limits.request), ask_until);
    arm_sweep();
    asio::co_spawn(runtime.loop(), serve(*it), [this, it](std::exception_ptr) { forget(it); });
  }

  void forget(Connections::iterator it) {
    auto count = per_address.find(it->source);
    if (count != per_address.end() && --count->second == 0) per_address.erase(count);
    connections.erase(it);
    ended.notify();
  }

  static void allow(Connection& c, Seconds time, SteadyTime no_later_than) {
    c.allowed_at = std::chrono::steady_clock::now();
    c.deadline = std::min(c.allowed_at + time, no_later_than);
  }

  /// Closes connections whose deadline has passed; a timer per connection would cost more than this.
  void arm_sweep() {
    if (sweeping || connections.empty()) return;
    sweeping = true;
    const auto now = std::chrono::steady_clock::now();
    SteadyTime next = now + std::chrono::milliseconds(500);
    for (SteadyTime end : {ask_until, answer_until})
      if (end > now) next = std::min(next, end);
    sweep.expires_at(next);
    // The handler may run when the server is gone.
    sweep.async_wait([this, next, alive = std::weak_ptr<bool>(here)](const boost::system::error_code& ec) {
      if (alive.expired()) return;
      sweeping = false;
      if (ec) return;
      const auto now = std::chrono::steady_clock::now();
      if (now - next > stood_still) forgive(next, now);
      for (auto& connection : connections)
        if (connection.deadline <= now) close(connection);
      arm_sweep();
    });
  }

  /// Time in which nobody here listened, as when the host gives us no processor, is nobody's delay.
  void forgive(SteadyTime from, SteadyTime to) {
    for (auto& c : connections)
      if (c.allowed_at < from) c.deadline = std::min(c.deadline + (to - from), c.answering ? answer_until : ask_until);
  }

  static void close(Connection& connection) {
    boost::system::error_code ec;
    connection.socket.close(ec);
  }

  asio::awaitable<void> serve(Connection& c) {
    co_await asio::this_coro::throw_if_cancelled(false);
    std::string pending;
    std::array<char, 8192> block;
    for (;;) {
      auto fed = c.parser.feed(pending);
      if (!fed) {
        (void)co_await write(c, serialize(refusal(fed.error()), false));
        linger(c);
        co_return;
      }
      pending.erase(0, *fed);
      if (c.parser.done()) {
        bool done = co_await answer_one(c);
        if (!done) co_return;
        continue;
      }
      if (c.parser.wants_continue() && !co_await write(c, "HTTP/1.1 100 Continue\r\n\r\n")) co_return;
      bool begins = !c.parser.begun() && pending.empty();
      auto [ec, got] = co_await c.socket.async_read_some(asio::buffer(block), asio::as_tuple(asio::use_awaitable));
      if (ec) co_return;
      if (begins) allow(c, limits.request, ask_until);
      pending.append(block.data(), got);
    }
  }

  /// False: the connection ends.
  asio::awaitable<bool> answer_one(Connection& c) {
    HttpRequest request = c.parser.take();
    request.source = c.source;
    bool keep_alive = request.keep_alive && !draining;
    bool head = request.method == "HEAD";
    c.answering = true;
    allow(c, limits.answer, answer_until);
    HttpResponse response;
    if (auto now = handler.answer_now(request)) {
      response = std::move(*now);
    } else {
      response = co_await handler.answer(std::move(request));
    }
    keep_alive = keep_alive && !response.close && !draining;
    bool written = co_await write(c, serialize(response, keep_alive, head));
    c.answering = false;
    c.answered = true;
    if (written && !keep_alive) linger(c);
    allow(c, limits.idle, ask_until);
    co_return written&& keep_alive;
  }

  static asio::awaitable<bool> write(Connection& c, std::string bytes) {
    auto [ec, sent] = co_await asio::async_write(c.socket, asio::buffer(bytes), asio::as_tuple(asio::use_awaitable));
    co_return !ec;
  }

  /// The client reads the answer before it sees the end.
  static void linger(Connection& c) {
    boost::system::error_code ec;
    c.socket.shutdown(tcp::socket::shutdown_send, ec);
  }

  Runtime& runtime;
  HttpHandler& handler;
  HttpLimits limits;
  std::list<tcp::acceptor> acceptors;
  std::set<int> adopted;  // descriptors of those that were given to us: somebody else keeps them open
  Connections connections;
  std::unordered_map<Address, int> per_address;
  asio::steady_timer sweep;
  bool sweeping = false;
  std::shared_ptr<bool> here = std::make_shared<bool>(true);
  bool draining = false;
  /// While draining no deadline lies beyond these: nobody accepts meanwhile, and whoever asks must not prolong that.
  SteadyTime ask_until = SteadyTime::max();
  SteadyTime answer_until = SteadyTime::max();
  Notifier ended;
  TaskGroup tasks;
};

HttpServer::HttpServer(Runtime& runtime, HttpHandler& handler, HttpLimits limits)
    : impl_(std::make_unique<Impl>(runtime, handler, limits)) {}

HttpServer::~HttpServer() {
  auto end = [](HttpServer& server) -> Task<void> {
    co_await server.drain(Seconds(0));
    co_return Result<void>();
  };
  (void)impl_->runtime.wait(end(*this));
}

Result<void> HttpServer::listen(const Endpoint& endpoint) {
  boost::system::error_code ec;
  auto address = asio::ip::make_address(endpoint.address.str(), ec);
  tcp::endpoint local(address, endpoint.port);
  tcp::acceptor acceptor(impl_->runtime.loop());
  acceptor.open(local.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(local, ec);
  if (!ec) acceptor.listen(backlog, ec);
  if (ec) return Error(errc::backend_failed, "cannot listen on " + endpoint.str() + ": " + ec.message());
  auto& kept = impl_->acceptors.emplace_back(std::move(acceptor));
  impl_->tasks.add("accept", impl_->accept(kept));
  return {};
}

Result<void> HttpServer::adopt(int fd) {
  boost::system::error_code ec;
  sockaddr_storage local{};
  socklen_t size = sizeof local;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) != 0)
    return Error(errc::backend_failed, std::string("inherited socket: ") + std::strerror(errno));
  tcp::acceptor acceptor(impl_->runtime.loop());
  acceptor.assign(local.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd, ec);
  if (ec) return Error(errc::backend_failed, "inherited socket: " + ec.message());
  impl_->adopted.insert(fd);
  auto& kept = impl_->acceptors.emplace_back(std::move(acceptor));
  impl_->tasks.add("accept", impl_->accept(kept));
  return {};
}

std::vector<Endpoint> HttpServer::endpoints() const {
  std::vector<Endpoint> out;
  for (const auto& acceptor : impl_->acceptors) {
    boost::system::error_code ec;
    auto local = acceptor.local_endpoint(ec);
    if (!ec) out.emplace_back(address_of(local.address()), local.port());
  }
  return out;
}

std::size_t HttpServer::connections() const noexcept {
  return impl_->connections.size();
}

asio::awaitable<void> HttpServer::drain(Seconds within) {
  impl_->draining = true;
  co_await impl_->tasks.stop_all();
  for (auto& acceptor : impl_->acceptors)
    if (within > Seconds(0) && !impl_->adopted.contains(acceptor.native_handle())) impl_->accept_waiting(acceptor);
  impl_->acceptors.clear();
  const auto now = std::chrono::steady_clock::now();
  impl_->ask_until = std::min(impl_->ask_until, now + std::min(within, first_request));
  impl_->answer_until = std::min(impl_->answer_until, now + within);
  for (auto& c : impl_->connections) {
    if (c.awaited() && within > Seconds(0))
      c.deadline = std::min(c.deadline, c.answering ? impl_->answer_until : impl_->ask_until);
    else
      Impl::close(c);
  }
  while (!impl_->connections.empty()) {
    bool told = co_await impl_->ended.wait(impl_->ended.revision());
    if (!told) break;
  }
}

}  // namespace tornado::inline v1
