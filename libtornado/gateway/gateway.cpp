#include "tornado/gateway.hpp"

#include <stdexcept>

#include "base/json.hpp"
#include "base/try.hpp"
#include "firewall/ruleset.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"

namespace tornado::inline v1 {
namespace {

/// A login that took longer is of no use to its client (K-12).
constexpr std::chrono::milliseconds login_deadline{9000};

WireGuardChoice choose(const Config& config) {
  if (auto checked = config.check(); !checked) throw std::invalid_argument(checked.error().detail());
  return choose_wireguard(config.wireguard.backend, {config.lanes.vpn.interface, config.lanes.tor.interface});
}

GatewayParts complete(Runtime& runtime, const Config& config, const WireGuardChoice& choice, GatewayParts parts) {
  bool memory = choice.backend == WireGuardBackend::memory;
  if (!parts.database)
    parts.database =
        open_sqlite(runtime, config.database_path(), static_cast<std::uint64_t>(config.database.reserve_mib) << 20);
  if (!parts.live) parts.live = memory_live_store(runtime);
  std::vector<std::string> interfaces{config.lanes.vpn.interface, config.lanes.tor.interface};
  if (!parts.wireguard && memory) parts.wireguard = std::make_unique<MemoryWireGuard>(runtime, interfaces);
  if (!parts.wireguard && choice.backend == WireGuardBackend::kernel) parts.wireguard = kernel_wireguard(runtime);
  if (!parts.wireguard) parts.wireguard = uapi_wireguard(runtime, config.wireguard.socket_dir);
  if (!parts.host && memory) parts.host = std::make_unique<MemoryHost>(runtime, interfaces);
  if (!parts.host) parts.host = netlink_host(runtime);
  if (!parts.firewall && memory) parts.firewall = std::make_unique<MemoryFirewall>(runtime);
  if (!parts.firewall) parts.firewall = nft_firewall(runtime);
  return parts;
}

}  // namespace

Gateway::Impl::Impl(Runtime& runtime_, Config config_, GatewayParts parts_)
    : runtime(runtime_),
      config(std::move(config_)),
      reloaded(runtime),
      choice(choose(config)),
      parts(complete(runtime, config, choice, std::move(parts_))),
      users(runtime, *parts.database, config.password_policy()),
      keys(runtime, config.key_options()),
      auth(runtime, users, *parts.live, keys, config.auth_options()),
      ipam(runtime.clock(), Seconds(config.ipam.quarantine)),
      sessions(runtime, *parts.database, config.session_options()),
      peers(runtime, *parts.wireguard,
            config.wireguard.foreign_peers == "remove" ? ForeignPeers::remove : ForeignPeers::alert),
      gates(runtime),
      events(runtime, config.session_options().address_privacy),
      cutter(runtime, peers, *parts.host, sessions),
      supervisor(runtime, config.state_dir + "/children"),
      policy_brought(runtime),
      endpoint_name(runtime, config.endpoint.host),
      closing(runtime),
      reconcile_wanted(runtime),
      api_wanted(runtime),
      lookup_wanted(runtime),
      process_came_up(runtime),
      background(runtime) {
  lanes = {{Lane("vpn"), &config.lanes.vpn}, {Lane("tor"), &config.lanes.tor}};
  for (const auto& [lane, settings] : lanes) {
    lane_names.push_back(lane);
    peers.add_lane(lane, settings->interface);
    ipam.add(config.pool(lane.str())).value();
  }
  auth.online_devices([this](const UserId& user) {
    std::vector<DeviceId> online;
    for (const auto& session : sessions.of(user))
      if (session.live() && session.presence != Presence::offline) online.push_back(session.device);
    return online;
  });
  watch_sessions();
  peers.on_parked([this](const Lane& lane, const PublicKey& key, const std::string& detail) {
    boost::json::object fields;
    fields["key"] = key.str();
    fields["lane"] = lane.str();
    fields["detail"] = detail;
    events.publish("peer_parked", to_json(fields));
  });
  auth.on_reuse([this](const DeviceId& device) { background.add("close_reused", close_ended(device)); });
  auth.on_doubt([this](const DeviceId& device) { doubt_access(device); });
}

Gateway::Gateway(Runtime& runtime, Config config, GatewayParts parts)
    : impl_(std::make_unique<Impl>(runtime, std::move(config), std::move(parts))) {}
Gateway::~Gateway() = default;

Task<void> Gateway::start() {
  return impl_->start();
}

Task<void> Gateway::stop() {
  impl_->stopping = true;
  impl_->ready = false;
  co_await impl_->background.stop_all();
  (void)co_await impl_->sessions.checkpoint();
  (void)co_await impl_->drain_history();
  // Should another month have begun before the next start, what was moved until now is of this one.
  if (impl_->usage_written != Instant()) (void)co_await impl_->write_recent_usage();
  co_return co_await impl_->parts.database->close();
}

Task<void> Gateway::teardown() {
  // The last reading: the peers go, and their counters with them.
  for (const auto& lane : impl_->lane_names) (void)co_await impl_->sample(lane);
  auto stopped = co_await stop();
  TRY_VOID(co_await impl_->teardown());
  co_return stopped;
}

std::vector<std::string> Gateway::steps() const {
  return impl_->steps;
}
bool Gateway::ready() const noexcept {
  return impl_->ready;
}
const WireGuardChoice& Gateway::wireguard_choice() const noexcept {
  return impl_->choice;
}

void Gateway::listening() {
  impl_->step_done("listening");
  impl_->ready = true;
}

std::vector<Component> Gateway::health() const {
  std::vector<Component> all;
  all.emplace_back("start", impl_->ready, impl_->steps.empty() ? "not begun" : "last step: " + impl_->steps.back());
  for (const auto& [name, component] : impl_->components) all.push_back(component);
  for (const auto& child : impl_->supervisor.status())
    all.emplace_back(child.name, child.state == ChildState::running,
                     child.state == ChildState::running ? "running" : child.reason);
  for (const auto& lane : impl_->lane_names) {
    auto usage = impl_->ipam.usage(lane);
    all.emplace_back("pool_" + lane.str(), usage.available() > 0,
                     std::to_string(usage.leased) + " of " + std::to_string(usage.size) + " leased, " +
                         std::to_string(usage.resting) + " resting");
  }
  return all;
}

Task<Login> Gateway::login(Caller caller, Sealed sealed) {
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  Instant arrived = caller.arrived == Instant() ? impl_->runtime.now() : caller.arrived;
  Address source = impl_->origin(caller);
  auto credentials = impl_->auth.unseal(sealed);
  if (!credentials) {
    TRY_VOID(co_await impl_->auth.malformed(source));
    co_return credentials.error();
  }
  TRY(auto user, co_await impl_->auth.verify(source, *credentials));
  if (impl_->runtime.now() - arrived > login_deadline)
    co_return Error(errc::overloaded, "the client has given up by now");
  auto issued = co_await impl_->auth.issue(user, caller.label, source);
  if (!issued) {
    // It may have evicted a device all the same.
    impl_->doubt_access(user.id);
    co_return issued.error();
  }
  Login login = std::move(*issued);
  for (const auto& device : login.evicted) impl_->background.add("close_evicted", impl_->close_ended(device));
  co_return login;
}

Task<Refreshed> Gateway::reauth(Caller caller, std::string token) {
  if (token.empty()) co_return Error(errc::missing_fields, "refresh_token is empty");
  co_return co_await impl_->auth.refresh(impl_->origin(caller), std::move(token));
}

Task<void> Gateway::logout(Caller caller, std::string token) {
  if (token.empty()) co_return Error(errc::missing_fields, "refresh_token is empty");
  TRY(auto device, co_await impl_->auth.revoke(std::move(token)));
  auto left = co_await impl_->leave_in_gate(caller, device.id);
  if (left || left.error().code() == errc::session_expired) co_return Result<void>();
  impl_->doubt_access(device.id);
  co_return left;
}

Task<TunnelConfig> Gateway::initiate(Caller caller, std::string public_key, bool preshared_key) {
  if (!caller.claims) co_return Error(errc::token_missing, "Not authenticated");
  TRY_VOID(impl_->check_place(caller));
  TRY(auto key, impl_->acceptable_key(public_key, caller.claims->device));
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  const bool preshared = preshared_key && impl_->config.wireguard.preshared_keys == "offered";
  co_return co_await impl_->initiate(std::move(caller), key, preshared);
}

std::optional<Result<Beat>> Gateway::heartbeat_now(const Caller& caller) {
  auto account = impl_->auth.authorized(*caller.claims);
  if (!account || !impl_->ready) return std::nullopt;
  if (!*account) return Result<Beat>(account->error());
  if (auto place = impl_->check_place(caller); !place) return Result<Beat>(place.error());
  auto beat = impl_->sessions.beat(caller.claims->device, impl_->outer_address(caller));
  impl_->tell_beat(beat);
  return beat;
}

Task<Beat> Gateway::heartbeat(Caller caller) {
  if (!caller.claims) co_return Error(errc::token_missing, "Not authenticated");
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  if (auto beat = heartbeat_now(caller)) co_return *beat;
  auto account = co_await impl_->auth.authorize(*caller.claims);
  // While the store is away the last known state answers: heartbeats go on (I-11, I-43).
  if (!account && class_of(account.error().code()) != error_class::unavailable) co_return account.error();
  if (!account && !impl_->users.last_known(caller.claims->device))
    co_return Error(errc::unavailable, account.error().detail());
  TRY_VOID(impl_->check_place(caller));
  auto beat = impl_->sessions.beat(caller.claims->device, impl_->outer_address(caller));
  impl_->tell_beat(beat);
  co_return beat;
}

Task<void> Gateway::disconnect(Caller caller) {
  if (!caller.claims) co_return Error(errc::token_missing, "Not authenticated");
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  TRY_VOID(co_await impl_->auth.authorize(*caller.claims));
  TRY_VOID(impl_->check_place(caller));
  co_return co_await impl_->leave_in_gate(caller, caller.claims->device);
}

Task<UserId> Gateway::identify(Caller caller) {
  if (!caller.claims) co_return Error(errc::token_missing, "Not authenticated");
  TRY(auto account, co_await impl_->auth.authorize(*caller.claims));
  co_return account.user;
}

PublicKey Gateway::login_key() const {
  return impl_->keys.ring()->login_key();
}

Task<Revocation> Gateway::close(Caller, Instance instance, CloseReason reason) {
  Cutting cutting;
  TRY_VOID(co_await impl_->close_in_gate(std::move(instance), reason, &cutting));
  co_return cutting.take();
}

Task<Revocation> Gateway::suspend(Caller, UserId user) {
  return impl_->end_access(user, impl_->users.suspend(user));
}

Task<std::size_t> Gateway::confirm_ends(Caller) {
  if (!impl_->ends_held) co_return Error(errc::conflict, "no end of a session is held");
  impl_->ends_confirmed_until = impl_->runtime.now() + Seconds(60);
  co_return impl_->sessions.overdue_count();
}

Task<std::size_t> Gateway::confirm_removals(Caller) {
  const std::size_t held = impl_->peers.held_removals();
  if (held == 0) co_return Error(errc::conflict, "no removal of a foreign peer is held");
  impl_->peers.confirm_removals(impl_->runtime.now() + Seconds(60));
  impl_->reconcile_wanted.notify();
  co_return held;
}

Task<User> Gateway::reinstate(Caller, UserId user) {
  TRY(auto reinstated, co_await impl_->users.reinstate(std::move(user)));
  auto now = co_await impl_->account(reinstated.id);
  if (now) reinstated = std::move(*now);
  co_return reinstated;
}

Task<Revocation> Gateway::remove_user(Caller, UserId user) {
  return impl_->end_access(user, impl_->users.remove(user));
}

Task<Revocation> Gateway::update_user(Caller, UserId user, UserChanges changes) {
  const bool ends_access = changes.password.has_value() || (changes.active && !*changes.active);
  auto change = impl_->change_user(user, std::move(changes));
  if (ends_access) co_return co_await impl_->end_access(std::move(user), std::move(change));
  Cutting cutting;
  TRY(cutting.made.user, co_await std::move(change));
  auto now = co_await impl_->account(cutting.made.user.id);
  if (now) cutting.made.user = std::move(*now);
  co_return cutting.take();
}

Task<Revocation> Gateway::revoke_device(Caller, DeviceId id) {
  return impl_->end_device(std::move(id));
}

Task<std::vector<Session>> Gateway::history(HistoryQuery query) {
  if (query.limit < 1 || query.limit > 10'000 || query.offset < 0)
    co_return Error(errc::invalid_argument, "limit: 1 to 10000; offset: not negative");
  TRY_VOID(co_await impl_->drain_history());
  std::vector<Session> rows;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(rows, history_repo::list(tx, query));
    return {};
  };
  TRY_VOID(co_await impl_->parts.database->transact(Scope::system(), body));
  co_return rows;
}

Task<Difference> Gateway::reconcile() {
  impl_->peers.try_refused();
  auto done = co_await impl_->mend();
  // Health and the next try are the upkeep's.
  if (done && !done->refused.empty()) impl_->reconcile_wanted.notify();
  co_return done;
}
Task<GatewayDifference> Gateway::difference() {
  co_return co_await impl_->difference();
}
std::string Gateway::firewall_text() const {
  if (!impl_->ruleset) return std::string();
  Ruleset now = *impl_->ruleset;
  const auto rules = impl_->access.rules();
  Ruleset rights;
  rights.sets = access_sets(rules.get());
  for (const Chain& chain : now.chains)
    if (is_access(chain.name)) rights.chains.push_back(chain);
  replace_access(now, rights);
  replace_api(now, impl_->api);
  return to_text(now);
}

Task<EventBatch> Gateway::events(std::uint64_t after) {
  co_return co_await impl_->events.after(after);
}
std::uint64_t Gateway::last_event() const noexcept {
  return impl_->events.last();
}

const Config& Gateway::config() const noexcept {
  return impl_->config;
}
Users& Gateway::users() noexcept {
  return impl_->users;
}
Auth& Gateway::auth() noexcept {
  return impl_->auth;
}
Ipam& Gateway::ipam() noexcept {
  return impl_->ipam;
}
SessionStore& Gateway::sessions() noexcept {
  return impl_->sessions;
}
PeerProgrammer& Gateway::peers() noexcept {
  return impl_->peers;
}
KeyRotator& Gateway::keys() noexcept {
  return impl_->keys;
}
LiveStore& Gateway::live() noexcept {
  return *impl_->parts.live;
}
WireGuard& Gateway::wireguard() noexcept {
  return *impl_->parts.wireguard;
}

}  // namespace tornado::inline v1
