#pragma once

#include <deque>
#include <memory>
#include <string>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Those who want to use one interface, one after another in the order in which they came. Loop thread.
class InterfaceQueue {
 public:
  /// The right to use the interface; the next in the queue gets it afterwards.
  class Turn {
   public:
    Turn(Turn&& other) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    friend class InterfaceQueue;
    struct State;
    explicit Turn(std::shared_ptr<State> state) : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
  };

  InterfaceQueue(Runtime& runtime, std::string name);
  ~InterfaceQueue();

  /// Errors: overloaded (1024 wait already, or the turn has not come within 5 s), cancelled.
  Task<Turn> enter();
  std::size_t waiting() const noexcept;

 private:
  static Task<Turn> wait_in(std::shared_ptr<Turn::State> state);
  std::shared_ptr<Turn::State> state_;
};

}  // namespace tornado::inline v1
