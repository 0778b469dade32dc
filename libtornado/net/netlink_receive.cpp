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

#include "base/try.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_ahead = 4;
constexpr auto patience = std::chrono::seconds(5);

}  // namespace

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
    if (n < 0) {
      errc code = errno == EPERM || errno == EACCES ? errc::permission_denied : errc::backend_failed;
      return Error(code, std::string("netlink: receive: ") + std::strerror(errno));
    }
    if (from.nl_pid != 0) continue;  // only the kernel is believed
    NetlinkReceived out;
    out.size = static_cast<std::size_t>(n);
    out.truncated = (header.msg_flags & MSG_TRUNC) != 0;
    return std::optional(out);
  }
}

/// Shared with the thread: everything under the mutex but what belongs to the loop.
struct ReceiveAhead::State : std::enable_shared_from_this<State> {
  State(Runtime& runtime_, int socket_, std::size_t buffer, bool secret_)
      : runtime(runtime_), socket(::fcntl(socket_, F_DUPFD_CLOEXEC, 0)), secret(secret_), arrived(runtime_) {
    for (std::size_t i = 0; i < most_ahead; ++i) spare.emplace_back(buffer, '\0');
  }
  ~State() { give_up(); }

  void wipe(Datagram& datagram) const {
    if (secret) OPENSSL_cleanse(datagram.bytes.data(), datagram.received.size);
  }
  void give_up() {
    for (Datagram& datagram : full) wipe(datagram);
    full.clear();
    spare.clear();
  }

  /// On the thread.
  Result<void> receive();
  bool begin();
  bool next_buffer(std::string& buffer);
  void put(Datagram datagram);

  Result<std::optional<Datagram>> receive_here();
  static Task<void> run(std::shared_ptr<State> self);

  Runtime& runtime;
  const Descriptor socket;
  const bool secret;

  std::mutex mutex;
  std::condition_variable freed;
  std::vector<std::string> spare;
  std::deque<Datagram> full;
  std::optional<Error> failed;
  bool begun = false;  // by the thread, which alone receives from now on
  bool stopped = false;
  bool waited_for = false;

  Notifier arrived;    // loop
  bool ended = false;  // loop
};

bool ReceiveAhead::State::begin() {
  std::lock_guard lock(mutex);
  begun = !stopped;
  return begun;
}

bool ReceiveAhead::State::next_buffer(std::string& buffer) {
  std::unique_lock lock(mutex);
  bool in_time = freed.wait_for(lock, patience, [this] { return stopped || !spare.empty(); });
  if (!in_time || stopped) return false;
  buffer = std::move(spare.back());
  spare.pop_back();
  return true;
}

void ReceiveAhead::State::put(Datagram datagram) {
  bool tell = false;
  {
    std::lock_guard lock(mutex);
    full.push_back(std::move(datagram));
    tell = std::exchange(waited_for, false);
  }
  if (tell) asio::post(runtime.loop(), [self = shared_from_this()] { self->arrived.notify(); });
}

Result<void> ReceiveAhead::State::receive() {
  if (!begin()) return {};
  Datagram datagram;
  while (next_buffer(datagram.bytes)) {
    TRY_PLAIN(auto received, receive_netlink(socket.get(), datagram.bytes));
    if (!received) return {};
    datagram.received = *received;
    put(std::move(datagram));
  }
  return {};
}

/// Under the mutex, before the thread has begun.
Result<std::optional<ReceiveAhead::Datagram>> ReceiveAhead::State::receive_here() {
  std::optional<Datagram> out;
  TRY_PLAIN(auto received, receive_netlink(socket.get(), spare.back()));
  if (!received) return out;
  out.emplace();
  out->bytes = std::move(spare.back());
  out->received = *received;
  spare.pop_back();
  return out;
}

Task<void> ReceiveAhead::State::run(std::shared_ptr<State> self) {
  auto work = [&self] { return self->receive(); };
  auto outcome = co_await self->runtime.offload(Blocking::file, work);
  // A full pool is no failure of the socket.
  if (!outcome && outcome.error().code() != errc::overloaded) self->failed = outcome.error();
  self->ended = true;
  if (self->stopped) self->give_up();
  self->arrived.notify();
  co_return Result<void>();
}

ReceiveAhead::ReceiveAhead(Runtime& runtime, int socket, std::size_t buffer, bool secret)
    : state_(std::make_shared<State>(runtime, socket, buffer, secret)) {
  state_->ended = !state_->socket;
  if (state_->ended) return;
  asio::co_spawn(runtime.loop(), State::run(state_), asio::detached);
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
  if (state_->begun || state_->ended || state_->spare.empty()) return out;
  return state_->receive_here();
}

void ReceiveAhead::give_back(Datagram datagram) {
  state_->wipe(datagram);
  {
    std::lock_guard lock(state_->mutex);
    state_->spare.push_back(std::move(datagram.bytes));
  }
  state_->freed.notify_one();
}

asio::awaitable<bool> ReceiveAhead::wait() {
  return state_->arrived.wait(state_->arrived.revision());
}

void ReceiveAhead::wake() {
  state_->arrived.notify();
}

void ReceiveAhead::stop() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopped = true;
    if (!state_->begun) state_->ended = true;
  }
  state_->freed.notify_one();
  if (state_->ended) state_->give_up();
}

bool ReceiveAhead::ended() const noexcept {
  return state_->ended;
}

}  // namespace tornado::inline v1
