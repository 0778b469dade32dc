#include "net/netlink_socket.hpp"

#include <fcntl.h>
#include <linux/netlink.h>
#include <openssl/crypto.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>

#include "base/cancellation.hpp"
#include "base/notifier.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "net/netlink_receive.hpp"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

constexpr int dump_attempts = 10;
constexpr int socket_memory = 8 << 20;
constexpr std::size_t largest_buffer = 1 << 20;

void stamp(std::string& message, std::uint32_t sequence, bool acknowledge) {
  nlmsghdr header;
  std::memcpy(&header, message.data(), sizeof header);
  header.nlmsg_seq = sequence;
  if (acknowledge) header.nlmsg_flags |= NLM_F_ACK;
  std::memcpy(message.data(), &header, sizeof header);
}

/// False: the socket is full.
Result<bool> send_to_kernel(int fd, const std::string& bytes) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  for (;;) {
    ssize_t n = ::sendto(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                         reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
    if (n >= 0) return true;
    if (errno == EAGAIN) return false;
    if (errno != EINTR) return netlink_error("send", errno);
  }
}

void wipe(std::string& bytes) {
  OPENSSL_cleanse(bytes.data(), bytes.size());
}

/// What a socket that keeps secrets has sent or received, wiped when it goes.
class Secrets {
 public:
  explicit Secrets(bool wanted) : wanted_(wanted) {}
  ~Secrets() {
    if (!wanted_) return;
    for (NetlinkMessage& message : received) wipe(message.payload);
    for (std::string& bytes : sent) wipe(bytes);
  }
  Secrets(const Secrets&) = delete;
  Secrets& operator=(const Secrets&) = delete;

  std::vector<NetlinkMessage> received;
  std::vector<std::string> sent;

 private:
  bool wanted_;
};

bool is_dump(const std::string& request) {
  nlmsghdr header;
  std::memcpy(&header, request.data(), sizeof header);
  // NLM_F_DUMP has the bits of NLM_F_REPLACE and NLM_F_EXCL; without CREATE or ACK it can only be a dump here.
  return (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP && (header.nlmsg_flags & NLM_F_CREATE) == 0;
}

}  // namespace

struct NetlinkSocket::State {
  State(Runtime& runtime_, std::size_t buffer_size)
      : runtime(runtime_),
        descriptor(runtime.loop()),
        timer(runtime.loop()),
        freed(runtime),
        buffer(buffer_size, '\0') {}

  Result<void> open(int protocol, const std::vector<int>& groups);
  void arm(const std::shared_ptr<State>& self);
  void disarm();
  Result<bool> send(const std::string& bytes);
  Result<std::optional<std::vector<NetlinkMessage>>> read();
  Result<std::optional<std::vector<NetlinkMessage>>> read_ahead();
  Result<std::vector<NetlinkMessage>> split(const std::string& bytes, const NetlinkReceived& received);

  static Task<void> drain(std::shared_ptr<State> state);
  static Task<void> send_all(std::shared_ptr<State> state, const std::string& bytes, bool off_loop);
  static Task<void> collect(std::shared_ptr<State> state, NetlinkExchange& exchange, Reader* reader);
  static Task<bool> send_off_loop(std::shared_ptr<State> state, const std::string& bytes);
  static Task<NetlinkReply> attempt(std::shared_ptr<State> state, std::vector<std::string>& messages, bool off_loop,
                                    Keep keep, Reader* reader);
  static Task<NetlinkReply> run(std::shared_ptr<State> state, std::vector<std::string> messages, bool off_loop,
                                Keep keep = Keep::all, Reader* reader = nullptr);
  Result<void> hand_over(NetlinkExchange& exchange, Reader& reader);
  bool grow();
  static Task<std::vector<NetlinkMessage>> next(std::shared_ptr<State> state);
  static Task<std::vector<NetlinkMessage>> next_ahead(std::shared_ptr<State> state);
  static Task<void> nobody_ahead(std::shared_ptr<State> state);
  void wake_ahead();
  static Task<void> under_way(std::shared_ptr<State> state);
  static Task<void> ready(std::shared_ptr<State> state, asio::posix::stream_descriptor::wait_type what);

  static constexpr auto never = std::chrono::steady_clock::time_point::max();

  Runtime& runtime;
  asio::posix::stream_descriptor descriptor;
  asio::steady_timer timer;
  Notifier freed;
  std::string buffer;
  std::unique_ptr<ReceiveAhead> ahead;  // of a dump; the last one's too, until its thread has ended
  std::optional<Error> broken;
  Limits limits;
  std::uint32_t port = 0;
  std::uint32_t sequence = 0;
  std::chrono::steady_clock::time_point latest = never;  // for the end of this exchange
  std::chrono::steady_clock::duration sending{};         // of this attempt
  std::uint64_t epoch = 0;
  bool busy = false;
  bool expired = false;
  bool closed = false;
  bool truncated = false;  // the last datagram was larger than the buffer
  bool secret = false;
};

Result<void> NetlinkSocket::State::open(int protocol, const std::vector<int>& groups) {
  int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return netlink_error("socket", errno);
  descriptor.assign(fd);
  int on = 1;
  ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  // Dumps of routes are filtered where the kernel can (4.20).
  ::setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &socket_memory, sizeof socket_memory);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &socket_memory, sizeof socket_memory);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return netlink_error("bind", errno);
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0) return netlink_error("getsockname", errno);
  port = address.nl_pid;
  for (int group : groups)
    if (::setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
      return netlink_error("subscribe", errno);
  return {};
}

Result<bool> NetlinkSocket::State::send(const std::string& bytes) {
  const auto began = std::chrono::steady_clock::now();
  auto sent = send_to_kernel(descriptor.native_handle(), bytes);
  sending += std::chrono::steady_clock::now() - began;
  return sent;
}

/// The timer may fire after the exchange has ended, or has heard from the kernel: the epoch tells for what it was set.
void NetlinkSocket::State::arm(const std::shared_ptr<State>& self) {
  expired = false;
  timer.expires_at(std::min(std::chrono::steady_clock::now() + limits.silence, latest));
  timer.async_wait([self, mine = ++epoch](const boost::system::error_code& ec) {
    if (ec || self->epoch != mine) return;
    self->expired = true;
    self->descriptor.cancel();
    self->wake_ahead();
  });
}

void NetlinkSocket::State::disarm() {
  ++epoch;
  timer.cancel();
}

/// Nothing: no datagram is waiting.
Result<std::optional<std::vector<NetlinkMessage>>> NetlinkSocket::State::read() {
  TRY_PLAIN(auto received, receive_netlink(descriptor.native_handle(), buffer));
  if (!received) return std::optional<std::vector<NetlinkMessage>>();
  auto messages = split(buffer, *received);
  if (secret) OPENSSL_cleanse(buffer.data(), received->size);
  if (!messages) return messages.error();
  return std::optional(std::move(*messages));
}

Result<std::vector<NetlinkMessage>> NetlinkSocket::State::split(const std::string& bytes,
                                                                const NetlinkReceived& received) {
  truncated = received.truncated;
  if (truncated) return Error(errc::protocol_error, "netlink: truncated datagram");
  return split_netlink(std::string_view(bytes).substr(0, received.size));
}

/// What was received ahead, until nothing of it is left.
Result<std::optional<std::vector<NetlinkMessage>>> NetlinkSocket::State::read_ahead() {
  TRY_PLAIN(auto datagram, ahead->take());
  if (!datagram) return std::optional<std::vector<NetlinkMessage>>();
  auto messages = split(datagram->bytes, datagram->received);
  ahead->give_back(std::move(*datagram));
  if (!messages) return messages.error();
  return std::optional(std::move(*messages));
}

/// Gives the reader what the exchange has kept.
Result<void> NetlinkSocket::State::hand_over(NetlinkExchange& exchange, Reader& reader) {
  Secrets messages(secret);
  messages.received = exchange.take_messages();
  for (const NetlinkMessage& message : messages.received) TRY_VOID_PLAIN(reader.take(message));
  return {};
}

bool NetlinkSocket::State::grow() {
  if (!truncated || buffer.size() * 2 > largest_buffer) return false;
  truncated = false;
  if (secret) wipe(buffer);
  buffer.assign(buffer.size() * 2, '\0');
  return true;
}

Task<void> NetlinkSocket::State::under_way(std::shared_ptr<State> state) {
  bool cancelled = co_await is_cancelled();
  if (state->closed || cancelled) co_return Error(errc::cancelled);
  // A dump whose next part is always there sets the timer again before it is its turn.
  const bool late = std::chrono::steady_clock::now() >= state->latest;
  if (state->expired || late) co_return Error(errc::deadline_exceeded, "netlink: no answer in time");
  co_return Result<void>();
}

Task<void> NetlinkSocket::State::ready(std::shared_ptr<State> state, asio::posix::stream_descriptor::wait_type what) {
  TRY_VOID(co_await under_way(state));
  auto [ec] = co_await state->descriptor.async_wait(what, asio::as_tuple(asio::use_awaitable));
  if (state->expired) co_return Error(errc::deadline_exceeded, "netlink: no answer");
  if (ec) co_return Error(errc::cancelled);
  co_return Result<void>();
}

/// On a descriptor of its own: the socket may be closed meanwhile, and its number be given to another.
Task<bool> NetlinkSocket::State::send_off_loop(std::shared_ptr<State> state, const std::string& bytes) {
  int copy = ::fcntl(state->descriptor.native_handle(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) co_return netlink_error("dup", errno);
  auto work = [&]() -> Result<bool> { return send_to_kernel(copy, bytes); };
  auto sent = co_await state->runtime.offload(Blocking::file, work);
  ::close(copy);
  if (state->closed) co_return Error(errc::cancelled);
  if (sent || sent.error().code() != errc::overloaded) co_return sent;
  co_return state->send(bytes);
}

Task<void> NetlinkSocket::State::send_all(std::shared_ptr<State> state, const std::string& bytes, bool off_loop) {
  bool sent = false;
  if (off_loop) {
    TRY(sent, co_await send_off_loop(state, bytes));
  }
  while (!sent) {
    TRY(sent, state->send(bytes));
    if (!sent) TRY_VOID(co_await ready(state, asio::posix::stream_descriptor::wait_write));
  }
  co_return Result<void>();
}

/// What an exchange that failed has left; a dump that was not read to its end would refuse the next one.
Task<void> NetlinkSocket::State::drain(std::shared_ptr<State> state) {
  Pace pace(state->runtime);
  for (;;) {
    ssize_t n = ::recv(state->descriptor.native_handle(), state->buffer.data(), state->buffer.size(), MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != ENOBUFS) co_return Result<void>();
    if (n > 0 && state->secret) OPENSSL_cleanse(state->buffer.data(), static_cast<std::size_t>(n));
    if (pace.due()) {
      co_await pace.yield();
      TRY_VOID(co_await under_way(state));
    }
  }
}

void NetlinkSocket::State::wake_ahead() {
  if (ahead) ahead->wake();
}

/// The messages of the next datagram of a dump that is received ahead; here, if nobody does so any more.
Task<std::vector<NetlinkMessage>> NetlinkSocket::State::next_ahead(std::shared_ptr<State> state) {
  for (;;) {
    TRY_VOID(co_await under_way(state));
    TRY(auto messages, state->read_ahead());
    if (messages) co_return std::move(*messages);
    if (state->ahead->over()) break;
    (void)co_await state->ahead->wait();
  }
  state->ahead.reset();
  co_return co_await next(state);
}

/// Two that receive would take each other's answers.
Task<void> NetlinkSocket::State::nobody_ahead(std::shared_ptr<State> state) {
  if (state->ahead) state->ahead->stop();
  while (state->ahead && state->ahead->busy()) {
    TRY_VOID(co_await under_way(state));
    (void)co_await state->ahead->wait();
  }
  state->ahead.reset();
  co_return Result<void>();
}

/// The kernel makes the next part of a dump while the last one is read: there may always be something to read. What has
/// more than one part is received beside the loop, which only looks at it.
Task<void> NetlinkSocket::State::collect(std::shared_ptr<State> state, NetlinkExchange& exchange, Reader* reader) {
  Pace pace(state->runtime);
  while (!exchange.complete()) {
    if (pace.due()) {
      co_await pace.yield();
      TRY_VOID(co_await under_way(state));
    }
    Secrets taken(state->secret);
    if (state->ahead) {
      TRY(taken.received, co_await next_ahead(state));
    } else {
      TRY(taken.received, co_await next(state));
    }
    // Of a dump that goes on, however slowly, nothing would be gained by beginning anew.
    state->arm(state);
    for (NetlinkMessage& message : taken.received) TRY_VOID(exchange.take(std::move(message)));
    if (reader == nullptr) continue;
    TRY_VOID(state->hand_over(exchange, *reader));
    if (exchange.complete() || state->ahead) continue;
    state->ahead = std::make_unique<ReceiveAhead>(state->runtime, state->descriptor.native_handle(),
                                                  state->buffer.size(), state->secret);
  }
  co_return Result<void>();
}

/// Sends the messages with new numbers and collects what answers them.
Task<NetlinkReply> NetlinkSocket::State::attempt(std::shared_ptr<State> state, std::vector<std::string>& messages,
                                                 bool off_loop, Keep keep, Reader* reader) {
  bool dump = messages.size() == 1 && is_dump(messages.front());
  std::uint32_t first = state->sequence + 1;
  // In a batch the last message but one is acknowledged: BATCH_END is not, on older kernels.
  std::uint32_t last = first + static_cast<std::uint32_t>(messages.size() > 1 ? messages.size() - 2 : 0);
  Secrets secrets(state->secret);
  std::size_t size = 0;
  for (const std::string& message : messages) size += message.size();
  std::string& bytes = secrets.sent.emplace_back();
  bytes.reserve(size);
  for (std::string& message : messages) {
    ++state->sequence;
    stamp(message, state->sequence, state->sequence == last && !dump);
    bytes += message;
  }
  state->sending = {};
  TRY_VOID(co_await send_all(state, bytes, off_loop));
  NetlinkExchange exchange(first, last, keep);
  TRY_VOID(co_await collect(state, exchange, reader));
  NetlinkReply reply = exchange.take_reply();
  reply.sending = state->sending;
  co_return reply;
}

Task<NetlinkReply> NetlinkSocket::State::run(std::shared_ptr<State> state, std::vector<std::string> messages,
                                             bool off_loop, Keep keep, Reader* reader) {
  Secrets secrets(state->secret);
  secrets.sent = std::move(messages);
  if (state->broken) co_return *state->broken;
  while (state->busy) {
    std::uint64_t seen = state->freed.revision();
    bool woken = co_await state->freed.wait(seen);
    if (!woken || state->closed) co_return Error(errc::cancelled);
  }
  struct Turn {
    State& state;
    explicit Turn(State& s) : state(s) { state.busy = true; }
    ~Turn() {
      if (state.ahead) state.ahead->stop();
      state.busy = false;
      state.latest = never;
      state.disarm();
      state.freed.notify();
    }
  };
  Turn turn(*state);
  state->latest = std::chrono::steady_clock::now() + state->limits.whole;
  state->arm(state);
  state->truncated = false;
  bool dump = secrets.sent.size() == 1 && is_dump(secrets.sent.front());
  for (int number = 0; number < dump_attempts; ++number) {
    TRY_VOID(co_await nobody_ahead(state));
    TRY_VOID(co_await drain(state));
    if (reader != nullptr) reader->begin();
    auto reply = co_await attempt(state, secrets.sent, off_loop, keep, reader);
    bool again = dump && (reply ? reply->ack.error == EINTR : state->grow());
    if (!again) co_return reply;
  }
  co_return Error(errc::unavailable, "netlink: a dump changed underneath again and again");
}

Task<std::vector<NetlinkMessage>> NetlinkSocket::State::next(std::shared_ptr<State> state) {
  if (state->broken) co_return *state->broken;
  for (;;) {
    TRY(auto messages, state->read());
    if (messages) co_return std::move(*messages);
    TRY_VOID(co_await ready(state, asio::posix::stream_descriptor::wait_read));
  }
}

NetlinkSocket::NetlinkSocket(Runtime& runtime, int protocol, const std::vector<int>& groups, std::size_t buffer)
    : state_(std::make_shared<State>(runtime, buffer)) {
  auto opened = state_->open(protocol, groups);
  if (!opened) state_->broken = opened.error();
}

NetlinkSocket::~NetlinkSocket() {
  state_->closed = true;
  state_->disarm();
  state_->freed.notify();
  if (state_->ahead) state_->ahead->stop();
  state_->wake_ahead();
  boost::system::error_code ignored;
  state_->descriptor.close(ignored);
}

Task<NetlinkReply> NetlinkSocket::exchange(std::string request, Keep keep) {
  std::vector<std::string> one;
  one.push_back(std::move(request));
  return State::run(state_, std::move(one), false, keep);
}

Task<NetlinkReply> NetlinkSocket::dump(std::string request, Reader& reader) {
  std::vector<std::string> one;
  one.push_back(std::move(request));
  return State::run(state_, std::move(one), false, Keep::all, &reader);
}

void NetlinkSocket::limit(const Limits& limits) noexcept {
  state_->limits = limits;
}

void NetlinkSocket::keep_secrets() noexcept {
  state_->secret = true;
}

Task<NetlinkReply> NetlinkSocket::transact(std::vector<std::string> batch) {
  return State::run(state_, std::move(batch), false);
}

Task<NetlinkReply> NetlinkSocket::transact_off_loop(std::vector<std::string> batch) {
  return State::run(state_, std::move(batch), true);
}

Task<std::vector<NetlinkMessage>> NetlinkSocket::receive() {
  return State::next(state_);
}

std::uint32_t NetlinkSocket::port() const noexcept {
  return state_->port;
}

}  // namespace tornado::inline v1
