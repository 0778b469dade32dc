#include "base/task_group.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace asio = boost::asio;

namespace tornado::inline v1 {

struct TaskGroup::State {
  explicit State(Runtime& runtime_) : runtime(runtime_), ended(runtime_) {}
  Runtime& runtime;
  Notifier ended;
  std::list<asio::cancellation_signal> running;
};

namespace {

asio::awaitable<void> supervise(Runtime& runtime, std::string name, Task<void> task) {
  co_await asio::this_coro::throw_if_cancelled(false);
  try {
    auto result = co_await std::move(task);
    if (!result && result.error().code() != errc::cancelled)
      runtime.log().write(LogLevel::error, "background_task_failed",
                          {{"task", name},
                           {"code", std::string(tornado::name(result.error().code()))},
                           {"detail", result.error().detail()}});
  } catch (const std::exception& e) {
    runtime.log().write(LogLevel::error, "background_task_threw", {{"task", name}, {"detail", e.what()}});
  }
}

}  // namespace

TaskGroup::TaskGroup(Runtime& runtime) : state_(std::make_shared<State>(runtime)) {}

TaskGroup::~TaskGroup() {
  if (size() == 0) return;
  auto join = [](TaskGroup& group) -> Task<void> {
    co_await group.stop_all();
    co_return Result<void>();
  };
  (void)state_->runtime.wait(join(*this));
}

void TaskGroup::add(std::string name, Task<void> task) {
  auto it = state_->running.emplace(state_->running.end());
  auto done = [state = state_, it](std::exception_ptr) {
    state->running.erase(it);
    state->ended.notify();
  };
  asio::co_spawn(state_->runtime.loop(), supervise(state_->runtime, std::move(name), std::move(task)),
                 asio::bind_cancellation_slot(it->slot(), done));
}

std::size_t TaskGroup::size() const noexcept {
  return state_->running.size();
}

asio::awaitable<void> TaskGroup::settled(std::size_t count) {
  auto state = state_;
  while (state->running.size() >= count && count > 0) {
    std::uint64_t seen = state->ended.revision();
    bool told = co_await state->ended.wait(seen);
    if (!told) co_return;
  }
}

namespace {

template <class State>
asio::awaitable<void> all_ended(std::shared_ptr<State> state) {
  while (!state->running.empty()) {
    std::uint64_t seen = state->ended.revision();
    bool told = co_await state->ended.wait(seen);
    if (!told) co_return;
  }
}

}  // namespace

/// In a coroutine of its own: a caller that was cancelled itself would not wait, and what the tasks use would go before
/// they do.
asio::awaitable<void> TaskGroup::stop_all() {
  for (auto& signal : state_->running) signal.emit(asio::cancellation_type::terminal);
  auto uncancelled = asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable);
  auto task = asio::co_spawn(state_->runtime.loop(), all_ended(state_), uncancelled);
  co_await std::move(task);
}

}  // namespace tornado::inline v1
