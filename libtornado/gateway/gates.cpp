#include "gateway/gates.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>

namespace asio = boost::asio;

namespace tornado::inline v1 {

Gates::Waiter::Waiter(asio::io_context& io, bool replaceable_)
    : wake(io, asio::steady_timer::time_point::max()), replaceable(replaceable_) {}

Task<Gates::Pass> Gates::queue(DeviceId device, bool latest) {
  auto [line, free] = lines_.try_emplace(device);
  if (free) co_return Pass(*this, std::move(device));
  if (latest) {
    for (auto it = line->second.begin(); it != line->second.end();) {
      Waiter* older = *it;
      if (!older->replaceable) {
        ++it;
        continue;
      }
      older->state = Waiter::State::superseded;
      older->wake.cancel();
      it = line->second.erase(it);
    }
  }
  if (line->second.size() >= most_waiting) co_return Error(errc::overloaded, "too many requests of one device");
  Waiter self(runtime_.loop(), latest);
  line->second.push_back(&self);
  ++waiting_;
  while (self.state == Waiter::State::waiting) co_await self.wake.async_wait(asio::as_tuple(asio::use_awaitable));
  --waiting_;
  if (self.state == Waiter::State::superseded) co_return Error(errc::superseded, "a newer request took its place");
  co_return Pass(*this, std::move(device));
}

void Gates::leave(const DeviceId& device) {
  auto line = lines_.find(device);
  if (line == lines_.end()) return;
  if (line->second.empty()) {
    lines_.erase(line);
    return;
  }
  Waiter* next = line->second.front();
  line->second.pop_front();
  next->state = Waiter::State::admitted;
  next->wake.cancel();
}

}  // namespace tornado::inline v1
