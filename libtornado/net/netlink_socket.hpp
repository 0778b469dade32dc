#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/netlink_codec.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// A netlink socket in the network namespace of the thread that makes it. Loop thread.
///
/// Use it either for exchanges or, with multicast groups, for `receive`. An exchange ends within its limits. If the
/// socket cannot be opened, every operation returns that error. Tasks of a socket that was destroyed end with
/// `cancelled`.
class NetlinkSocket {
 public:
  static constexpr std::size_t default_buffer = 65536;

  /// How long an exchange may take once it is its turn. Not counted: a batch that the kernel executes while it is sent.
  struct Limits {
    std::chrono::milliseconds silence = std::chrono::seconds(5);  ///< since the kernel's last word
    std::chrono::milliseconds whole = std::chrono::seconds(30);   ///< in all, repetitions included
  };

  /// Takes the answers of a dump as they come, so that a large one is never in memory as a whole.
  class Reader {
   public:
    virtual ~Reader() = default;
    /// The dump begins, perhaps anew: what was taken before is void.
    virtual void begin() = 0;
    /// An error ends the exchange.
    virtual Result<void> take(const NetlinkMessage& message) = 0;
  };

  /// `buffer` is the largest datagram that can be received; tests make it small.
  NetlinkSocket(Runtime& runtime, int protocol, const std::vector<int>& groups = {},
                std::size_t buffer = default_buffer);
  ~NetlinkSocket();
  NetlinkSocket(const NetlinkSocket&) = delete;
  NetlinkSocket& operator=(const NetlinkSocket&) = delete;

  /// Sends one request and collects its answers; others run while a long dump is read. A dump that changed underneath
  /// is repeated, as is one with a datagram larger than the buffer, which grows then. Exchanges queue up.
  /// Errors: deadline_exceeded, cancelled, protocol_error (truncated or malformed), backend_failed, unavailable (a
  /// dump changed underneath ten times). What the kernel answers is in the reply.
  Task<NetlinkReply> exchange(std::string request, Keep keep = Keep::all);

  /// The same for a dump whose messages go to a reader, and not into the reply; those of a dump of many datagrams are
  /// received on the blocking pool meanwhile. The reader is called on the loop thread and outlives the task.
  Task<NetlinkReply> dump(std::string request, Reader& reader);

  /// Before the first exchange, or between two. Both are more than nothing.
  void limit(const Limits& limits) noexcept;

  /// From now on requests and what a reader was given are wiped from memory after use: they hold private keys.
  void keep_secrets() noexcept;

  /// Sends nfnetlink messages, BATCH_BEGIN to BATCH_END, as one datagram. The reply carries the first error.
  Task<NetlinkReply> transact(std::vector<std::string> batch);

  /// The same for a batch that takes long: the kernel executes it while it is sent, so it is sent on the blocking pool
  /// (on the loop should the pool be full).
  Task<NetlinkReply> transact_off_loop(std::vector<std::string> batch);

  /// The messages of the next datagram. Errors: data_loss (the queue overflowed: something was missed), cancelled.
  Task<std::vector<NetlinkMessage>> receive();

  /// Our address, as it stands in notifications about changes we made.
  std::uint32_t port() const noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
