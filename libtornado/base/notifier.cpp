#include "base/notifier.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/cancellation.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {

/// Shared with the waiters, which may resume after the Notifier has gone.
struct Notifier::State {
  explicit State(asio::io_context& io) : timer(io, asio::steady_timer::time_point::max()) {}
  asio::steady_timer timer;  // never expires; cancelling it wakes all
  std::uint64_t revision = 1;
  bool gone = false;
};

Notifier::Notifier(Runtime& runtime) : state_(std::make_shared<State>(runtime.loop())) {}

Notifier::~Notifier() {
  state_->gone = true;
  state_->timer.cancel();
}

std::uint64_t Notifier::revision() const noexcept {
  return state_->revision;
}

void Notifier::notify() {
  ++state_->revision;
  state_->timer.cancel();
}

asio::awaitable<bool> Notifier::wait(std::uint64_t since) {
  return wait_on(state_, since);
}

asio::awaitable<bool> Notifier::wait_on(std::shared_ptr<State> state, std::uint64_t since) {
  while (state->revision <= since) {
    // Read each time: a coroutine that was cancelled while it did something else is not cancelled a second time.
    bool cancelled = co_await is_cancelled();
    if (state->gone || cancelled) co_return false;
    co_await state->timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_return true;
}

}  // namespace tornado::inline v1
