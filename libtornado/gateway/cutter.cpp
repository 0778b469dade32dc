#include "gateway/cutter.hpp"

#include <unordered_map>

#include "base/try.hpp"

namespace tornado::inline v1 {

Cutter::Cutter(Runtime& runtime, PeerProgrammer& peers, Host& host, SessionStore& sessions)
    : peers_(peers), host_(host), sessions_(sessions), batches_(runtime, 256) {}

void Cutter::circuits_of(TorController& tor, Lane lane) {
  tor_ = &tor;
  tor_lane_ = std::move(lane);
}

Task<void> Cutter::strip(const Session& session) {
  co_return co_await peers_.strip(owner_of(session.device), session.key);
}

Task<bool> Cutter::finish(const Session& session, CutNumbers* numbers) {
  Item self(session);
  auto run = [this](std::vector<Item*>& batch) { return finish_all(batch); };
  co_await batches_.join(self, run);
  if (numbers != nullptr) {
    numbers->peers += self.lanes_read;
    numbers->flushed += self.numbers.flushed;
    numbers->circuits += self.numbers.circuits;
  }
  TRY_VOID(std::move(self.result));
  co_return self.circuits_gone;
}

/// The kernel walks its whole table for a flush: a session of which no byte ever came has nothing there.
Task<void> Cutter::flush(Item& item) {
  auto now = sessions_.find(item.session.instance);
  bool silent = now && !now->bytes_missed && now->received == 0 && item.lanes_read == item.session.addresses.size();
  if (silent) co_return Result<void>();
  for (const auto& address : item.session.addresses) {
    TRY_VOID(co_await flush_address(item, address.v4, address.lane));
    if (address.v6) TRY_VOID(co_await flush_address(item, *address.v6, address.lane));
  }
  co_return Result<void>();
}

Task<void> Cutter::flush_address(Item& item, const Address& address, const Lane& lane) {
  TRY_VOID(co_await host_.flush_connections(address, lane));
  ++item.numbers.flushed;
  co_return Result<void>();
}

/// A tor that cannot be asked keeps no address from being freed: quarantine is longer than a circuit can live without
/// streams (I-08), and there are none any more. But whoever gets addresses without it does not get these.
boost::asio::awaitable<void> Cutter::close_circuits(Item& item) {
  if (!tor_) co_return;
  const Session& session = item.session;
  auto current = sessions_.find(session.device);
  bool replaced = current && current->instance != session.instance && current->live();
  for (const auto& address : session.addresses) {
    if (replaced || !(address.lane == tor_lane_)) continue;
    auto task = close_circuits_of(item, address.v4);
    co_await std::move(task);
    if (!address.v6) continue;
    task = close_circuits_of(item, *address.v6);
    co_await std::move(task);
  }
}

boost::asio::awaitable<void> Cutter::close_circuits_of(Item& item, const Address& address) {
  auto closed = co_await tor_->close_circuits(address);
  if (closed) item.numbers.circuits += closed->count;
  if (!closed || !closed->complete) item.circuits_gone = false;
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
    seen.handshake = sample.handshake;
    seen.interface = sample.interface;
    (void)sessions_.observe(item->session.instance, seen);
    ++item->lanes_read;
  }
  for (Item* item : batch) {
    auto task = close_circuits(*item);
    co_await std::move(task);
    item->result = co_await flush(*item);
  }
}

}  // namespace tornado::inline v1
