#include "wireguard/interface_queue.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

constexpr std::chrono::seconds longest_wait{5};
constexpr std::size_t queue_limit = 1024;

}  // namespace

struct InterfaceQueue::Turn::State {
  State(Runtime& runtime_, std::string name_) : runtime(runtime_), name(std::move(name_)) {}

  Runtime& runtime;
  std::string name;
  bool busy = false;
  std::deque<asio::steady_timer*> waiting;
};

InterfaceQueue::Turn::~Turn() {
  if (!state_) return;
  state_->busy = !state_->waiting.empty();
  if (!state_->busy) return;
  state_->waiting.front()->cancel();
  state_->waiting.pop_front();
}

InterfaceQueue::InterfaceQueue(Runtime& runtime, std::string name)
    : state_(std::make_shared<Turn::State>(runtime, std::move(name))) {}
InterfaceQueue::~InterfaceQueue() = default;

Task<InterfaceQueue::Turn> InterfaceQueue::wait_in(std::shared_ptr<Turn::State> state) {
  if (!state->busy) {
    state->busy = true;
    co_return Turn(std::move(state));
  }
  if (state->waiting.size() >= queue_limit) co_return Error(errc::overloaded, "queue of " + state->name + " is full");
  asio::steady_timer timer(state->runtime.loop(), longest_wait);
  state->waiting.push_back(&timer);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  // Whoever is no longer in the queue was given the turn, even if cancelled or timed out in the same moment.
  auto place = std::find(state->waiting.begin(), state->waiting.end(), &timer);
  if (place == state->waiting.end()) co_return Turn(std::move(state));
  state->waiting.erase(place);
  bool expired = timer.expiry() <= std::chrono::steady_clock::now();
  if (!expired) co_return Error(errc::cancelled);
  co_return Error(errc::overloaded, "queue of " + state->name + " stands still");
}

std::size_t InterfaceQueue::waiting() const noexcept {
  return state_->waiting.size();
}

Task<InterfaceQueue::Turn> InterfaceQueue::enter() {
  return wait_in(state_);
}

}  // namespace tornado::inline v1
