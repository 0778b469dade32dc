#include "peer/peer_book.hpp"

#include <algorithm>

#include "base/pace.hpp"

namespace tornado::inline v1 {

PeerBook::~PeerBook() {
  wanted_.clear([](Holding*) {});
  held_.clear([this](Holding* holding) { slab_.give_up(*holding); });
}

Holding* PeerBook::find(const PublicKey& key) {
  return held_.find(key);
}

const Holding* PeerBook::find(const PublicKey& key) const {
  return held_.find(key);
}

const WantedPeer* PeerBook::wanted(const Owner& owner) const {
  const Holding* holding = wanted_.find(owner);
  return holding != nullptr ? holding->peer() : nullptr;
}

const WantedPeer* PeerBook::wanted(const PublicKey& key) const {
  const Holding* holding = find(key);
  return holding != nullptr ? holding->peer() : nullptr;
}

boost::asio::awaitable<PeerBook::Keys> PeerBook::keys(Runtime& runtime) const {
  Keys out;
  Pace pace(runtime);
  std::size_t buckets = held_.bucket_count();
  out.reserve(held_.size());
  for (std::size_t at = 0; at < buckets; ++at) {
    held_.visit_bucket(at, [&](const Holding& holding) { out.push_back(holding.key()); });
    if (at % 256 != 0 || !pace.due()) continue;
    co_await pace.yield();
    // The keys lie in other buckets now.
    if (held_.bucket_count() == buckets) continue;
    buckets = held_.bucket_count();
    out.clear();
    at = static_cast<std::size_t>(-1);
  }
  if (out.size() > 256) co_await pace.yield();
  co_return out;
}

std::pair<Holding&, bool> PeerBook::hold(const Owner& owner, const PublicKey& key, KeyState state) {
  if (Holding* former = find(key)) return {*former, false};
  Holding& fresh = slab_.make(owner, key, state);
  held_.insert(fresh);
  return {fresh, true};
}

bool PeerBook::reserve(const Owner& owner, const PublicKey& key) {
  auto [holding, fresh] = hold(owner, key, KeyState::doomed);
  return fresh || holding.owner() == owner;
}

void PeerBook::want(WantedPeer peer) {
  const Holding* former = wanted_.find(peer.owner);
  if (former != nullptr && former->key() != peer.key) set_state(PublicKey(former->key()), KeyState::retired);
  Holding& holding = hold(peer.owner, peer.key, KeyState::doomed).first;
  if (holding.state == KeyState::wanted) wanted_.erase(holding);
  holding.state = KeyState::wanted;
  holding.stripped = false;
  holding.final.reset();
  holding.self_ = std::move(peer);
  wanted_.insert(holding);
}

void PeerBook::set_state(const PublicKey& key, KeyState state) {
  Holding* holding = find(key);
  if (holding == nullptr) return;
  if (holding->state == KeyState::wanted) wanted_.erase(*holding);
  holding->self_.addresses = {};
  holding->self_.preshared.reset();
  holding->state = state;
}

bool PeerBook::adopt(const PublicKey& key) {
  auto [holding, fresh] = hold(adopted_owner, key, KeyState::adopted);
  return fresh || holding.state == KeyState::adopted;
}

void PeerBook::retire(const PublicKey& key) {
  set_state(key, KeyState::retired);
}

void PeerBook::doom(const PublicKey& key) {
  set_state(key, KeyState::doomed);
}

void PeerBook::forget(const PublicKey& key) {
  Holding* holding = find(key);
  if (holding == nullptr) return;
  if (holding->state == KeyState::wanted) wanted_.erase(*holding);
  held_.erase(*holding);
  slab_.give_up(*holding);
}

PeerBook::Keys PeerBook::replace(std::vector<WantedPeer> peers, std::vector<std::pair<Owner, PublicKey>> retired) {
  Keys conflicts;
  std::vector<Holding*> former;
  former.reserve(held_.size());
  wanted_.clear([](Holding*) {});
  held_.clear([&](Holding* holding) { former.push_back(holding); });
  for (WantedPeer& peer : peers) {
    const Holding* other = find(peer.key);
    if (other != nullptr && other->owner() != peer.owner) {
      conflicts.push_back(peer.key);
    } else {
      want(std::move(peer));
    }
  }
  for (const auto& [owner, key] : retired) hold(owner, key, KeyState::retired);
  for (Holding* holding : former) {
    KeyState state = holding->state == KeyState::adopted ? KeyState::adopted : KeyState::doomed;
    hold(holding->owner(), holding->key(), state);
    slab_.give_up(*holding);
  }
  return conflicts;
}

KeyGuard::Busy::Busy(KeyGuard& guard, std::vector<PublicKey> keys) : guard_(guard), keys_(std::move(keys)) {
  for (const PublicKey& key : keys_) ++guard_.busy_[key];
}

KeyGuard::Busy::~Busy() {
  for (const PublicKey& key : keys_) {
    if (--guard_.busy_[key] == 0) guard_.busy_.erase(key);
    if (guard_.passes_ > 0) guard_.touched_.insert(key);
  }
}

KeyGuard::Pass::~Pass() {
  if (--guard_.passes_ == 0) guard_.touched_.clear();
}

std::vector<Prefix> allowed_of(const LaneAddress& address) {
  std::vector<Prefix> out{Prefix(address.v4, 32)};
  if (address.v6) out.emplace_back(*address.v6, 128);
  return out;
}

const LaneAddress* address_on(const WantedPeer& peer, const Lane& lane) {
  auto it = std::find_if(peer.addresses.begin(), peer.addresses.end(),
                         [&](const LaneAddress& address) { return address.lane == lane; });
  return it == peer.addresses.end() ? nullptr : &*it;
}

}  // namespace tornado::inline v1
