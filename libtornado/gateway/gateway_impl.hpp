#pragma once

#include <atomic>
#include <set>
#include <unordered_set>

#include "base/task_group.hpp"
#include "crypto/seal.hpp"
#include "dns/name_lookup.hpp"
#include "dns/responder.hpp"
#include "dns/upstreams.hpp"
#include "gateway/access_book.hpp"
#include "gateway/cutter.hpp"
#include "gateway/event_log.hpp"
#include "gateway/gates.hpp"
#include "gateway/host_wish.hpp"
#include "limits/policy_repo.hpp"
#include "limits/quota_book.hpp"
#include "tor/maintenance_page.hpp"
#include "tornado/gateway.hpp"

namespace tornado::inline v1 {

class WhyFacts;

/// A revocation under way, timed from its first step.
class Cutting {
 public:
  std::chrono::microseconds elapsed() const {
    return std::chrono::microseconds(static_cast<std::int64_t>(watch_.seconds() * 1e6));
  }
  Revocation take() {
    made.cut.finished = elapsed();
    return std::move(made);
  }
  Revocation made;

 private:
  Stopwatch watch_;
};

/// A session that failed to replace another one, and could not be taken back yet.
class Unreverted {
 public:
  Unreverted() {}
  Unreverted(Instance failed_, std::string username_) : failed(std::move(failed_)), username(std::move(username_)) {}
  Instance failed;
  std::string username;
};

/// What a session that has ended leaves until the history has it.
class EndedSession {
 public:
  explicit EndedSession(const Session& session)
      : user(session.user), received(session.received), sent(session.sent), ended(session.ended) {}
  UserId user;
  std::uint64_t received, sent;
  Instant ended;
};

/// What a gateway is made of, in order of dependency; background work comes last.
struct Gateway::Impl {
  Impl(Runtime& runtime, Config config, GatewayParts parts);

  // lifecycle.cpp: the steps of the start, in order.
  Task<void> start();
  Task<void> prepare_directories();
  Task<void> apply_firewall();
  Task<void> apply_table();
  Task<void> put_table();
  Task<void> bring_links_up();
  void say_lane(const Lane& lane);
  Task<void> bring_lane_up(const LaneConfig& lane, const Pool& pool);
  HostWish wanted_barriers() const;
  HostWish wanted_link(const LaneConfig& lane, const Pool& pool) const;
  HostWish wanted_forwarding() const;
  Task<void> ensure_wireguard(const LaneConfig& lane, std::string name);
  Task<void> probe_interface(std::string name);
  Task<X25519Key> lane_key(const Lane& lane);
  Task<void> program_identity(const LaneConfig& lane, const X25519Key& key);
  Task<void> load_preshared_secret();
  Task<void> restore();
  Task<void> restore_session(const Session& session);
  Task<void> reconcile_at_start();
  Task<void> teardown();
  void step_done(std::string name);
  LanePolicy lane_policy(const Lane& lane, const LaneConfig& settings) const;
  Task<GatewayPolicy> policy();
  Task<Upstreams> upstreams(std::string v4, std::string v6);
  bool in_memory() const { return choice.backend == WireGuardBackend::memory; }
  bool in_kernel() const { return choice.backend == WireGuardBackend::kernel; }
  bool external() const {
    return choice.backend == WireGuardBackend::userspace && config.wireguard.launch == "external";
  }

  // api_reach.cpp: where clients reach the API.
  bool endpoint_is_name() const;
  std::string endpoint_file() const;
  Task<void> begin_endpoint_lookup();
  Task<void> await_endpoint();
  void tell_unresolved(const Error& error);
  boost::asio::awaitable<void> look_up_endpoint(Seconds patience);
  Task<std::vector<Endpoint>> api_endpoints();
  Task<void> record_endpoint();
  Task<void> catch_up_api();
  Task<void> run_api_watch();
  Task<void> run_endpoint_watch();

  // kernel_links.cpp: links of the kernel's WireGuard.
  Task<void> ensure_kernel_link(const LaneConfig& lane, const Lane& name);
  Task<std::optional<std::string>> find_by_key(std::vector<std::string> names, PublicKey key);
  Task<void> take_back_link(const LaneConfig& lane, std::string name, bool replaced);

  // external.cpp: WireGuard processes that belong to a service manager.
  Task<void> await_wireguard(const LaneConfig& lane, std::string name);
  /// Until then, or until a process has come up after that revision. False: cancelled.
  boost::asio::awaitable<bool> rest_unless_back(Instant rest, std::uint64_t up);
  Task<void> run_external_watch();
  Task<void> leave_external(const LaneConfig& lane);

  // tor_lane.cpp: Tor, and what stands in for it.
  Task<void> prepare_tor();
  void attach_tor();
  Task<void> run_tor_watch();
  Task<void> set_tor_mode(LaneMode mode);
  using Listen = std::function<Result<void>(const Endpoint&)>;
  Listen listen_page();
  Listen listen_responder();
  /// Listens where nobody does yet, and says how that went; those that are left.
  std::vector<Endpoint> listen_on(const std::string& component, std::vector<Endpoint> places, const Listen& listen);
  Task<void> listen_again(std::string component, std::vector<Endpoint> missing, Listen listen);
  boost::asio::awaitable<void> record_lane_mode(std::optional<LaneMode> mode);
  boost::asio::awaitable<std::optional<LaneMode>> recorded_lane_mode();
  void say_tor(const TorStatus& status);

  // verification.cpp: a throw-away device of one lane.
  struct Verification {
    std::string token;
    Lane lane;
    PublicKey key;
    LaneMode mode = LaneMode::closed;
    std::optional<LeaseId> lease;
    LaneAddresses addresses;
    Instant until;
    bool admitting = false, clearing = false;
  };
  Task<void> record_verification();
  Task<std::optional<PublicKey>> recall_verification();
  Task<void> admit_verifier();
  Task<void> clear_verification();
  Task<void> remove_verifier();
  void watch_verification();
  void remember(const LaneVerified& outcome);

  // adoption.cpp: peers of others that are kept.
  Task<void> restore_adopted();
  Task<void> adopt(ForeignPeer peer, std::string by);
  Task<void> adopt_foreign(Difference& difference);
  /// Why a peer cannot be adopted; nothing: it can.
  std::optional<std::string> in_the_way(const ForeignPeer& peer) const;
  void adopt_as_recorded(const PublicKey& key);
  void tell_adopted(const AdoptedPeer& record);
  void withhold(const ForeignPeer& peer);
  void give_back(const ForeignPeer& peer);
  /// Addresses of peers that nobody here made count as used while they are there (I-06).
  boost::asio::awaitable<void> withhold_foreign();
  std::set<std::pair<Lane, Prefix>> foreign_parts();
  Task<void> forget_connections(const ForeignPeer& peer);

  // foreign_chains.cpp: firewalls of others on this host.
  Task<void> check_foreign_chains();
  void report_foreign_chain(const ForeignChain& chain);

  // upkeep.cpp: what happens by time.
  void start_upkeep();
  Task<void> tick();
  Task<void> end_due();
  /// Whether so many deadlines have come at once that a person has to look (I-44).
  bool hold_ends();
  Task<void> run_ticks();
  Task<void> run_reconciling();
  boost::asio::awaitable<bool> told_or(Notifier& what, std::uint64_t seen, std::optional<Instant> then);
  void say_peers(const Result<Difference>& done);
  void say_removals();
  Task<void> run_reconcile_timer();
  Task<void> run_closing();
  Task<void> run_child_watch();
  Task<void> run_host_watch();
  Task<void> run_firewall_watch();
  Task<void> look_at_firewall();
  Task<void> close_due(Instance instance, CloseReason reason);
  Task<void> finish_closing(Instance instance);
  Task<void> drain_history();
  Task<Difference> mend();
  Task<GatewayDifference> difference();
  Task<void> identity_difference(const Lane& lane, const LaneConfig& settings, std::vector<std::string>& out);
  Task<Difference> reconcile();
  void watch_pools();
  bool watch_clock();

  // gauges.cpp: what a monitor reads.
  void write_sessions(MetricText& out) const;
  void write_pools(MetricText& out) const;
  void write_lanes(MetricText& out) const;
  void write_limits(MetricText& out) const;
  void write_queues(MetricText& out) const;
  Task<void> run_loop_watch();

  // why.cpp: what is known of one account and device.
  Task<void> gather_account(const std::string& text, WhyFacts& facts);
  Task<void> gather_lanes(WhyFacts& facts);

  // rights.cpp: the policy in force, and the rights of those who connect.
  /// A stored policy that did not come into force, and when it is tried again.
  struct HeldBack {
    std::int64_t version = 0;
    std::string reason;
    Seconds wait{0};
    Instant again;
  };
  Task<std::optional<policy_repo::StoredPolicy>> stored_policy();
  Task<void> load_policy();
  Task<void> settle_policy();
  void close_rights();
  void use_policy(std::shared_ptr<const AccessPolicy> policy, std::int64_t version);
  /// Whether nothing is open because the stored policy is held back.
  bool policy_closed() const;
  std::string held_back_detail() const;
  void table_stands();
  void hold_back(std::int64_t version, const Error& why);
  void say_policy();
  Task<void> apply_closed(Error why);
  void admit_all(const std::unordered_map<UserId, std::string>& admitted = {});
  Task<void> admit(const Session& session, const std::string& username);
  /// An error: its addresses may have rights in the table all the same, until `rights_settled`.
  Task<void> dismiss(Instance instance);
  /// The lease of who was dismissed rests from now on, or as soon as the table has no rights for it (I-06).
  void free_lease(LeaseId lease, bool dismissed);
  void free_confirmed();
  /// Its owner comes back while the lease waits: the addresses change no hands, and are leased again at once.
  void take_up_lease(const Owner& owner);
  /// The table has the rights of the book and no others, but for changes that are under way.
  bool rights_settled() const { return !firewall_behind && tables_under_way == 0; }
  void want_firewall();
  Task<void> catch_up_rights(std::shared_ptr<const Ruleset> made, std::uint64_t since);
  Task<void> apply_rights();
  /// What is freed while a table is made may be in it: it is withheld until then.
  Task<void> as_a_whole(Task<void> put);
  Task<void> put_rights();
  Task<std::shared_ptr<const Ruleset>> compiled(GatewayPolicy wanted);
  Task<void> set_rights(std::vector<DeviceAccess> changed, std::vector<Address> gone);
  Task<PolicyInForce> apply_policy(const Caller& caller, std::string document);
  Task<void> check_policy_users(const AccessPolicy& policy);
  Task<void> bring_into_force(AccessPolicy policy, std::int64_t version);
  Task<void> bring(AccessPolicy fresh, std::int64_t version);
  /// Asks for the accounts of all who are connected, until each is in memory or does not exist.
  Task<void> recall_connected();

  // limits.cpp: paces and quotas.
  Task<void> read_sessions();
  /// Bytes of a user in this month.
  std::uint64_t used(const UserId& user) const;
  Task<void> load_usage(Month month);
  Task<void> write_usage(Instant since);
  Task<void> write_recent_usage();
  Task<void> watch_month();
  Task<void> trim_records();
  Instance oldest_unrecorded() const;
  Task<void> watch_quotas();
  Task<void> tell_quota(UserId user, QuotaStanding standing);
  void say_quota(std::string_view what, const UserId& user, const QuotaStanding& standing, int percent);
  Task<void> run_limits();

  // accounts.cpp: accounts with what they have moved by now.
  struct Moved {
    std::uint64_t received = 0, sent = 0;
    bool ended = false;
  };
  using Unrecorded = std::unordered_map<UserId, std::unordered_map<Instance, Moved>>;
  using AccountsReader = std::function<Result<std::vector<User>>(Tx&)>;
  void note_unrecorded(const UserId& user, Unrecorded& out) const;
  /// Of the users that are in there already.
  void note_ended(Unrecorded& out) const;
  /// Nothing: one is under way.
  std::optional<std::uint64_t> settled_drains() const;
  /// `since`: when the first of them was noted.
  Task<void> read_accounts(const AccountsReader& read, Unrecorded unrecorded, std::optional<std::uint64_t> since,
                           std::vector<User>& out);
  Task<User> account(UserId user);

  // explain_access.cpp
  AccessVerdict dns_verdict(const LanePolicy& lane, const AccessTarget& target) const;
  std::optional<AccessVerdict> lane_verdict(const LanePolicy& lane, const AccessTarget& target) const;

  // sampling.cpp: what the interfaces count.
  void watch_sessions();
  /// A heartbeat is an event while somebody watches; that a session came back is told where it does.
  void tell_beat(const Result<Beat>& beat);
  Task<void> run_sampling();
  Task<void> sample(Lane lane);
  Task<void> note_absent(std::vector<AbsentPeer> absent);

  // sessions.cpp: opening and ending.
  Task<TunnelConfig> initiate(Caller caller, PublicKey key, bool preshared);
  Task<TunnelConfig> initiate_in_gate(const Caller& caller, Account& account, PublicKey key, bool preshared);
  /// The same device with the same key again: its session goes on.
  Task<TunnelConfig> initiate_again(Session session, bool preshared);
  Task<void> undo_preshared(Instance instance);
  Task<void> undo_all_preshared();
  WantedPeer wanted_peer(const Session& session) const;
  /// The preshared key of a session's peer, which is nowhere stored: from the gateway's own secret, by HKDF.
  std::optional<Secret> preshared_of(const Session& session) const;
  Task<void> revert(Instance failed, Instance former, std::string username);
  Task<bool> take_back_successor(Instance former);
  Task<void> settle_pending(DeviceId device);
  Task<Session> bring_up(const Session& opened, const std::string& username, std::optional<Session> former);
  Task<Session> open_session(const Caller& caller, Account& account, PublicKey key, bool preshared);
  /// Ends a session durably and stops its packets; the rest follows in the background.
  Task<Session> cut(Instance instance, CloseReason reason);
  /// Ends the caller's own session. If the caller speaks through its tunnel, the answer goes out before the tunnel
  /// does.
  Task<void> leave(const Caller& caller, const Session& session);
  Task<void> leave_in_gate(const Caller& caller, DeviceId device);
  Task<void> finish_left(Instance instance);
  std::optional<Instance> in_doubt(const DeviceId& device) const;
  Task<Session> end_and_strip(Instance instance, CloseReason reason);
  /// Ends it entirely: peers gone, addresses free, recorded.
  Task<Session> finish(Instance instance, CloseReason reason, Cutting* cutting = nullptr);
  /// Ends it durably and stops its packets, no more.
  Task<void> strip_in_gate(Instance instance, CloseReason reason);
  Task<Session> close_in_gate(Instance instance, CloseReason reason, Cutting* cutting = nullptr);

  // end_access.cpp: accounts and devices that may not connect any more.
  /// Devices whose access may have ended, for all that is known.
  struct AccessDoubts {
    std::set<DeviceId> of;
    Seconds wait{1};
    Instant again;  ///< they are asked for
    bool asking = false;
  };
  Task<User> change_user(UserId user, UserChanges changes);
  /// Of a user who is connected: the rights of that name from now on.
  Task<void> rename(const UserId& user, const std::string& username);
  /// Carries out a change that bumps the user's epoch, and then closes every session there is (I-05).
  Task<Revocation> end_access(UserId user, Task<User> change);
  Task<Revocation> end_device(DeviceId device);
  /// Closes every session of the user and adds to the revocation what that cut.
  Task<void> close_all_of(UserId user, CloseReason reason, Cutting& cutting);
  Task<void> close_ended(DeviceId device, Cutting* cutting = nullptr);
  Task<void> close_live(DeviceId device, Cutting* cutting);
  void doubt_access(const DeviceId& device);
  void doubt_access(const UserId& user);
  void look_at_doubts();
  Task<void> settle_access();

  // reload.cpp: another configuration.
  Task<Config> configuration();
  Task<std::vector<ConfigChange>> reload();
  Task<std::vector<ConfigChange>> read_and_take_over();
  Task<void> take_over(const std::vector<ConfigChange>& changes);

  // sessions.cpp: who asks, and with what.
  Result<PublicKey> acceptable_key(std::string_view text, const DeviceId& device) const;
  Task<TunnelConfig> tunnel_config(Session session);
  Result<void> check_place(const Caller& caller) const;
  Address origin(const Caller& caller) const;
  /// The same, or nothing: it comes through a tunnel whose outer end is not known yet.
  std::optional<Address> outer_address(const Caller& caller) const;

  Runtime& runtime;
  Config config;
  bool reloading = false;
  Notifier reloaded;
  std::uint64_t config_revision = 0;  // moves with every reload
  WireGuardChoice choice;
  GatewayParts parts;
  Users users;
  KeyRotator keys;
  Auth auth;
  Ipam ipam;
  SessionStore sessions;
  PeerProgrammer peers;
  Gates gates;
  EventLog events;
  Cutter cutter;
  Supervisor supervisor;
  std::unique_ptr<TorController> tor;
  std::unique_ptr<MaintenancePage> page;
  std::unique_ptr<DnsResponder> responder;
  LaneMode tor_mode = LaneMode::closed;
  std::optional<LaneMode> tor_settled;  // the mode of which alone flows are tracked; nothing: they may be of any
  std::vector<Endpoint> page_missing, responder_missing;
  std::vector<std::pair<Lane, const LaneConfig*>> lanes;
  std::vector<Lane> lane_names;
  std::map<Lane, PublicKey> lane_keys;
  Secret preshared_secret;
  std::shared_ptr<const Ruleset> ruleset;
  std::vector<Endpoint> api;
  bool api_in_doubt = false;  // the kernel may have others
  bool resolves6 = false;     // the open lanes have a resolver for IPv6
  AccessBook access;
  QuotaBook quota;
  Instant usage_written;
  std::unordered_map<Instance, EndedSession> undrained;  // the history may not have them yet
  std::uint64_t drains = 0;
  int draining = 0;
  AccessDoubts access_doubts;
  std::int64_t access_version = 0;  // 0: of none that was stored
  std::int64_t told_version = 0;
  bool policy_in_doubt = false;  // one may have been stored that is not in force
  std::optional<HeldBack> held_back;
  std::shared_ptr<const AccessPolicy> accepted;  // that of the table the kernel took last
  std::int64_t accepted_version = 0;
  std::int64_t tried_version = 0;  // of the whole table that was tried last
  bool bringing_policy = false;
  Notifier policy_brought;
  bool firewall_behind = false;   // it has to be applied as a whole
  bool table_damaged = false;     // by somebody else: new rights in it mend nothing
  bool firewall_doubted = false;  // it could not be looked at
  int tables_under_way = 0;       // made of the book as it was
  std::set<LeaseId> unconfirmed;
  RestoredSessions restored;  // between reading and restoring
  std::vector<ForeignChain> foreign_chains;
  std::string endpoint_host;
  NameLookup endpoint_name;
  std::vector<Address> endpoint_known;     // what endpoint.host resolved to the last time
  std::vector<Address> endpoint_recorded;  // for the next start
  std::string endpoint_told;               // why it did not, as it was told last
  std::vector<std::string> steps;
  bool started = false;  // every step of the start was taken
  bool ready = false;
  bool stopping = false;
  std::map<std::string, Component> components;
  std::map<Lane, std::string> link_failures;  // empty: the lane's link is as it should be
  std::string mode_failure;                   // of lane tor, likewise
  std::map<Lane, bool> nearly_full;
  std::optional<Verification> verification;
  std::map<Lane, LaneVerified> verified;
  std::map<std::pair<Lane, PublicKey>, AdoptedPeer> adopted;
  std::map<PublicKey, std::string> not_adopted;  // and why, as it was told
  std::set<std::pair<Lane, Prefix>> withheld;    // for foreign peers
  std::map<PublicKey, std::string> not_withheld;
  Notifier closing;
  std::map<Instance, bool> preshared_doubts;  // whether the client has one, where row and peer may say otherwise
  std::map<Instance, Unreverted> unreverted;  // by the session that is to go on
  std::unordered_set<Instance> leaving;       // ended by their own devices, not yet cut
  Notifier reconcile_wanted;
  Notifier api_wanted;
  Notifier lookup_wanted;
  Notifier process_came_up;
  std::chrono::milliseconds awake_at{0};
  Instant wall_at;
  bool ends_held = false;
  bool ending_due = false;
  bool removals_told = false;
  Instant ends_confirmed_until;
  TaskGroup background;
};

}  // namespace tornado::inline v1
