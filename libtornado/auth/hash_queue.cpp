#include "auth/hash_queue.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>

namespace asio = boost::asio;

namespace tornado::inline v1 {

HashQueue::Entry::Entry(asio::io_context& io, bool trusted_)
    : wake(io, asio::steady_timer::time_point::max()), trusted(trusted_) {}

HashQueue::HashQueue(Runtime& runtime, int slots, Seconds patience)
    : runtime_(runtime), slots_(slots), patience_(patience) {}

HashQueue::Turn::Turn(HashQueue& queue) : queue_(&queue), began_(std::chrono::steady_clock::now()) {}
HashQueue::Turn::Turn(Turn&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)), began_(other.began_) {}
HashQueue::Turn& HashQueue::Turn::operator=(Turn&& other) noexcept {
  std::swap(queue_, other.queue_);
  std::swap(began_, other.began_);
  return *this;
}
HashQueue::Turn::~Turn() {
  if (queue_ != nullptr) queue_->leave(std::chrono::steady_clock::now() - began_);
}

std::size_t HashQueue::limit() const {
  auto per_slot = patience_ / std::max<std::chrono::steady_clock::duration>(average_, std::chrono::milliseconds(1));
  return static_cast<std::size_t>(std::clamp<std::int64_t>(per_slot * slots_, slots_, 400));
}

Task<HashQueue::Turn> HashQueue::enter(Address source, bool trusted) {
  if (running_ < slots_ && waiting_ == 0) {
    ++running_;
    co_return Turn(*this);
  }
  if (waiting_ >= limit() && !make_room(source)) co_return Error(errc::overloaded, "too many logins wait");
  Entry self(runtime_.loop(), trusted);
  Line& line = lines_[source];
  auto before = trusted ? std::find_if(line.begin(), line.end(), [](Entry* e) { return !e->trusted; }) : line.end();
  line.insert(before, &self);
  ++waiting_;
  while (self.state == Entry::State::waiting) co_await self.wake.async_wait(asio::as_tuple(asio::use_awaitable));
  if (self.state == Entry::State::refused) co_return Error(errc::overloaded, "gave way to another address");
  co_return Turn(*this);
}

bool HashQueue::make_room(const Address& source) {
  auto own = lines_.find(source);
  std::size_t held = own == lines_.end() ? 0 : own->second.size();
  auto largest = std::max_element(lines_.begin(), lines_.end(),
                                  [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  if (largest == lines_.end() || largest->second.size() <= held + 1) return false;
  Entry* loser = largest->second.back();
  largest->second.pop_back();
  if (largest->second.empty()) lines_.erase(largest);
  --waiting_;
  loser->state = Entry::State::refused;
  loser->wake.cancel();
  return true;
}

void HashQueue::leave(std::chrono::steady_clock::duration took) {
  average_ = (average_ * 7 + took) / 8;
  --running_;
  grant_next();
}

void HashQueue::grant_next() {
  if (lines_.empty() || running_ >= slots_) return;
  auto next = lines_.upper_bound(last_served_);
  if (next == lines_.end()) next = lines_.begin();
  last_served_ = next->first;
  Entry* entry = next->second.front();
  next->second.pop_front();
  if (next->second.empty()) lines_.erase(next);
  --waiting_;
  ++running_;
  entry->state = Entry::State::granted;
  entry->wake.cancel();
}

}  // namespace tornado::inline v1
