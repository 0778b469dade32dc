#include "gateway/cutter.hpp"

#include <unordered_map>

#include "base/try.hpp"

namespace tornado::inline v1 {

Cutter::Cutter(Runtime& runtime, PeerProgrammer& peers, Host& host, SessionStore& sessions)
    : peers_(peers), host_(host), sessions_(sessions), batches_(runtime, 256) {}

Task<void> Cutter::strip(const Session& session) {
  co_return co_await peers_.strip(owner_of(session.device), session.key);
}

Task<void> Cutter::finish(const Session& session) {
  Item self(session);
  auto run = [this](std::vector<Item*>& batch) { return finish_all(batch); };
  co_await batches_.join(self, run);
  co_return std::move(self.result);
}

/// The kernel walks its whole table for a flush: a session of which no byte ever came has nothing there.
Task<void> Cutter::flush(const Item& item) {
  auto now = sessions_.find(item.session.instance);
  bool silent = now && !now->bytes_missed && now->received == 0 && item.lanes_read == item.session.addresses.size();
  if (silent) co_return Result<void>();
  for (const auto& address : item.session.addresses) {
    TRY_VOID(co_await host_.flush_connections(connection_mark(address.v4)));
    if (address.v6) TRY_VOID(co_await host_.flush_connections(connection_mark(*address.v6)));
  }
  co_return Result<void>();
}

boost::asio::awaitable<void> Cutter::finish_all(std::vector<Item*>& batch) {
  std::vector<PublicKey> keys;
  std::unordered_map<PublicKey, Item*> by_key;
  for (Item* item : batch) {
    keys.push_back(item->session.key);
    by_key[item->session.key] = item;
  }
  auto samples = co_await peers_.remove(std::move(keys));
  if (!samples) {
    for (Item* item : batch) item->result = samples.error();
    co_return;
  }
  for (const auto& sample : *samples) {
    Item* item = by_key.at(sample.key);
    Observation seen(sample.lane);
    seen.received = sample.received;
    seen.sent = sample.sent;
    (void)sessions_.observe(item->session.instance, seen);
    ++item->lanes_read;
  }
  for (Item* item : batch) item->result = co_await flush(*item);
}

}  // namespace tornado::inline v1
