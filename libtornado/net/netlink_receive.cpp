#include "net/netlink_receive.hpp"

#include <fcntl.h>
#include <linux/netlink.h>
#include <openssl/crypto.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "base/descriptor.hpp"
#include "base/notifier.hpp"
#include "base/try.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_ahead = 4;

}  // namespace

Error netlink_error(const char* what, int error) {
  errc code = error == EPERM || error == EACCES ? errc::permission_denied : errc::backend_failed;
  return Error(code, std::string("netlink: ") + what + ": " + std::strerror(error));
}

Result<std::optional<NetlinkReceived>> receive_netlink(int socket, std::string& buffer) {
  for (;;) {
    sockaddr_nl from{};
    iovec part{buffer.data(), buffer.size()};
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    ssize_t n = ::recvmsg(socket, &header, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return std::optional<NetlinkReceived>();
    if (n < 0 && errno == ENOBUFS) return Error(errc::data_loss, "netlink: receive queue overflowed");
    if (n < 0) return netlink_error("receive", errno);
    if (from.nl_pid != 0) continue;  // only the kernel is believed
    NetlinkReceived out;
    out.size = static_cast<std::size_t>(n);
    out.truncated = (header.msg_flags & MSG_TRUNC) != 0;
    return std::optional(out);
  }
}

struct ReceiveAhead::State : std::enable_shared_from_this<State> {
  State(Runtime& runtime_, int socket_, std::size_t buffer, bool secret_)
      : runtime(runtime_), socket(::fcntl(socket_, F_DUPFD_CLOEXEC, 0)), secret(secret_), arrived(runtime_) {
    for (std::size_t i = 0; i < most_ahead; ++i) spare.emplace_back(buffer, '\0');
  }
  ~State() { give_up(); }

  void wipe(Datagram& datagram) const {
    if (secret) OPENSSL_cleanse(datagram.bytes.data(), datagram.received.size);
  }
  /// Under the mutex.
  void give_up() {
    for (Datagram& datagram : full) wipe(datagram);
    full.clear();
    spare.clear();
  }

  /// On a thread of the pool.
  Result<void> receive();
  bool next_buffer(std::string& buffer);
  void put(Datagram datagram);
  void leave(Result<void> outcome);

  void ask();
  static Task<void> run(std::shared_ptr<State> self);
  Result<std::optional<Datagram>> receive_here();

  Runtime& runtime;
  const Descriptor socket;
  const bool secret;

  std::mutex mutex;
  std::vector<std::string> spare;
  std::deque<Datagram> full;
  bool receiving = false;  // a thread does, and nobody else
  bool over = false;
  std::optional<Error> failed;
  bool stopped = false;
  bool waited_for = false;

  // Of the loop.
  Notifier arrived;
  bool asked = false;    // a thread was asked for, and is not done
  bool refused = false;  // the pool is full
};

/// False: the thread is not to receive, now or any more.
bool ReceiveAhead::State::next_buffer(std::string& buffer) {
  std::lock_guard lock(mutex);
  receiving = !stopped && !over && !spare.empty();
  if (!receiving) return false;
  buffer = std::move(spare.back());
  spare.pop_back();
  return true;
}

void ReceiveAhead::State::put(Datagram datagram) {
  bool tell = false;
  {
    std::lock_guard lock(mutex);
    if (stopped) return wipe(datagram);
    full.push_back(std::move(datagram));
    tell = std::exchange(waited_for, false);
  }
  if (tell) asio::post(runtime.loop(), [self = shared_from_this()] { self->arrived.notify(); });
}

void ReceiveAhead::State::leave(Result<void> outcome) {
  std::lock_guard lock(mutex);
  receiving = false;
  over = true;
  if (!outcome) failed = outcome.error();
}

Result<void> ReceiveAhead::State::receive() {
  Datagram datagram;
  while (next_buffer(datagram.bytes)) {
    auto received = receive_netlink(socket.get(), datagram.bytes);
    if (!received || !*received) {
      leave(received ? Result<void>() : received.error());
      break;
    }
    datagram.received = **received;
    put(std::move(datagram));
  }
  return {};
}

void ReceiveAhead::State::ask() {
  if (asked || refused) return;
  asked = true;
  asio::co_spawn(runtime.loop(), run(shared_from_this()), asio::detached);
}

Task<void> ReceiveAhead::State::run(std::shared_ptr<State> self) {
  auto work = [&self] { return self->receive(); };
  auto outcome = co_await self->runtime.offload(Blocking::file, work);
  self->asked = false;
  self->refused = !outcome && outcome.error().code() == errc::overloaded;
  if (!outcome && !self->refused) self->leave(outcome);
  self->arrived.notify();
  co_return Result<void>();
}

/// Under the mutex, while no thread receives.
Result<std::optional<ReceiveAhead::Datagram>> ReceiveAhead::State::receive_here() {
  std::optional<Datagram> out;
  TRY_PLAIN(auto received, receive_netlink(socket.get(), spare.back()));
  over = !received;
  if (over) return out;
  out.emplace();
  out->bytes = std::move(spare.back());
  out->received = *received;
  spare.pop_back();
  return out;
}

ReceiveAhead::ReceiveAhead(Runtime& runtime, int socket, std::size_t buffer, bool secret)
    : state_(std::make_shared<State>(runtime, socket, buffer, secret)) {
  // Without a descriptor for the duplicate there is nothing to receive from.
  state_->over = !state_->socket;
  if (!state_->over) state_->ask();
}

ReceiveAhead::~ReceiveAhead() {
  stop();
}

Result<std::optional<ReceiveAhead::Datagram>> ReceiveAhead::take() {
  std::lock_guard lock(state_->mutex);
  std::optional<Datagram> out;
  if (!state_->full.empty()) {
    out = std::move(state_->full.front());
    state_->full.pop_front();
    return out;
  }
  if (state_->failed) return *state_->failed;
  state_->waited_for = true;
  const bool possible = !state_->receiving && !state_->over && !state_->stopped && !state_->spare.empty();
  return possible ? state_->receive_here() : out;
}

void ReceiveAhead::give_back(Datagram datagram) {
  state_->wipe(datagram);
  bool room = false;
  {
    std::lock_guard lock(state_->mutex);
    if (state_->stopped) return;
    state_->spare.push_back(std::move(datagram.bytes));
    room = !state_->over && state_->spare.size() + 1 >= most_ahead;
  }
  if (room) state_->ask();
}

bool ReceiveAhead::over() const {
  std::lock_guard lock(state_->mutex);
  return state_->over && state_->full.empty() && !state_->failed;
}

asio::awaitable<bool> ReceiveAhead::wait() {
  return state_->arrived.wait(state_->arrived.revision());
}

void ReceiveAhead::wake() {
  state_->arrived.notify();
}

void ReceiveAhead::stop() {
  std::lock_guard lock(state_->mutex);
  state_->stopped = true;
  state_->give_up();
}

bool ReceiveAhead::busy() const {
  std::lock_guard lock(state_->mutex);
  return state_->receiving;
}

}  // namespace tornado::inline v1
