#pragma once

#include <boost/asio/steady_timer.hpp>
#include <list>
#include <map>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Admission to the password hasher: who may hash next, and who is told to come back later (I-16).
///
/// As many as there are hashing threads run at once. The queue is bounded by time: whoever would wait longer than the
/// patience is refused. Addresses take turns, accounts with a recent success go before others of their address, and
/// when the queue is full the address that holds most of it gives way to one that holds less. Loop thread.
class HashQueue {
 public:
  HashQueue(Runtime& runtime, int slots, Seconds patience);

  /// Released when the hash is done.
  class Turn {
   public:
    Turn() = default;
    explicit Turn(HashQueue& queue);
    Turn(Turn&& other) noexcept;
    Turn& operator=(Turn&& other) noexcept;
    ~Turn();

   private:
    HashQueue* queue_ = nullptr;
    std::chrono::steady_clock::time_point began_;
  };

  /// Waits for a turn. overloaded: the wait would be too long.
  Task<Turn> enter(Address source, bool trusted);
  std::size_t waiting() const noexcept { return waiting_; }
  bool idle() const noexcept { return running_ == 0 && waiting_ == 0; }

 private:
  struct Entry {
    Entry(boost::asio::io_context& io, bool trusted_);
    boost::asio::steady_timer wake;
    bool trusted;
    enum class State : std::uint8_t { waiting, granted, refused } state = State::waiting;
  };
  using Line = std::list<Entry*>;

  void leave(std::chrono::steady_clock::duration took);
  void grant_next();
  bool make_room(const Address& source);
  std::size_t limit() const;

  Runtime& runtime_;
  const int slots_;
  const std::chrono::steady_clock::duration patience_;
  /// Of one hash; measured from the first one on.
  std::chrono::steady_clock::duration average_ = std::chrono::milliseconds(120);
  std::map<Address, Line> lines_;
  Address last_served_;
  std::size_t waiting_ = 0;
  int running_ = 0;
};

}  // namespace tornado::inline v1
