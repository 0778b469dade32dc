// Peers on our interfaces that are somebody else's, and kept on purpose.
#include "base/json.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "peer/adopted_repo.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

/// A peer that would take more of a pool is for a person to judge.
constexpr std::uint64_t most_withheld = 4096;

/// The part of a lane's pool that an allowed IP takes; nothing: none of it.
std::optional<Prefix> taken(const Pool& pool, const Prefix& allowed) {
  if (pool.v4.overlaps(allowed)) return allowed.length() > pool.v4.length() ? allowed : pool.v4;
  if (pool.v6 && pool.v6->overlaps(allowed)) return allowed.length() > pool.v6->length() ? allowed : *pool.v6;
  return std::nullopt;
}

template <class Visit>
void each_address(const Pool& pool, const ForeignPeer& peer, Visit&& visit) {
  for (const auto& allowed : peer.allowed)
    if (auto part = taken(pool, allowed))
      for (std::uint64_t i = 0; i < part->size(); ++i) visit(part->at(i));
}

/// Why a person has to judge whether addresses of the pool are kept for such a peer. A prefix as large as the pool
/// holds the gateway's own address, and routes nothing of a device's: theirs are longer.
std::optional<std::string> takes_too_much(const Pool& pool, const ForeignPeer& peer) {
  std::uint64_t count = 0;
  for (const auto& allowed : peer.allowed) {
    auto part = taken(pool, allowed);
    if (!part) continue;
    if (part->contains(pool.gateway()) || (pool.gateway6() && part->contains(*pool.gateway6())))
      return allowed.str() + " holds the gateway's own address";
    count += std::min(part->size(), most_withheld + 1);
    if (count > most_withheld) return allowed.str() + " takes too much of the pool";
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> Gateway::Impl::in_the_way(const ForeignPeer& peer) const {
  const Pool pool = config.pool(peer.lane.str());
  if (auto why = takes_too_much(pool, peer)) return why;
  std::optional<std::string> out;
  each_address(pool, peer, [&](const Address& address) {
    if (!out && ipam.find(address)) out = address.str() + " is leased";
  });
  return out;
}

void Gateway::Impl::withhold(const ForeignPeer& peer) {
  each_address(config.pool(peer.lane.str()), peer, [&](const Address& address) { ipam.avoid(peer.lane, address); });
}

/// Addresses of a peer that is adopted no more, as far as no other adopted one has them.
void Gateway::Impl::give_back(const ForeignPeer& peer) {
  auto kept = [&](const Address& address) {
    return std::any_of(adopted.begin(), adopted.end(), [&](const auto& entry) {
      const ForeignPeer& other = entry.second.peer;
      return other.lane == peer.lane && std::any_of(other.allowed.begin(), other.allowed.end(),
                                                    [&](const Prefix& prefix) { return prefix.contains(address); });
    });
  };
  each_address(config.pool(peer.lane.str()), peer, [&](const Address& address) {
    if (!kept(address)) ipam.readmit(peer.lane, address);
  });
}

/// Parts of the pools that foreign peers have; of a peer that has too much of one, none.
std::set<std::pair<Lane, Prefix>> Gateway::Impl::foreign_parts() {
  std::set<std::pair<Lane, Prefix>> out;
  std::map<PublicKey, std::string> refused;
  for (const auto& peer : peers.foreign()) {
    // Taken over meanwhile by a session: what it has is leased.
    auto is_adopted = [&](const auto& entry) { return entry.first.second == peer.key; };
    if (peers.owner_of(peer.key) && std::none_of(adopted.begin(), adopted.end(), is_adopted)) continue;
    const Pool pool = config.pool(peer.lane.str());
    auto why = takes_too_much(pool, peer);
    if (!why) {
      for (const auto& allowed : peer.allowed)
        if (auto part = taken(pool, allowed)) out.emplace(peer.lane, *part);
      continue;
    }
    if (auto told = not_withheld.find(peer.key); told == not_withheld.end() || told->second != *why)
      runtime.log().write(LogLevel::warning, "foreign_peer_not_withheld",
                          {{"key", peer.key.str()}, {"lane", peer.lane.str()}, {"detail", *why}});
    refused[peer.key] = std::move(*why);
  }
  not_withheld = std::move(refused);
  return out;
}

boost::asio::awaitable<void> Gateway::Impl::withhold_foreign() {
  Pace pace(runtime);
  auto now = foreign_parts();
  bool freed = false;
  for (const auto& [lane, part] : withheld) {
    if (now.contains(std::make_pair(lane, part))) continue;
    freed = true;
    for (std::uint64_t i = 0; i < part.size(); ++i) ipam.readmit(lane, part.at(i));
    if (pace.due()) co_await pace.yield();
  }
  // What others have besides is still theirs; nobody gets it before its quarantine is over.
  if (freed)
    for (const auto& [place, record] : adopted) withhold(record.peer);
  withheld = std::move(now);
  const auto parts = withheld;
  for (const auto& [lane, part] : parts) {
    for (std::uint64_t i = 0; i < part.size(); ++i) ipam.avoid(lane, part.at(i));
    if (pace.due()) co_await pace.yield();
  }
}

/// Nothing of the peer goes on under the next holder of its addresses.
Task<void> Gateway::Impl::forget_connections(const ForeignPeer& peer) {
  const Pool pool = config.pool(peer.lane.str());
  for (const auto& allowed : peer.allowed) {
    auto part = taken(pool, allowed);
    if (!part) continue;
    auto flushed = co_await parts.host->flush_network(*part);
    if (!flushed)
      runtime.log().write(LogLevel::warning, "released_connections_stay",
                          {{"addresses", part->str()}, {"detail", flushed.error().detail()}});
  }
  co_return Result<void>();
}

Task<void> Gateway::Impl::restore_adopted() {
  std::vector<AdoptedPeer> known;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_VOID_PLAIN(adopted_repo::create_table(tx));
    TRY_PLAIN(known, adopted_repo::list(tx));
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  for (auto& record : known) {
    auto why = in_the_way(record.peer);
    if (!why)
      if (auto done = peers.adopt(record.peer); !done) why = "a session has that key";
    if (why) {
      runtime.log().write(LogLevel::error, "adopted_peer_in_the_way",
                          {{"key", record.peer.key.str()}, {"lane", record.peer.lane.str()}, {"detail", *why}});
      continue;
    }
    withhold(record.peer);
    auto place = std::make_pair(record.peer.lane, record.peer.key);
    adopted.insert_or_assign(std::move(place), std::move(record));
  }
  co_return Result<void>();
}

/// The programmer's idea of a key is what is on record.
void Gateway::Impl::adopt_as_recorded(const PublicKey& key) {
  peers.release(key);
  for (const auto& [place, record] : adopted)
    if (place.second == key) (void)peers.adopt(record.peer);
}

Task<void> Gateway::Impl::adopt(ForeignPeer peer, std::string by) {
  auto place = std::make_pair(peer.lane, peer.key);
  std::optional<AdoptedPeer> former;
  if (auto before = adopted.find(place); before != adopted.end()) former = before->second;
  if (former && former->peer == peer) co_return Result<void>();
  if (auto why = in_the_way(peer)) co_return Error(errc::conflict, *why);
  TRY_VOID(peers.adopt(peer));
  withhold(peer);
  const AdoptedPeer record(peer, runtime.now(), std::move(by));
  adopted.insert_or_assign(place, record);
  Database::Body body = [&](Tx& tx) -> Result<void> { return adopted_repo::put(tx, record); };
  auto kept = co_await parts.database->transact(Scope::system(), body);
  if (!kept) {
    adopted.erase(place);
    if (former) adopted.insert_or_assign(place, *former);
    adopt_as_recorded(peer.key);
    // It is still on the interface: its addresses stay withheld (I-06).
    co_return kept.error();
  }
  if (former) give_back(former->peer);
  tell_adopted(record);
  co_return Result<void>();
}

void Gateway::Impl::tell_adopted(const AdoptedPeer& record) {
  json::object fields;
  fields["key"] = record.peer.key.str();
  fields["lane"] = record.peer.lane.str();
  json::array allowed;
  for (const auto& prefix : record.peer.allowed) allowed.emplace_back(prefix.str());
  fields["allowed_ips"] = std::move(allowed);
  fields["by"] = record.by;
  events.publish("peer_adopted", to_json(fields));
  runtime.log().write(LogLevel::warning, "peer_adopted",
                      {{"key", record.peer.key.str()}, {"lane", record.peer.lane.str()}, {"by", record.by}});
}

/// What cannot be adopted stays in the difference.
Task<void> Gateway::Impl::adopt_foreign(Difference& difference) {
  std::vector<ForeignPeer> left;
  std::map<PublicKey, std::string> refused;
  for (const auto& peer : difference.foreign_on) {
    auto done = co_await adopt(peer, "policy");
    if (done) continue;
    left.push_back(peer);
    refused[peer.key] = done.error().detail();
    auto told = not_adopted.find(peer.key);
    if (told != not_adopted.end() && told->second == done.error().detail()) continue;
    runtime.log().write(LogLevel::warning, "foreign_peer_not_adopted",
                        {{"key", peer.key.str()}, {"lane", peer.lane.str()}, {"detail", done.error().detail()}});
  }
  std::erase_if(difference.foreign, [&](const PublicKey& key) { return !refused.contains(key); });
  difference.foreign_on = std::move(left);
  not_adopted = std::move(refused);
  co_return Result<void>();
}

Task<std::vector<AdoptedPeer>> Gateway::adopt(Caller caller, PublicKey key) {
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  TRY(auto difference, co_await impl_->peers.difference());
  std::vector<ForeignPeer> found;
  for (auto& peer : difference.foreign_on)
    if (peer.key == key) found.push_back(std::move(peer));
  if (found.empty()) co_return Error(errc::not_found, "no foreign peer has that key");
  for (const auto& peer : found) TRY_VOID(co_await impl_->adopt(peer, caller.name));
  std::vector<AdoptedPeer> out;
  for (const auto& [place, record] : impl_->adopted)
    if (place.second == key) out.push_back(record);
  co_return out;
}

Task<void> Gateway::release(Caller caller, PublicKey key) {
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  auto has_key = [&](const auto& entry) { return entry.first.second == key; };
  auto& adopted = impl_->adopted;
  const bool kept = std::any_of(adopted.begin(), adopted.end(), has_key);
  Result<void> gone;
  if (kept) {
    impl_->peers.release(key);
    gone = co_await impl_->peers.evict(key);
  }
  bool recorded = false;
  if (gone) {
    Database::Body body = [&](Tx& tx) -> Result<void> {
      TRY_PLAIN(recorded, adopted_repo::erase(tx, key));
      return {};
    };
    gone = co_await impl_->parts.database->transact(Scope::system(), body);
  }
  if (!gone) {
    impl_->adopt_as_recorded(key);
    co_return gone.error();
  }
  // One that was in the way at the start is on record only.
  if (!recorded) co_return Error(errc::not_found, "no adopted peer has that key");
  std::vector<ForeignPeer> former;
  for (const auto& entry : adopted)
    if (has_key(entry)) former.push_back(entry.second.peer);
  std::erase_if(adopted, has_key);
  for (const auto& peer : former) {
    TRY_VOID(co_await impl_->forget_connections(peer));
    impl_->give_back(peer);
  }
  json::object fields;
  fields["key"] = key.str();
  fields["by"] = caller.name;
  impl_->events.publish("peer_released", to_json(fields));
  impl_->runtime.log().write(LogLevel::warning, "peer_released", {{"key", key.str()}, {"by", caller.name}});
  co_return Result<void>();
}

std::vector<AdoptedPeer> Gateway::adopted() const {
  std::vector<AdoptedPeer> out;
  for (const auto& [place, record] : impl_->adopted) out.push_back(record);
  return out;
}

}  // namespace tornado::inline v1
