#include "dns/responder.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <unordered_map>

#include "base/notifier.hpp"
#include "base/task_group.hpp"
#include "dns/dns_codec.hpp"

namespace asio = boost::asio;
using asio::ip::udp;

namespace tornado::inline v1 {
namespace {

// A query has one name and little else; what is longer is cut off and thereby malformed.
constexpr std::size_t longest_query = 1500;
// Queries answered before others have their turn on the loop.
constexpr int burst = 64;

std::string canonical(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string out(name);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

/// Any address may be bound, there or not; an IPv6 socket is for IPv6 alone.
boost::system::error_code prepare(int fd, bool v4) {
  const int on = 1;
  bool good = v4 ? ::setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on) == 0
                 : ::setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on) == 0 &&
                       ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
  if (good) return {};
  return boost::system::error_code(errno, boost::system::system_category());
}

}  // namespace

struct DnsResponder::Impl {
  Impl(Runtime& runtime_, DnsResponderOptions options) : runtime(runtime_), ttl(options.ttl), never(runtime_) {
    everywhere.push_back(options.v4);
    if (options.v6) everywhere.push_back(*options.v6);
  }

  std::string respond(std::string_view bytes) {
    auto query = dns::parse_query(bytes);
    if (!query) {
      ++counts.ignored;
      return {};
    }
    if (query->problem == DnsCode::no_error && query->klass != dns::class_in) query->problem = DnsCode::refused;
    if (query->problem != DnsCode::no_error) {
      ++counts.refused;
      return dns::refuse(*query, query->problem);
    }
    ++counts.answered;
    auto own = names.find(query->name);
    return dns::answer(*query, own == names.end() ? everywhere : own->second, static_cast<std::uint32_t>(ttl.count()));
  }

  void answer_waiting(udp::socket& socket) {
    std::array<char, longest_query> block;
    for (int i = 0; i < burst; ++i) {
      boost::system::error_code ec;
      udp::endpoint from;
      std::size_t size = socket.receive_from(asio::buffer(block), from, 0, ec);
      if (ec) return;
      std::string out = respond(std::string_view(block.data(), size));
      if (out.empty()) continue;
      socket.send_to(asio::buffer(out), from, 0, ec);
      if (ec) ++counts.unsent;
    }
  }

  Task<void> serve(udp::socket& socket) {
    for (;;) {
      auto [ec] = co_await socket.async_wait(udp::socket::wait_read, asio::as_tuple(asio::use_awaitable));
      if (ec) co_return Error(errc::cancelled);
      answer_waiting(socket);
    }
  }

  Runtime& runtime;
  Seconds ttl;
  std::vector<Address> everywhere;
  std::unordered_map<std::string, std::vector<Address>> names;
  std::list<udp::socket> sockets;
  TaskGroup* serving = nullptr;  // while it runs
  Notifier never;                // a wait that only a cancellation ends
  DnsResponderCounts counts;
};

DnsResponder::DnsResponder(Runtime& runtime, DnsResponderOptions options)
    : impl_(std::make_unique<Impl>(runtime, options)) {
  names(options.names);
}

DnsResponder::~DnsResponder() = default;

Result<void> DnsResponder::listen(const Endpoint& endpoint) {
  boost::system::error_code ec;
  auto address = asio::ip::make_address(endpoint.address.str(), ec);
  udp::endpoint local(address, endpoint.port);
  udp::socket socket(impl_->runtime.loop());
  socket.open(local.protocol(), ec);
  if (!ec) ec = prepare(socket.native_handle(), address.is_v4());
  if (!ec) socket.non_blocking(true, ec);
  if (!ec) socket.bind(local, ec);
  if (ec) return Error(errc::backend_failed, "cannot listen on " + endpoint.str() + " (UDP): " + ec.message());
  udp::socket& kept = impl_->sockets.emplace_back(std::move(socket));
  if (impl_->serving != nullptr) impl_->serving->add("dns_responder", impl_->serve(kept));
  return {};
}

std::vector<Endpoint> DnsResponder::endpoints() const {
  std::vector<Endpoint> out;
  for (const auto& socket : impl_->sockets) {
    boost::system::error_code ec;
    auto local = socket.local_endpoint(ec);
    if (ec) continue;
    auto address = local.address();
    out.emplace_back(
        address.is_v4() ? Address::from_v4(address.to_v4().to_uint()) : Address::from_v6(address.to_v6().to_bytes()),
        local.port());
  }
  return out;
}

Task<void> DnsResponder::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  TaskGroup serving(impl_->runtime);
  for (auto& socket : impl_->sockets) serving.add("dns_responder", impl_->serve(socket));
  impl_->serving = &serving;
  (void)co_await impl_->never.wait(impl_->never.revision());
  impl_->serving = nullptr;
  // Whoever cancels this waits until nothing uses the sockets any more.
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await serving.stop_all();
  co_return Error(errc::cancelled);
}

void DnsResponder::names(const DnsNames& names) {
  impl_->names.clear();
  for (const auto& [name, addresses] : names) impl_->names[canonical(name)] = addresses;
}

const DnsResponderCounts& DnsResponder::counts() const noexcept {
  return impl_->counts;
}

}  // namespace tornado::inline v1
