#include "base/cancellation.hpp"

#include <boost/asio/this_coro.hpp>

namespace asio = boost::asio;

namespace tornado::inline v1 {

asio::awaitable<bool> is_cancelled() {
  auto state = co_await asio::this_coro::cancellation_state;
  co_return state.cancelled() != asio::cancellation_type::none;
}

}  // namespace tornado::inline v1
