#pragma once

#include <list>
#include <memory>

#include "base/notifier.hpp"
#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Tasks that run beside their starter and end before it does. Loop thread; the destructor cancels and joins.
class TaskGroup {
 public:
  explicit TaskGroup(Runtime& runtime);
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// A failed task is logged under its name; `cancelled` is no failure.
  void add(std::string name, Task<void> task);
  std::size_t size() const noexcept;
  /// Waits until fewer than `count` run.
  boost::asio::awaitable<void> settled(std::size_t count);
  /// Cancels all and waits for their end; nothing may be added afterwards.
  boost::asio::awaitable<void> stop_all();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tornado::inline v1
