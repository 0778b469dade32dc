#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// What a system call on a netlink socket has failed with: permission_denied or backend_failed.
Error netlink_error(const char* what, int error);

/// The part of a buffer that a datagram of the kernel fills.
class NetlinkReceived {
 public:
  std::size_t size = 0;
  bool truncated = false;  ///< the datagram was larger than the buffer
};

/// Never waits; datagrams of other programs are passed over. Nothing: none is there. Any thread.
/// Errors: data_loss (the queue of the socket overflowed), permission_denied, backend_failed.
Result<std::optional<NetlinkReceived>> receive_netlink(int socket, std::string& buffer);

/// Receives the datagrams of a dump on the blocking pool, a few ahead of the one who takes them: the kernel makes the
/// parts of a dump while they are received. The pool's thread is given back when it is as far ahead as it may be. As
/// long as no thread of the pool receives, whoever takes does.
///
/// Loop thread. A thread may go on after this object for one system call.
class ReceiveAhead {
 public:
  class Datagram {
   public:
    std::string bytes;  ///< the buffer, of which `received` says the part
    NetlinkReceived received;
  };

  /// `socket` is duplicated. `buffer`: the largest datagram. `secret`: what was received is wiped from the buffers.
  ReceiveAhead(Runtime& runtime, int socket, std::size_t buffer, bool secret);
  ~ReceiveAhead();
  ReceiveAhead(const ReceiveAhead&) = delete;
  ReceiveAhead& operator=(const ReceiveAhead&) = delete;

  /// The next datagram, if it is there. Errors: those of `receive_netlink`, after the datagrams before them.
  Result<std::optional<Datagram>> take();
  /// Lets its buffer be used again.
  void give_back(Datagram datagram);
  /// Nothing is left, here or in the socket, which is also the end of a dump; and no error is to be told. Nobody wakes
  /// who waits after that.
  bool over() const;

  /// Until there may be something to take, a thread has ended, or `wake`. False: cancelled.
  boost::asio::awaitable<bool> wait();
  void wake();

  /// What was not taken is void, and nothing is received from now on but by a thread that has begun to.
  void stop();
  /// A thread receives.
  bool busy() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
