// How sessions begin and end on a gateway: the straight lines of initiate and close.
#include "base/try.hpp"
#include "crypto/seal.hpp"
#include "gateway/gateway_impl.hpp"
#include "users/device_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

/// An answer travels that long at most before the tunnel it goes through is cut.
constexpr Seconds answer_time{1};

}  // namespace

Result<PublicKey> Gateway::Impl::acceptable_key(std::string_view text, const DeviceId& device) const {
  if (text.empty()) return Error(errc::missing_fields, "public_key is empty");
  TRY_PLAIN(auto key, PublicKey::parse(text));
  if (key.is_low_order()) return Error(errc::key_invalid, "the key is a point of low order");
  for (const auto& [lane, own] : lane_keys)
    if (own == key) return Error(errc::key_invalid, "that is the gateway's own key");
  auto holder = peers.owner_of(key);
  if (holder && *holder != owner_of(device)) return Error(errc::key_in_use, "the key belongs to another device");
  return key;
}

/// A token that comes through a tunnel must come from its own device's address (I-16).
Result<void> Gateway::Impl::check_place(const Caller& caller) const {
  auto lease = ipam.find(caller.source);
  if (!lease || !caller.claims) return {};
  if (lease->owner != owner_of(caller.claims->device))
    return Error(errc::revoked, "the token belongs to another device than the tunnel it came through");
  return {};
}

/// The outer address of a caller: inside a tunnel, its peer's endpoint.
std::optional<Address> Gateway::Impl::outer_address(const Caller& caller) const {
  auto lease = ipam.find(caller.source);
  if (!lease) return caller.source;
  auto session = sessions.find(DeviceId(lease->owner.str()));
  return session ? session->source : std::nullopt;
}

/// For throttles, which need one: each tunnel address is a single device's.
Address Gateway::Impl::origin(const Caller& caller) const {
  return outer_address(caller).value_or(caller.source);
}

Task<TunnelConfig> Gateway::Impl::initiate(Caller caller, PublicKey key, bool preshared) {
  const DeviceId device = caller.claims->device;
  TRY(auto account, co_await auth.authorize(*caller.claims));
  TRY(auto pass, co_await gates.enter_latest(device));
  co_return co_await initiate_in_gate(caller, account, key, preshared);
}

Task<TunnelConfig> Gateway::Impl::initiate_in_gate(const Caller& caller, Account& account, PublicKey key,
                                                   bool preshared) {
  TRY_VOID(co_await settle_pending(account.device));
  auto former = sessions.find(account.device);
  if (former && former->key == key && former->state == SessionState::active)
    co_return co_await initiate_again(*former, preshared);
  // What is ending may still hold the device's addresses, or the key.
  for (const auto& ending : sessions.closing(account.device)) {
    auto session = sessions.find(ending);
    bool holds = session && (session->in_doubt || !session->addresses.empty() || session->key == key);
    if (holds) TRY_VOID(co_await finish(ending, CloseReason::failed));
  }
  TRY(auto opened, co_await open_session(caller, account, key, preshared));
  const std::string username = account.username.str();
  TRY(auto active, co_await bring_up(opened, username, former));
  events.session("session_created", active);
  if (former) closing.notify();
  co_return co_await tunnel_config(active);
}

/// The row says first what the peer is to have. After a failure row, book and peer go back to what the client has, at
/// once or with the next passes.
Task<TunnelConfig> Gateway::Impl::initiate_again(Session session, bool preshared) {
  const Instance instance = session.instance;
  auto doubt = preshared_doubts.find(instance);
  const bool doubtful = doubt != preshared_doubts.end();
  const bool before = doubtful ? doubt->second : session.preshared;
  const bool changes = doubtful || before != preshared;
  Result<void> done;
  if (changes) {
    auto written = co_await sessions.set_preshared(instance, preshared);
    if (written) session = std::move(*written);
    if (!written) done = written.error();
  }
  const WantedPeer again = wanted_peer(session);
  if (done) done = co_await peers.add(again);
  if (done) {
    preshared_doubts.erase(instance);
    co_return co_await tunnel_config(std::move(session));
  }
  if (changes) {
    preshared_doubts[instance] = before;
    auto undone = co_await undo_preshared(instance);
    if (!undone) reconcile_wanted.notify();
  }
  co_return done.error();
}

/// Inside the gate. A session that is ending needs it only if it comes back.
Task<void> Gateway::Impl::undo_preshared(Instance instance) {
  auto doubt = preshared_doubts.find(instance);
  auto session = sessions.find(instance);
  if (!session) preshared_doubts.erase(instance);
  if (!session || !session->live() || doubt == preshared_doubts.end()) co_return Result<void>();
  TRY(auto row, co_await sessions.set_preshared(instance, doubt->second));
  const WantedPeer again = wanted_peer(row);
  TRY_VOID(co_await peers.add(again));
  preshared_doubts.erase(instance);
  co_return Result<void>();
}

Task<void> Gateway::Impl::undo_all_preshared() {
  const auto doubts = preshared_doubts;
  Result<void> outcome;
  for (const auto& [instance, before] : doubts) {
    auto session = sessions.find(instance);
    if (!session) preshared_doubts.erase(instance);
    if (!session) continue;
    TRY(auto pass, co_await gates.enter(session->device));
    auto undone = co_await undo_preshared(instance);
    if (!undone) outcome = undone;
  }
  co_return outcome;
}

WantedPeer Gateway::Impl::wanted_peer(const Session& session) const {
  WantedPeer out(owner_of(session.device), session.key, session.addresses);
  out.preshared = preshared_of(session);
  return out;
}

std::optional<Secret> Gateway::Impl::preshared_of(const Session& session) const {
  if (!session.preshared) return std::nullopt;
  std::string info = "tornado preshared key 1\n" + session.instance.str() + "\n" + session.key.str();
  return hkdf_sha256(preshared_secret.reveal(), "", info, PublicKey::size);
}

std::optional<Instance> Gateway::Impl::in_doubt(const DeviceId& device) const {
  for (const auto& instance : sessions.closing(device))
    if (sessions.find(instance)->in_doubt) return instance;
  return std::nullopt;
}

/// Lease and journal row; what this request made is undone if it fails, and nothing else is (D-066). The account has
/// the name of that transaction from then on: whoever gives it another one later finds it admitted.
Task<Session> Gateway::Impl::open_session(const Caller& caller, Account& account, PublicKey key, bool preshared) {
  const Owner owner = owner_of(account.device);
  TRY_VOID(peers.room_for(key));
  take_up_lease(owner);
  bool had_lease = ipam.find(owner).has_value();
  TRY(auto lease, ipam.lease(owner, lane_names, Seconds(config.ipam.lease_term), Owner(account.user.str())));
  NewSession wanted(account.user, account.device, lease.addresses, key);
  wanted.source = outer_address(caller);
  wanted.preshared = preshared;
  wanted.guard = [&account](Tx& tx) -> Result<void> {
    TRY_PLAIN(auto user, user_repo::lock(tx, account.user));
    TRY_PLAIN(auto device, device_repo::get(tx, account.device));
    bool same = user.active && user.deleted == Instant() && user.epoch == account.user_epoch &&
                device.revoked == Instant() && device.epoch == account.device_epoch;
    if (!same) return Error(errc::revoked, "the account changed meanwhile");
    account.username = Username(user.username);
    return {};
  };
  auto opened = co_await sessions.open(std::move(wanted));
  if (!opened) {
    // In doubt the journal may hold the addresses: they are free when the session has been ended.
    if (in_doubt(account.device))
      (void)ipam.bind(lease.id);
    else if (!had_lease)
      free_lease(lease.id, rights_settled());
    closing.notify();
    co_return opened.error();
  }
  (void)ipam.bind(lease.id);
  co_return opened;
}

/// The former session of the device is as it was; the programmer has restored its peer.
Task<void> Gateway::Impl::revert(Instance failed, Instance former, std::string username) {
  TRY(auto reverted, co_await sessions.revert(failed, former));
  closing.notify();
  // The account may have another name by now.
  std::string now = access.name_of(reverted.user);
  if (now.empty()) now = username;
  (void)co_await admit(reverted, now);
  co_return Result<void>();
}

/// Inside the gate. Of a session whose successor failed and could not be taken back: it is, unless somebody has ended
/// the successor meanwhile. True: the session goes on.
Task<bool> Gateway::Impl::take_back_successor(Instance former) {
  auto left = unreverted.find(former);
  if (left == unreverted.end()) co_return false;
  const Unreverted doubt = left->second;
  auto successor = sessions.find(doubt.failed);
  const bool stands = successor && successor->state == SessionState::pending;
  if (stands) TRY_VOID(co_await revert(doubt.failed, former, doubt.username));
  unreverted.erase(former);
  co_return stands;
}

/// Inside the gate nobody brings a session up: one that is pending was left behind by a failure.
Task<void> Gateway::Impl::settle_pending(DeviceId device) {
  auto session = sessions.find(device);
  if (!session || session->state != SessionState::pending) co_return Result<void>();
  const auto ending = sessions.closing(device);
  for (const auto& former : ending) {
    TRY(bool goes_on, co_await take_back_successor(former));
    if (goes_on) co_return Result<void>();
  }
  TRY_VOID(co_await finish(session->instance, CloseReason::failed));
  co_return Result<void>();
}

/// Peers on every lane, then active. If that fails, the former session of the device goes on as it was (I-04).
Task<Session> Gateway::Impl::bring_up(const Session& opened, const std::string& username,
                                      std::optional<Session> former) {
  const WantedPeer peer = wanted_peer(opened);
  auto added = co_await admit(opened, username);
  if (added) added = co_await peers.add(peer);
  if (!added && former) {
    // The former peer was restored by the programmer; the journal follows.
    auto reverted = co_await revert(opened.instance, former->instance, username);
    if (reverted) co_return added.error();
    unreverted[former->instance] = Unreverted(opened.instance, username);
    closing.notify();
    co_return reverted.error();
  }
  if (added) {
    auto active = co_await sessions.activate(opened.instance);
    if (active) co_return active;
    added = active.error();
  }
  (void)co_await finish(opened.instance, CloseReason::failed);
  closing.notify();
  co_return added.error();
}

Task<TunnelConfig> Gateway::Impl::tunnel_config(Session session) {
  TunnelConfig out;
  for (const auto& [lane, settings] : lanes) {
    const LaneAddress* address = session.on(lane.str());
    if (address == nullptr) co_return Error(errc::internal, "the session has no address on lane " + lane.str());
    auto& access = out.lanes.emplace_back();
    access.lane = lane;
    access.address = address->v4;
    access.address6 = address->v6;
    access.endpoint = endpoint_host + ":" + std::to_string(settings->listen_port);
    access.server_key = lane_keys.at(lane);
  }
  out.heartbeat_ttl = Seconds(config.session.heartbeat_ttl);
  out.hard_ttl = Seconds(config.session.hard_ttl);
  out.preshared = preshared_of(session);
  out.session = std::move(session);
  co_return out;
}

Task<Session> Gateway::Impl::cut(Instance instance, CloseReason reason) {
  auto session = co_await end_and_strip(std::move(instance), reason);
  closing.notify();
  co_return session;
}

Task<void> Gateway::Impl::leave_in_gate(const Caller& caller, DeviceId device) {
  TRY(auto pass, co_await gates.enter(device));
  auto session = sessions.find(device);
  if (!session) co_return Error(errc::session_expired, "the device has no live session");
  co_return co_await leave(caller, *session);
}

Task<void> Gateway::Impl::leave(const Caller& caller, const Session& session) {
  auto lease = ipam.find(caller.source);
  if (!lease || lease->owner != owner_of(session.device)) {
    TRY_VOID(co_await cut(session.instance, CloseReason::disconnect));
    co_return Result<void>();
  }
  TRY_VOID(co_await sessions.end(session.instance, CloseReason::disconnect));
  leaving.insert(session.instance);
  background.add("finish_left", finish_left(session.instance));
  co_return Result<void>();
}

Task<void> Gateway::Impl::finish_left(Instance instance) {
  bool slept = co_await runtime.sleep_until(runtime.now() + answer_time);
  leaving.erase(instance);
  closing.notify();
  co_return slept ? Result<void>() : Error(errc::cancelled);
}

Task<Session> Gateway::Impl::end_and_strip(Instance instance, CloseReason reason) {
  TRY(auto session, co_await sessions.end(instance, reason));
  auto stripped = co_await cutter.strip(session);
  if (stripped) co_return session;
  if (auto lease = ipam.find(owner_of(session.device)); lease && !session.addresses.empty())
    (void)ipam.mark_dirty(lease->id);
  co_return stripped.error();
}

Task<Session> Gateway::Impl::finish(Instance instance, CloseReason reason, Cutting* cutting) {
  TRY(auto session, co_await end_and_strip(instance, reason));
  CutNumbers* numbers = nullptr;
  if (cutting != nullptr) {
    numbers = &cutting->made.cut;
    if (numbers->stopped.count() == 0) numbers->stopped = cutting->elapsed();
  }
  auto gone = co_await cutter.finish(session, numbers);
  auto lease = ipam.find(owner_of(session.device));
  if (!gone) {
    if (lease && !session.addresses.empty()) (void)ipam.mark_dirty(lease->id);
    co_return gone.error();
  }
  if (lease && !*gone) (void)ipam.keep_apart(lease->id);
  auto dismissed = co_await dismiss(instance);
  TRY(auto closed, co_await sessions.record(instance));
  // Only now may the addresses rest (I-06); a newer instance of the device keeps them.
  if (lease && !closed.addresses.empty()) free_lease(lease->id, dismissed.has_value());
  undrained.emplace(closed.instance, EndedSession(closed));
  quota.settle(closed.user, closed.instance, closed.received + closed.sent, Month::of(closed.ended));
  (void)co_await parts.live->erase(closed.id(), closed.instance);
  events.session("session_closed", closed);
  if (cutting != nullptr) cutting->made.sessions.push_back(closed);
  co_return closed;
}

Task<void> Gateway::Impl::strip_in_gate(Instance instance, CloseReason reason) {
  auto session = sessions.find(instance);
  if (!session) co_return Result<void>();
  TRY(auto pass, co_await gates.enter(session->device));
  TRY_VOID(co_await end_and_strip(std::move(instance), reason));
  co_return Result<void>();
}

Task<Session> Gateway::Impl::close_in_gate(Instance instance, CloseReason reason, Cutting* cutting) {
  auto session = sessions.find(instance);
  if (!session) co_return Error(errc::not_found, "no such session");
  TRY(auto pass, co_await gates.enter(session->device));
  auto finished = co_await finish(std::move(instance), reason, cutting);
  if (!finished) closing.notify();
  co_return finished;
}

}  // namespace tornado::inline v1
