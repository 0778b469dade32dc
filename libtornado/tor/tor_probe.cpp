// Whether somebody on the other side of the network answers.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>

#include "base/cancellation.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "dns/dns_codec.hpp"
#include "tor/tor_controller_impl.hpp"

namespace asio = boost::asio;
using asio::ip::udp;

namespace tornado::inline v1 {
namespace {

constexpr std::chrono::seconds probe_deadline{10};
constexpr auto completion = asio::as_tuple(asio::use_awaitable);

udp::endpoint to_asio(const Endpoint& at) {
  boost::system::error_code ignored;
  return udp::endpoint(asio::ip::make_address(at.address.str(), ignored), at.port);
}

}  // namespace

/// Asks for a name on the port that devices are redirected to. That the name does not exist is an answer, too: only an
/// exit can have said so.
Task<void> TorController::Impl::probe() {
  if (options.probe_name.empty() || options.dns.empty()) co_return Result<void>();
  std::string random = random_bytes(2);
  std::uint16_t id = 0;
  std::memcpy(&id, random.data(), sizeof id);
  std::string question = dns::query(id, options.probe_name);
  auto failed = [](std::string_view why) { return Error(errc::tor_unavailable, "the probe: " + std::string(why)); };

  boost::system::error_code error;
  udp::endpoint server = to_asio(options.dns.front());
  udp::socket socket(runtime.loop());
  socket.open(server.protocol(), error);
  if (!error) socket.connect(server, error);
  if (!error) socket.send(asio::buffer(question), 0, error);
  if (error) co_return failed(error.message());
  std::string answer(1500, '\0');
  asio::steady_timer timer(runtime.loop(), probe_deadline);
  auto received = socket.async_receive(asio::buffer(answer), completion);
  auto expired = timer.async_wait(completion);
  // Whoever wishes something else now need not wait for an answer.
  auto interrupted = wished.wait(wished.revision());
  auto ended = lost.wait(lost.revision());
  auto first = co_await first_of(std::move(received), std::move(expired), std::move(interrupted), std::move(ended));
  if (!first || first->index() == 2) co_return failed("given up");
  if (first->index() == 3) co_return failed("tor has ended meanwhile");
  if (first->index() == 1) co_return failed("no answer in 10 s to " + options.probe_name);
  auto [receive_error, size] = std::get<0>(*first);
  if (receive_error == asio::error::connection_refused)
    co_return Error(errc::backend_failed, "tor does not listen on " + options.dns.front().str());
  if (receive_error) co_return failed(receive_error.message());
  TRY(auto parsed, dns::parse_answer(std::string_view(answer).substr(0, size)));
  if (parsed.id != id) co_return failed("an answer to another question");
  bool told = parsed.code == DnsCode::no_error || parsed.code == DnsCode::name_error;
  if (!told) co_return failed(options.probe_name + " could not be resolved");
  co_return Result<void>();
}

}  // namespace tornado::inline v1
