#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// Callers that arrive while a batch runs share the next one: the first of them leads it, the others wait for its end.
/// An item lives in its caller's frame and carries its own result. Loop thread.
template <class Item>
class Batcher {
 public:
  Batcher(Runtime& runtime, std::size_t most_in_batch) : runtime_(runtime), most_in_batch_(most_in_batch) {}

  std::size_t waiting() const noexcept { return queue_.size(); }

  /// `run(batch)` is an awaitable that completes every item of the batch.
  template <class Run>
  boost::asio::awaitable<void> join(Item& item, Run& run) {
    Entry self(item, runtime_.loop());
    queue_.push_back(&self);
    if (busy_) {
      while (!self.done && !self.leads)
        co_await self.wake.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
      if (self.done) co_return;
    }
    busy_ = true;
    std::vector<Entry*> entries;
    std::vector<Item*> batch;
    while (!queue_.empty() && batch.size() < most_in_batch_) {
      entries.push_back(queue_.front());
      batch.push_back(&queue_.front()->item);
      queue_.pop_front();
    }
    co_await run(batch);
    for (Entry* entry : entries) {
      entry->done = true;
      entry->wake.cancel();
    }
    if (queue_.empty()) {
      busy_ = false;
    } else {
      queue_.front()->leads = true;
      queue_.front()->wake.cancel();
    }
  }

 private:
  struct Entry {
    Entry(Item& item_, boost::asio::io_context& io)
        : item(item_), wake(io, boost::asio::steady_timer::time_point::max()) {}
    Item& item;
    boost::asio::steady_timer wake;
    bool done = false;
    bool leads = false;
  };

  Runtime& runtime_;
  const std::size_t most_in_batch_;
  std::deque<Entry*> queue_;
  bool busy_ = false;
};

}  // namespace tornado::inline v1
