#include "tornado/peer_programmer.hpp"

#include <algorithm>

#include "base/pace.hpp"
#include "base/task_group.hpp"
#include "base/try.hpp"
#include "peer/peer_programmer_impl.hpp"

namespace tornado::inline v1 {

Peer removal(const PublicKey& key) {
  Peer peer;
  peer.key = key;
  peer.remove = true;
  return peer;
}

Peer stripped(const PublicKey& key) {
  Peer peer;
  peer.key = key;
  peer.update_only = true;
  return peer;
}

Peer programmed(const WantedPeer& peer, const LaneAddress& address) {
  Peer out;
  out.key = peer.key;
  out.allowed = allowed_of(address);
  // The key may be there already, with what an earlier session of it had.
  out.preshared = peer.preshared ? peer.preshared : std::optional(no_preshared_key());
  return out;
}

bool is_right(const Peer& found, const WantedPeer& peer, const LaneAddress& address) {
  auto has = [&](const Prefix& prefix) {
    return std::find(found.allowed.begin(), found.allowed.end(), prefix) != found.allowed.end();
  };
  bool all = found.allowed.size() == (address.v6 ? 2U : 1U) && has(Prefix(address.v4, 32)) &&
             (!address.v6 || has(Prefix(*address.v6, 128)));
  return all && found.preshared == peer.preshared;
}

Peer programmed(const ForeignPeer& peer) {
  Peer out;
  out.key = peer.key;
  out.allowed = peer.allowed;
  out.preshared = peer.preshared;
  return out;
}

namespace {

PeerSample sample_of(const Owner& owner, const Lane& lane, const Peer& peer, std::uint32_t interface) {
  PeerSample out;
  out.interface = interface;
  out.owner = owner;
  out.key = peer.key;
  out.lane = lane;
  out.received = peer.received;
  out.sent = peer.sent;
  out.handshake = peer.handshake;
  out.endpoint = peer.endpoint;
  return out;
}

}  // namespace

LanePtr PeerWork::lane(const Lane& name) const {
  auto it = lanes.find(name);
  return it == lanes.end() ? nullptr : it->second;
}

std::vector<LanePtr> PeerWork::all_lanes() const {
  std::vector<LanePtr> out;
  for (const auto& [name, lane] : lanes) out.push_back(lane);
  return out;
}

const ForeignPeer* PeerWork::adopted_on(const PublicKey& key, const Lane& name) const {
  auto it = adopted.find(std::make_pair(key, name));
  return it == adopted.end() ? nullptr : &it->second;
}

void PeerWork::settle_refusals(const PublicKey& key) {
  for (const auto& [name, lane] : lanes) lane->refusals.settle(key);
}

void PeerWork::log_lane(LogLevel level, std::string_view id, const LaneInterface& lane, const Error& error) {
  runtime.log().write(level, id,
                      {{"lane", lane.lane().str()},
                       {"interface", lane.interface()},
                       {"code", std::string(name(error.code()))},
                       {"detail", error.detail()}});
}

Result<void> PeerWork::check(const WantedPeer& peer) const {
  if (peer.key.is_zero() || peer.key.is_low_order()) return Error(errc::key_invalid, "a key of low order");
  if (peer.addresses.empty()) return Error(errc::invalid_argument, "a peer without address");
  for (const LaneAddress& address : peer.addresses) {
    if (address_on(peer, address.lane) != &address) return Error(errc::invalid_argument, "a lane twice");
    auto lane = this->lane(address.lane);
    if (!lane) return Error(errc::interface_missing, "no lane " + address.lane.str());
    if (lane->own_key() == peer.key) return Error(errc::key_invalid, "the key of " + lane->interface());
  }
  return {};
}

/// Sets the peer lane by lane; `tried` counts those where something may have changed.
Task<void> PeerWork::bring_up(const WantedPeer& peer, std::size_t& tried) {
  for (const LaneAddress& address : peer.addresses) {
    auto on = lane(address.lane);
    if (!on) co_return Error(errc::interface_missing, "no lane " + address.lane.str());
    ++tried;
    TRY_VOID(co_await on->confirm(programmed(peer, address)));
  }
  co_return Result<void>();
}

Task<void> PeerWork::tell_absent(std::vector<AbsentPeer> absent) {
  if (absent.empty() || !absent_told) co_return Result<void>();
  auto task = absent_told(std::move(absent));
  auto noted = co_await std::move(task);
  if (!noted) runtime.log().write(LogLevel::warning, "absent_peers_not_noted", {{"detail", noted.error().detail()}});
  co_return Result<void>();
}

Task<void> PeerWork::bring_back(const WantedPeer& peer) {
  std::vector<AbsentPeer> absent;
  std::vector<const LaneAddress*> wrong;
  for (const LaneAddress& address : peer.addresses) {
    auto on = lane(address.lane);
    if (!on) co_return Error(errc::interface_missing, "no lane " + address.lane.str());
    TRY(auto snapshot, co_await on->read());
    const Peer* found = snapshot->find(peer.key);
    if (found == nullptr) absent.emplace_back(peer.owner, peer.key, address.lane);
    if (found == nullptr || !is_right(*found, peer, address)) wrong.push_back(&address);
  }
  (void)co_await tell_absent(std::move(absent));
  for (const LaneAddress* address : wrong) {
    auto on = lane(address->lane);
    if (on) TRY_VOID(co_await on->confirm(programmed(peer, *address)));
  }
  co_return Result<void>();
}

/// Undoes `bring_up`: the owner's former peer gets its allowed IPs back before the new one goes, or goes back to rest.
Task<void> PeerWork::put_back(const WantedPeer& failed, KeyState state, std::optional<WantedPeer> former,
                              std::size_t tried) {
  Result<void> outcome;
  for (std::size_t i = 0; i < tried; ++i) {
    auto on = lane(failed.addresses[i].lane);
    if (!on) continue;
    const LaneAddress* before = former ? address_on(*former, on->lane()) : nullptr;
    Result<void> step;
    if (before != nullptr) step = co_await on->confirm(programmed(*former, *before));
    bool same_peer = before != nullptr && former->key == failed.key;
    if (step && !same_peer) {
      Peer undone = state == KeyState::retired ? stripped(failed.key) : removal(failed.key);
      step = co_await on->confirm(std::move(undone));
    }
    if (step || step.error().code() == errc::interface_missing) continue;
    log_lane(LogLevel::warning, "peer_restore_failed", *on, step.error());
    if (outcome) outcome = step;
  }
  co_return outcome;
}

/// What is left of an owner's former peer after the new one is up: addresses that the new one did not take over.
boost::asio::awaitable<void> PeerWork::take_back(WantedPeer former, WantedPeer now) {
  for (const LaneAddress& address : former.addresses) {
    auto on = lane(address.lane);
    const LaneAddress* after = address_on(now, address.lane);
    bool taken_over = after != nullptr && after->v4 == address.v4 && (!address.v6 || after->v6 == address.v6);
    bool same_key = former.key == now.key;
    if (!on || taken_over || (same_key && after != nullptr)) continue;
    Peer left = same_key ? removal(former.key) : stripped(former.key);
    auto done = co_await on->confirm(std::move(left));
    if (!done) log_lane(LogLevel::warning, "peer_strip_failed", *on, done.error());
  }
}

PeerProgrammer::PeerProgrammer(Runtime& runtime, WireGuard& wireguard, ForeignPeers foreign)
    : impl_(std::make_unique<Impl>(runtime, wireguard, foreign)) {}

PeerProgrammer::~PeerProgrammer() = default;

void PeerProgrammer::add_lane(Lane lane, std::string interface) {
  auto made = std::make_shared<LaneInterface>(impl_->runtime, impl_->wireguard, lane, std::move(interface));
  impl_->lanes.insert_or_assign(std::move(lane), std::move(made));
}

void PeerProgrammer::remove_lane(const Lane& lane) {
  impl_->lanes.erase(lane);
  impl_->foreign_found.erase(lane);
}

Task<void> PeerProgrammer::add(WantedPeer peer) {
  TRY_VOID(impl_->check(peer));
  TRY_VOID(room_for(peer.key));
  if (!impl_->book.reserve(peer.owner, peer.key)) co_return Error(errc::key_in_use, peer.key.str());
  impl_->settle_refusals(peer.key);
  std::optional<WantedPeer> former = wanted(peer.owner);
  std::vector<PublicKey> keys{peer.key};
  if (former) keys.push_back(former->key);
  KeyGuard::Busy busy(impl_->guard, std::move(keys));

  if (former && *former == peer) co_return co_await impl_->bring_back(peer);
  std::size_t tried = 0;
  auto up = co_await impl_->bring_up(peer, tried);
  if (up) {
    impl_->book.want(peer);
    if (!former) co_return Result<void>();
    auto task = impl_->take_back(std::move(*former), std::move(peer));
    co_await std::move(task);
    co_return Result<void>();
  }
  const KeyState state = impl_->book.find(peer.key)->state;
  auto restored = co_await impl_->put_back(peer, state, std::move(former), tried);
  const Holding* holding = impl_->book.find(peer.key);
  if (restored && holding != nullptr && holding->state == KeyState::doomed) impl_->book.forget(peer.key);
  co_return up;
}

Task<void> PeerProgrammer::strip(Owner owner, PublicKey key) {
  const Holding* holding = impl_->book.find(key);
  if (holding == nullptr || holding->owner() != owner || holding->stripped) co_return Result<void>();
  impl_->book.retire(key);
  std::vector<PublicKey> keys{key};
  KeyGuard::Busy busy(impl_->guard, std::move(keys));
  Result<void> done;
  for (const LanePtr& lane : impl_->all_lanes()) {
    auto step = co_await lane->confirm(stripped(key));
    if (!step && done) done = step;
  }
  Holding* after = impl_->book.find(key);
  if (done && after != nullptr && after->state == KeyState::retired) after->stripped = true;
  co_return done;
}

/// Keeps the final counters of the keys with their holdings: a removal that has to be repeated finds no peer any more.
Task<void> PeerWork::collect(LanePtr lane, std::vector<PublicKey>& keys) {
  TRY(auto snapshot, co_await lane->read());
  Pace pace(runtime);
  for (const PublicKey& key : keys) {
    if (pace.due()) co_await pace.yield();
    Holding* holding = book.find(key);
    const Peer* peer = snapshot->find(key);
    if (holding == nullptr || holding->state != KeyState::retired || peer == nullptr) continue;
    if (!holding->final) holding->final = std::make_unique<std::vector<PeerSample>>();
    std::erase_if(*holding->final, [&](const PeerSample& sample) { return sample.lane == lane->lane(); });
    holding->final->push_back(sample_of(holding->owner(), lane->lane(), *peer, snapshot->interface.index));
  }
  co_return Result<void>();
}

/// All lanes at once: each has to tell of all its peers, and that takes a process of its own a while.
Task<void> PeerWork::collect_all(std::vector<PublicKey>& keys) {
  const auto all = all_lanes();
  std::vector<Result<void>> outcomes(all.size());
  TaskGroup group(runtime);
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto one = [](PeerWork& self, LanePtr lane, std::vector<PublicKey>& of, Result<void>& outcome) -> Task<void> {
      outcome = co_await self.collect(std::move(lane), of);
      co_return Result<void>();
    };
    group.add("collect", one(*this, all[i], keys, outcomes[i]));
  }
  co_await group.settled(1);
  if (group.size() > 0) {
    co_await group.stop_all();
    co_return Error(errc::cancelled);
  }
  for (const auto& outcome : outcomes)
    if (!outcome) co_return outcome;
  co_return Result<void>();
}

Task<void> PeerWork::remove_from(LanePtr lane, std::vector<PublicKey>& keys) {
  for (std::size_t at = 0; at < keys.size(); at += LaneInterface::chunk) {
    std::vector<Peer> peers;
    for (std::size_t i = at; i < std::min(at + LaneInterface::chunk, keys.size()); ++i) {
      const Holding* holding = book.find(keys[i]);
      if (holding != nullptr && holding->state == KeyState::retired) peers.push_back(removal(keys[i]));
    }
    if (peers.empty()) continue;
    std::vector<Peer> again = peers;
    auto done = co_await lane->put(std::move(peers));
    if (done) continue;
    if (done.error().code() == errc::backend_failed) {
      for (Peer& peer : again) TRY_VOID(co_await lane->confirm(std::move(peer)));
      continue;
    }
    auto snapshot = co_await lane->read();
    bool gone = snapshot && std::none_of(again.begin(), again.end(),
                                         [&](const Peer& peer) { return (*snapshot)->find(peer.key) != nullptr; });
    if (!gone) co_return done;
  }
  co_return Result<void>();
}

Task<std::vector<PeerSample>> PeerProgrammer::remove(std::vector<PublicKey> retired) {
  std::erase_if(retired, [this](const PublicKey& key) {
    const Holding* holding = impl_->book.find(key);
    return holding == nullptr || holding->state != KeyState::retired;
  });
  std::vector<PeerSample> out;
  if (retired.empty()) co_return out;
  KeyGuard::Busy busy(impl_->guard, retired);
  const auto lanes = impl_->all_lanes();
  TRY_VOID(co_await impl_->collect_all(retired));
  Result<void> outcome;
  for (const LanePtr& lane : lanes) {
    auto done = co_await impl_->remove_from(lane, retired);
    if (!done && outcome) outcome = done;
  }
  if (!outcome) co_return outcome.error();
  for (const PublicKey& key : retired) {
    Holding* holding = impl_->book.find(key);
    if (holding == nullptr || holding->state != KeyState::retired) continue;
    if (holding->final) std::move(holding->final->begin(), holding->final->end(), std::back_inserter(out));
    impl_->book.forget(key);
  }
  co_return out;
}

void PeerProgrammer::want(std::vector<WantedPeer> peers, std::vector<std::pair<Owner, PublicKey>> retired) {
  for (const auto& [name, lane] : impl_->lanes) lane->refusals.clear();
  for (const PublicKey& key : impl_->book.replace(std::move(peers), std::move(retired)))
    impl_->runtime.log().write(LogLevel::error, "peer_key_conflict", {{"key", key.str()}});
}

Result<void> PeerProgrammer::adopt(ForeignPeer peer) {
  if (!impl_->book.adopt(peer.key)) return Error(errc::key_in_use, peer.key.str());
  impl_->settle_refusals(peer.key);
  auto place = std::make_pair(peer.key, peer.lane);
  impl_->adopted.insert_or_assign(std::move(place), std::move(peer));
  return {};
}

void PeerProgrammer::release(const PublicKey& key) {
  std::erase_if(impl_->adopted, [&](const auto& entry) { return entry.first.first == key; });
  const Holding* holding = impl_->book.find(key);
  if (holding != nullptr && holding->state == KeyState::adopted) impl_->book.forget(key);
}

std::vector<ForeignPeer> PeerProgrammer::adopted() const {
  std::vector<ForeignPeer> out;
  for (const auto& [place, peer] : impl_->adopted) out.push_back(peer);
  std::stable_sort(out.begin(), out.end(), [](const ForeignPeer& a, const ForeignPeer& b) { return a.lane < b.lane; });
  return out;
}

std::vector<ForeignPeer> PeerProgrammer::foreign() const {
  std::vector<ForeignPeer> out;
  for (const auto& [lane, found] : impl_->foreign_found) out.insert(out.end(), found.begin(), found.end());
  return out;
}

Task<void> PeerProgrammer::evict(PublicKey key) {
  // Doomed until every lane has confirmed: no session gets the key meanwhile.
  if (impl_->book.find(key) != nullptr) co_return Error(errc::key_in_use, key.str());
  const Owner nobody("evicted");
  (void)impl_->book.reserve(nobody, key);
  std::vector<PublicKey> keys{key};
  KeyGuard::Busy busy(impl_->guard, std::move(keys));
  const auto lanes = impl_->all_lanes();
  Result<void> outcome;
  for (const LanePtr& lane : lanes) {
    auto done = co_await lane->confirm(removal(key));
    bool gone = done || done.error().code() == errc::interface_missing;
    if (!gone && outcome) outcome = done;
  }
  impl_->book.forget(key);
  co_return outcome;
}

std::optional<WantedPeer> PeerProgrammer::wanted(const Owner& owner) const {
  const WantedPeer* peer = impl_->book.wanted(owner);
  return peer == nullptr ? std::nullopt : std::optional(*peer);
}

std::optional<Owner> PeerProgrammer::owner_of(const PublicKey& key) const {
  const Holding* holding = impl_->book.find(key);
  return holding == nullptr ? std::nullopt : std::optional(holding->owner());
}

Result<void> PeerProgrammer::room_for(const PublicKey& key) const {
  const std::size_t most = impl_->wireguard.most_peers();
  if (impl_->book.find(key) != nullptr || impl_->book.held_count() < most) return {};
  return Error(errc::pool_exhausted, "an interface holds no more than " + std::to_string(most) + " peers");
}

std::size_t PeerProgrammer::wanted_count() const noexcept {
  return impl_->book.wanted_count();
}

bool PeerProgrammer::dirty() const noexcept {
  return std::any_of(impl_->lanes.begin(), impl_->lanes.end(), [](const auto& entry) { return entry.second->dirty(); });
}

void PeerProgrammer::on_absent(std::function<Task<void>(std::vector<AbsentPeer>)> told) {
  impl_->absent_told = std::move(told);
}

Task<Interface> PeerProgrammer::counters(Lane name) {
  auto lane = impl_->lane(name);
  if (!lane) co_return Error(errc::interface_missing, "no lane " + name.str());
  co_return co_await impl_->wireguard.counters(lane->interface());
}

void PeerProgrammer::on_parked(std::function<void(const Lane&, const PublicKey&, const std::string&)> told) {
  impl_->parked_told = std::move(told);
}

std::size_t PeerProgrammer::held_removals() const noexcept {
  return impl_->removals_held;
}

void PeerProgrammer::confirm_removals(Instant until) {
  impl_->removals_confirmed_until = until;
}

void PeerProgrammer::try_refused() {
  for (const auto& [name, lane] : impl_->lanes) lane->refusals.try_again();
}

std::optional<Instant> PeerProgrammer::refused_until() const {
  std::optional<Instant> out;
  for (const auto& [name, lane] : impl_->lanes) {
    auto next = lane->refusals.next();
    if (next && (!out || *next < *out)) out = next;
  }
  return out;
}

bool PeerProgrammer::wants(const PublicKey& key, const Lane& lane) const {
  const WantedPeer* wanted = impl_->book.wanted(key);
  return wanted != nullptr && address_on(*wanted, lane) != nullptr;
}

Task<std::vector<PeerSample>> PeerProgrammer::sample(Lane name) {
  auto lane = impl_->lane(name);
  if (!lane) co_return Error(errc::interface_missing, "no lane " + name.str());
  TRY(auto snapshot, co_await lane->read());
  std::vector<PeerSample> out;
  Pace pace(impl_->runtime);
  for (const Peer& peer : snapshot->interface.peers) {
    if (pace.due()) co_await pace.yield();
    const WantedPeer* wanted = impl_->book.wanted(peer.key);
    if (wanted != nullptr && address_on(*wanted, name) != nullptr)
      out.push_back(sample_of(wanted->owner, name, peer, snapshot->interface.index));
  }
  co_return out;
}

Task<std::vector<PeerSample>> PeerProgrammer::sample() {
  std::vector<PeerSample> out;
  std::size_t unread = 0;
  Error error;
  const auto lanes = impl_->all_lanes();
  for (const auto& lane : lanes) {
    auto sampled = co_await sample(lane->lane());
    if (sampled)
      std::move(sampled->begin(), sampled->end(), std::back_inserter(out));
    else
      error = sampled.error();
    unread += sampled ? 0 : 1;
  }
  if (unread > 0 && unread == lanes.size()) co_return error;
  co_return out;
}

}  // namespace tornado::inline v1
