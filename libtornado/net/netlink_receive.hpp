#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/descriptor.hpp"
#include "base/notifier.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// The part of a buffer that a datagram of the kernel fills.
class NetlinkReceived {
 public:
  std::size_t size = 0;
  bool truncated = false;  ///< the datagram was larger than the buffer
};

/// Never waits; datagrams of other programs are passed over. Nothing: none is there. Any thread.
/// Errors: data_loss (the queue of the socket overflowed), permission_denied, backend_failed.
Result<std::optional<NetlinkReceived>> receive_netlink(int socket, std::string& buffer);

/// Receives on a thread of the blocking pool, a few datagrams ahead of the one who takes them: the kernel makes the
/// parts of a dump while they are received. Until the pool has a thread for it, whoever takes receives. Ends when
/// nothing is left to receive, which is also the end of a dump, when it was stopped, and when nobody has taken anything
/// for 5 s.
///
/// Loop thread. The thread may outlive this object by one system call; `ended` says when it is done with the socket.
class ReceiveAhead {
 public:
  class Datagram {
   public:
    std::string bytes;  ///< the buffer, of which `received` says the part
    NetlinkReceived received;
  };

  /// `socket` is duplicated; without a descriptor for that, this has ended. `buffer`: the largest datagram. `secret`:
  /// what was received is wiped from the buffers.
  ReceiveAhead(Runtime& runtime, int socket, std::size_t buffer, bool secret);
  ~ReceiveAhead();
  ReceiveAhead(const ReceiveAhead&) = delete;
  ReceiveAhead& operator=(const ReceiveAhead&) = delete;

  /// The next datagram, if it is there. Errors: those of `receive_netlink`, after the datagrams before them.
  Result<std::optional<Datagram>> take();
  /// Lets its buffer be used again.
  void give_back(Datagram datagram);
  /// Until there is something to take, the end, or `wake`. False: cancelled.
  boost::asio::awaitable<bool> wait();
  void wake();

  /// What was not taken is void.
  void stop();
  /// Nothing is received any more; some may be left to take.
  bool ended() const noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
