#include "peer/peer_book.hpp"

#include <algorithm>

#include "base/pace.hpp"

namespace tornado::inline v1 {

Holding* PeerBook::find(const PublicKey& key) {
  auto it = held_.find(key);
  return it == held_.end() ? nullptr : &it->second;
}

const Holding* PeerBook::find(const PublicKey& key) const {
  auto it = held_.find(key);
  return it == held_.end() ? nullptr : &it->second;
}

const WantedPeer* PeerBook::wanted(const Owner& owner) const {
  auto it = wanted_.find(owner);
  return it == wanted_.end() ? nullptr : &it->second;
}

const WantedPeer* PeerBook::wanted(const PublicKey& key) const {
  const Holding* holding = find(key);
  return holding != nullptr ? holding->peer : nullptr;
}

boost::asio::awaitable<PeerBook::Keys> PeerBook::keys(Runtime& runtime) const {
  Keys out;
  Pace pace(runtime);
  std::size_t buckets = held_.bucket_count();
  out.reserve(held_.size());
  for (std::size_t at = 0; at < buckets; ++at) {
    for (auto it = held_.begin(at); it != held_.end(at); ++it) out.push_back(it->first);
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

bool PeerBook::reserve(const Owner& owner, const PublicKey& key) {
  auto [it, fresh] = held_.try_emplace(key, owner, KeyState::doomed);
  return fresh || it->second.owner == owner;
}

void PeerBook::want(WantedPeer peer) {
  auto former = wanted_.find(peer.owner);
  if (former != wanted_.end() && former->second.key != peer.key) set_state(former->second.key, KeyState::retired);
  Holding& holding = held_.try_emplace(peer.key, peer.owner, KeyState::wanted).first->second;
  holding.state = KeyState::wanted;
  holding.stripped = false;
  holding.final.clear();
  Owner owner = peer.owner;
  holding.peer = &wanted_.insert_or_assign(std::move(owner), std::move(peer)).first->second;
}

void PeerBook::set_state(const PublicKey& key, KeyState state) {
  Holding* holding = find(key);
  if (holding == nullptr) return;
  auto wanted = wanted_.find(holding->owner);
  if (wanted != wanted_.end() && wanted->second.key == key) wanted_.erase(wanted);
  holding->peer = nullptr;
  holding->state = state;
}

bool PeerBook::adopt(const PublicKey& key) {
  auto [it, fresh] = held_.try_emplace(key, adopted_owner, KeyState::adopted);
  return fresh || it->second.state == KeyState::adopted;
}

void PeerBook::retire(const PublicKey& key) {
  set_state(key, KeyState::retired);
}

void PeerBook::doom(const PublicKey& key) {
  set_state(key, KeyState::doomed);
}

PeerBook::Keys PeerBook::replace(std::vector<WantedPeer> peers, std::vector<std::pair<Owner, PublicKey>> retired) {
  Keys conflicts;
  std::unordered_map<PublicKey, Holding> former;
  former.swap(held_);
  wanted_.clear();
  for (WantedPeer& peer : peers) {
    const Holding* other = find(peer.key);
    if (other != nullptr && other->owner != peer.owner) {
      conflicts.push_back(peer.key);
    } else {
      want(std::move(peer));
    }
  }
  for (auto& [owner, key] : retired) held_.try_emplace(key, std::move(owner), KeyState::retired);
  for (auto& [key, holding] : former) {
    KeyState state = holding.state == KeyState::adopted ? KeyState::adopted : KeyState::doomed;
    held_.try_emplace(key, std::move(holding.owner), state);
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
