#include "base/pace.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tornado::inline v1 {

boost::asio::awaitable<void> Pace::yield() {
  co_await boost::asio::post(runtime_.loop(), boost::asio::use_awaitable);
  since_ = std::chrono::steady_clock::now();
}

}  // namespace tornado::inline v1
