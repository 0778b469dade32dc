#include "gateway/cutter.hpp"

#include "base/try.hpp"

namespace tornado::inline v1 {

Cutter::Cutter(Runtime& runtime, PeerProgrammer& peers, Host& host, SessionStore& sessions)
    : peers_(peers), host_(host), sessions_(sessions), batches_(runtime, 256) {}

Task<void> Cutter::strip(const Session& session) {
  TRY_VOID(co_await peers_.strip(owner_of(session.device), session.key));
  for (const auto& address : session.addresses) {
    TRY_VOID(co_await host_.flush_connections(connection_mark(address.v4)));
    if (address.v6) TRY_VOID(co_await host_.flush_connections(connection_mark(*address.v6)));
  }
  co_return Result<void>();
}

Task<void> Cutter::finish(const Session& session) {
  Item self(session);
  auto run = [this](std::vector<Item*>& batch) { return finish_all(batch); };
  co_await batches_.join(self, run);
  co_return std::move(self.result);
}

boost::asio::awaitable<void> Cutter::finish_all(std::vector<Item*>& batch) {
  std::vector<PublicKey> keys;
  for (const Item* item : batch) keys.push_back(item->session.key);
  auto samples = co_await peers_.remove(std::move(keys));
  if (!samples) {
    for (Item* item : batch) item->result = samples.error();
    co_return;
  }
  for (const auto& sample : *samples) {
    auto session = sessions_.find(sample.key);
    if (!session) continue;
    Observation seen(sample.lane);
    seen.received = sample.received;
    seen.sent = sample.sent;
    (void)sessions_.observe(session->instance, seen);
  }
}

}  // namespace tornado::inline v1
