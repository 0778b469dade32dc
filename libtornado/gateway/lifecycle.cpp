// The start of a gateway, step by step, and its teardown.
#include "base/file.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "crypto/seal.hpp"
#include "dns/upstreams.hpp"
#include "firewall/barrier.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

Result<Endpoint> dns_endpoint(const std::string& text) {
  if (auto endpoint = Endpoint::parse(text)) return *endpoint;
  TRY_PLAIN(auto address, Address::parse(text));
  return Endpoint(address, 53);
}

Error with_remedy(const Error& error, std::string_view what) {
  std::string detail = std::string(what) + ": " + error.detail();
  if (error.code() == errc::permission_denied)
    detail += " (CAP_NET_ADMIN is needed: use the systemd unit, or run as root)";
  return Error(error.code(), detail);
}

/// The key of a lane, made once and kept for ever (D-063).
Result<X25519Key> load_lane_key(const std::string& directory, const std::string& lane) {
  TRY_VOID_PLAIN(make_directory(directory, 0700));
  std::string path = directory + "/" + lane + ".key";
  auto text = read_file(path, 256);
  if (!text && text.error().code() != errc::not_found) return text.error();
  if (!text) {
    X25519Key key = X25519Key::generate();
    TRY_VOID_PLAIN(replace_file(path, key.private_key().reveal(), 0600));
    return key;
  }
  Secret raw(std::move(*text));
  auto key = X25519Key::from_private(raw.reveal());
  if (!key) return Error(errc::data_loss, path + " is damaged: " + key.error().detail());
  return key;
}

}  // namespace

void Gateway::Impl::step_done(std::string name) {
  runtime.log().write(LogLevel::info, "start_step", {{"step", name}});
  events.publish("start_step", "{\"step\":\"" + name + "\"}");
  steps.push_back(std::move(name));
}

Task<void> Gateway::Impl::start() {
  TRY_VOID(co_await prepare_directories());
  TRY_VOID(co_await begin_endpoint_lookup());
  runtime.log().write(LogLevel::info, "wireguard_backend",
                      {{"backend", std::string(name(choice.backend))}, {"reason", choice.reason}});
  step_done("config");
  auto migrated = co_await parts.database->migrate();
  if (!migrated) co_return Error(migrated.error().code(), config.database_path() + ": " + migrated.error().detail());
  step_done("database_migrated");
  TRY_VOID(co_await keys.open());
  TRY_VOID(co_await auth.restore());
  step_done("keys_ready");
  TRY_VOID(co_await prepare_tor());
  TRY_VOID(co_await load_policy());
  TRY_VOID(co_await read_sessions());
  TRY_VOID(co_await await_endpoint());
  TRY_VOID(co_await apply_firewall());
  (void)co_await check_foreign_chains();
  step_done("firewall_applied");
  TRY_VOID(co_await bring_links_up());
  step_done("links_up");
  TRY_VOID(co_await restore());
  step_done("state_restored");
  TRY_VOID(co_await reconcile_at_start());
  step_done("peers_reconciled");
  TRY_VOID(co_await parts.live->generation());
  step_done("live_connected");
  started = true;
  attach_tor();
  step_done("tor_attached");
  start_upkeep();
  if (external()) background.add("external_watch", run_external_watch());
  co_return Result<void>();
}

Task<void> Gateway::Impl::prepare_directories() {
  auto work = [this]() -> Result<void> {
    TRY_VOID_PLAIN(make_directory(config.state_dir, 0700));
    TRY_VOID_PLAIN(make_directory(config.runtime_dir, 0755));
    return make_directory(config.state_dir + "/children", 0700);
  };
  co_return co_await runtime.offload(Blocking::file, work);
}

LanePolicy Gateway::Impl::lane_policy(const Lane& lane, const LaneConfig& settings) const {
  LanePolicy out;
  Pool pool = config.pool(lane.str());
  out.lane = lane;
  out.interface = settings.interface;
  out.pool = pool.v4;
  out.pool6 = pool.v6;
  out.gateway = pool.gateway();
  out.gateway6 = pool.gateway6();
  out.mode = lane.str() == "vpn" ? LaneMode::open : tor_mode;
  out.trans_port = config.tor.trans_port;
  out.dns_port = config.tor.dns_port;
  out.page_port = config.tor.page_port;
  out.responder_port = config.tor.responder_port;
  return out;
}

/// As they are configured, else as the host has them.
Task<Upstreams> Gateway::Impl::upstreams(std::string v4, std::string v6) {
  auto look = []() -> Result<Upstreams> { return Upstreams::of_host(); };
  TRY(auto out, co_await runtime.offload(Blocking::file, look));
  if (!v4.empty()) {
    TRY(out.v4, dns_endpoint(v4));
  }
  if (!v6.empty()) {
    TRY(out.v6, dns_endpoint(v6));
  }
  if (!out.v4 && !in_memory())
    co_return Error(errc::invalid_config, "dns.upstream: resolv.conf names no resolver a lane can reach; set one");
  co_return out;
}

Task<GatewayPolicy> Gateway::Impl::policy() {
  GatewayPolicy out;
  for (const auto& [lane, settings] : lanes) out.lanes.push_back(lane_policy(lane, *settings));
  out.api = api;
  out.api_port = config.listen_endpoint().port;
  out.connections_per_device = static_cast<std::uint32_t>(config.firewall.connections_per_device);
  TRY(auto resolvers, co_await upstreams(config.dns.upstream, config.dns.upstream6));
  out.dns = resolvers.v4;
  out.dns6 = resolvers.v6;
  resolves6 = out.dns6.has_value();
  out.access = access.rules();
  co_return out;
}

Task<void> Gateway::Impl::apply_firewall() {
  TRY(api, co_await api_endpoints());
  api_in_doubt = true;
  auto applied = co_await apply_table();
  if (!applied && access_version != 0) applied = co_await apply_closed(applied.error());
  // The former table may stand; what was changed meanwhile follows in this one.
  api_wanted.notify();
  if (!applied) co_return with_remedy(applied.error(), "the firewall could not be applied");
  api_in_doubt = false;
  components["firewall"] = Component("firewall", true, "applied");
  co_return Result<void>();
}

Task<void> Gateway::Impl::apply_table() {
  return as_a_whole(put_table());
}

Task<void> Gateway::Impl::put_table() {
  std::uint64_t revision = 0;
  std::shared_ptr<const Ruleset> made;
  // The mode of the tor lane may change while this one waits, the API's addresses, the policy, and the configuration.
  for (bool current = false; !current;) {
    const LaneMode used = tor_mode;
    const auto reached = api;
    const auto rights = access.shared_policy();
    const auto configured = config_revision;
    tried_version = access_version;
    TRY(auto wanted, co_await policy());
    revision = access.revision();
    TRY(made, co_await compiled(std::move(wanted)));
    // A request that has outlived the gateway's service puts back nothing that a teardown has removed.
    if (stopping) co_return Error(errc::cancelled, "the gateway is stopping");
    auto changed = [&]() {
      return used != tor_mode || reached != api || rights != access.shared_policy() || configured != config_revision;
    };
    if (changed()) continue;
    ruleset = made;
    TRY_VOID(co_await parts.firewall->apply(made));
    current = !changed();
  }
  table_damaged = false;
  table_stands();
  co_return co_await catch_up_rights(std::move(made), revision);
}

/// At the start the first lane that fails ends it. Later every lane is tried, whatever became of the others, and the
/// error is the first one.
Task<void> Gateway::Impl::bring_links_up() {
  endpoint_host = config.endpoint.host;
  if (endpoint_host.empty()) {
    endpoint_host = "127.0.0.1";
    TRY(auto addresses, co_await parts.host->addresses());
    for (const auto& local : addresses) {
      bool own = std::any_of(lanes.begin(), lanes.end(),
                             [&](const auto& lane) { return lane.second->interface == local.link; });
      if (own || !local.address.is_v4() || local.address.is_loopback()) continue;
      endpoint_host = local.address.str();
      break;
    }
  }
  const HostWish barriers = wanted_barriers();
  auto raised = co_await fulfil(*parts.host, barriers);
  if (!raised) co_return with_remedy(raised.error(), "the barrier of lane tor and the end of the pool of lane vpn");
  Result<void> outcome;
  for (const auto& [lane, settings] : lanes) {
    Pool pool = config.pool(lane.str());
    auto up = co_await bring_lane_up(*settings, pool);
    if (!up && up.error().code() == errc::cancelled) co_return up;
    if (!up) up = with_remedy(up.error(), "lane " + lane.str() + " (" + settings->interface + ")");
    link_failures[lane] = up ? std::string() : up.error().detail();
    say_lane(lane);
    if (!up && !started) co_return up;
    if (!up && outcome) outcome = up;
  }
  const HostWish forwarding = wanted_forwarding();
  auto forwarded = co_await fulfil(*parts.host, forwarding);
  if (!outcome) co_return outcome;
  co_return forwarded;
}

void Gateway::Impl::say_lane(const Lane& lane) {
  std::string detail = link_failures[lane];
  if (detail.empty() && lane.str() == "tor") detail = mode_failure;
  const std::string part = "lane_" + lane.str();
  components[part] = Component(part, detail.empty(), detail.empty() ? "up" : detail);
}

HostWish Gateway::Impl::wanted_barriers() const {
  HostWish out;
  for (const Barrier& part : {barrier(lane_policy(Lane("tor"), config.lanes.tor), barrier_table(1)),
                              pool_end(lane_policy(Lane("vpn"), config.lanes.vpn))}) {
    out.routes.insert(out.routes.end(), part.routes.begin(), part.routes.end());
    out.rules.insert(out.rules.end(), part.rules.begin(), part.rules.end());
  }
  return out;
}

HostWish Gateway::Impl::wanted_link(const LaneConfig& lane, const Pool& pool) const {
  HostWish out;
  out.links.emplace_back(lane.interface, static_cast<std::uint32_t>(lane.mtu));
  out.addresses.emplace_back(lane.interface, pool.gateway(), pool.v4.length());
  if (pool.gateway6()) out.addresses.emplace_back(lane.interface, *pool.gateway6(), pool.v6->length());
  return out;
}

HostWish Gateway::Impl::wanted_forwarding() const {
  HostWish out;
  if (config.pool("vpn").v6) out.sysctls.emplace_back("net/ipv6/conf/all/forwarding", "1");
  out.sysctls.emplace_back("net/ipv4/ip_forward", "1");
  return out;
}

Task<void> Gateway::Impl::bring_lane_up(const LaneConfig& lane, const Pool& pool) {
  std::string process = "wireguard-" + pool.lane.str();
  TRY(const X25519Key key, co_await lane_key(pool.lane));
  if (in_kernel()) {
    TRY_VOID(co_await ensure_kernel_link(lane, pool.lane));
  } else if (external()) {
    TRY_VOID(co_await await_wireguard(lane, process));
  } else if (!in_memory()) {
    TRY_VOID(co_await ensure_wireguard(lane, process));
  }
  TRY_VOID(co_await program_identity(lane, key));
  const HostWish link = wanted_link(lane, pool);
  co_return co_await fulfil(*parts.host, link);
}

/// The process behind a userspace interface: started or adopted once, watched by the supervisor from then on.
Task<void> Gateway::Impl::ensure_wireguard(const LaneConfig& lane, std::string name) {
  for (const auto& child : supervisor.status()) {
    if (child.name != name) continue;
    if (child.state == ChildState::running) co_return Result<void>();
    co_return Error(errc::interface_missing, lane.interface + ": " + child.reason);
  }
  ChildSpec spec;
  spec.name = std::move(name);
  spec.argv = {config.wireguard.program, "-f", lane.interface};
  spec.environment = {"LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  spec.probe = [this, interface = lane.interface]() -> Task<void> { return probe_interface(interface); };
  co_return co_await supervisor.ensure(std::move(spec));
}

Task<void> Gateway::Impl::probe_interface(std::string name) {
  TRY(auto names, co_await parts.wireguard->list());
  if (std::find(names.begin(), names.end(), name) == names.end())
    co_return Error(errc::interface_missing, name + " does not answer yet");
  co_return Result<void>();
}

Task<X25519Key> Gateway::Impl::lane_key(const Lane& lane) {
  auto load = [&]() -> Result<X25519Key> { return load_lane_key(config.state_dir + "/wireguard", lane.str()); };
  TRY(auto key, co_await runtime.offload(Blocking::file, load));
  lane_keys[lane] = key.public_key();
  co_return key;
}

/// Private key and port, only where they differ: a key set again costs every peer its handshake.
Task<void> Gateway::Impl::program_identity(const LaneConfig& lane, const X25519Key& key) {
  TRY(auto interface, co_await parts.wireguard->identity(lane.interface));
  InterfaceChange change(lane.interface);
  if (interface.public_key != key.public_key()) change.private_key = key.private_key();
  if (interface.listen_port != lane.listen_port) change.listen_port = lane.listen_port;
  if (!change.private_key && !change.listen_port) co_return Result<void>();
  co_return co_await parts.wireguard->set(std::move(change));
}

/// Made once and kept for ever: the preshared keys of live sessions come from it.
Task<void> Gateway::Impl::load_preshared_secret() {
  auto load = [this]() -> Result<Secret> {
    const std::string directory = config.state_dir + "/wireguard", path = directory + "/preshared.key";
    TRY_VOID_PLAIN(make_directory(directory, 0700));
    auto raw = read_file(path, 256);
    if (raw && raw->size() == PublicKey::size) return Secret(std::move(*raw));
    if (raw) return Error(errc::data_loss, path + " is damaged: it has " + std::to_string(raw->size()) + " bytes");
    if (raw.error().code() != errc::not_found) return raw.error();
    Secret made(random_bytes(PublicKey::size));
    TRY_VOID_PLAIN(replace_file(path, made.reveal(), 0600));
    return made;
  };
  TRY(preshared_secret, co_await runtime.offload(Blocking::file, load));
  co_return Result<void>();
}

/// In the order of I-02; nothing is swept, leased or removed before all of it is known.
Task<void> Gateway::Impl::restore() {
  TRY_VOID(co_await load_preshared_secret());
  std::vector<WantedPeer> wanted;
  std::vector<std::pair<Owner, PublicKey>> retired;
  for (const auto& session : restored.unclosed) {
    const Owner owner = owner_of(session.device);
    if (!session.addresses.empty()) {
      auto lease = ipam.restore(owner, session.addresses, Owner(session.user.str()));
      if (!lease) co_return Error(errc::data_loss, "session " + session.instance.str() + ": " + lease.error().detail());
    }
    if (session.live())
      wanted.push_back(wanted_peer(session));
    else
      retired.emplace_back(owner, session.key);
  }
  for (const auto& freed : restored.freed)
    (void)ipam.rest(freed.address, freed.last, freed.freed, Owner(freed.user.str()));
  TRY(auto verifier, co_await recall_verification());
  if (verifier) retired.emplace_back(Owner("verify-" + verification->lane.str()), *verifier);
  peers.want(std::move(wanted), std::move(retired));
  TRY_VOID(co_await restore_adopted());
  // A session that never became active was never answered for; accounts may have ended while we were away.
  for (const auto& session : restored.unclosed) TRY_VOID(co_await restore_session(session));
  restored = RestoredSessions();
  co_return Result<void>();
}

Task<void> Gateway::Impl::restore_session(const Session& session) {
  if (session.state == SessionState::pending) {
    TRY_VOID(co_await sessions.end(session.instance, CloseReason::failed));
  } else if (session.state == SessionState::active) {
    auto account = co_await users.account(session.device);
    if (!account && account.error().code() != errc::not_found) co_return account.error();
    if (!account || !account->may_connect()) TRY_VOID(co_await sessions.end(session.instance, CloseReason::revoked));
  }
  auto now = sessions.find(session.instance);
  if (now && now->state == SessionState::closing) (void)co_await cutter.strip(*now);
  co_return Result<void>();
}

Task<void> Gateway::Impl::reconcile_at_start() {
  auto reconciled = co_await reconcile();
  if (!reconciled) co_return with_remedy(reconciled.error(), "peers could not be reconciled");
  if (!reconciled->interfaces_missing.empty())
    co_return Error(errc::interface_missing, reconciled->interfaces_missing.front() + " has gone while starting");
  co_return Result<void>();
}

Task<void> Gateway::Impl::teardown() {
  if (tor) (void)co_await tor->end();
  for (const auto& [lane, settings] : lanes) {
    InterfaceChange nothing(settings->interface);
    nothing.replace_peers = true;
    (void)co_await parts.wireguard->set(std::move(nothing));
    if (external()) {
      TRY_VOID(co_await leave_external(*settings));
      continue;
    }
    if (!in_memory() && !in_kernel()) (void)co_await supervisor.stop("wireguard-" + lane.str());
    TRY_VOID(co_await parts.host->remove_link(settings->interface));
  }
  Barrier tor_barrier = barrier(lane_policy(Lane("tor"), config.lanes.tor), barrier_table(1));
  TRY_VOID(co_await lower(*parts.host, tor_barrier));
  Barrier vpn_end = pool_end(lane_policy(Lane("vpn"), config.lanes.vpn));
  TRY_VOID(co_await lower(*parts.host, vpn_end));
  co_return co_await parts.firewall->remove();
}

}  // namespace tornado::inline v1
