#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tornado/auth.hpp"
#include "tornado/config.hpp"
#include "tornado/event.hpp"
#include "tornado/firewall.hpp"
#include "tornado/history.hpp"
#include "tornado/host.hpp"
#include "tornado/ipam.hpp"
#include "tornado/limits.hpp"
#include "tornado/peer_programmer.hpp"
#include "tornado/session_store.hpp"
#include "tornado/supervisor.hpp"
#include "tornado/tor_controller.hpp"
#include "tornado/why.hpp"

namespace tornado::inline v1 {

/// Who calls. First argument of every use case.
class Caller {
 public:
  enum class Kind : std::uint8_t { anonymous, device, operator_, system };

  static Caller system() { return Caller(Kind::system, Address()); }
  static Caller from(Address source) { return Caller(Kind::anonymous, source); }
  static Caller operator_named(std::string name) {
    Caller caller(Kind::operator_, Address());
    caller.name = std::move(name);
    return caller;
  }

  Kind kind = Kind::anonymous;
  Address source;    ///< as the connection has it: inside a tunnel, the tunnel address (I-16)
  std::string name;  ///< of an operator, for the log
  std::string request_id;
  std::string label;             ///< of the client program, for the device list
  std::optional<Claims> claims;  ///< of a device, checked
  Instant arrived;               ///< when the request came in; default: now

 private:
  Caller(Kind kind_, Address source_) : kind(kind_), source(source_) {}
};

/// Everything a client needs to bring its tunnel up.
class TunnelConfig {
 public:
  TunnelConfig() {}
  class LaneAccess {
   public:
    LaneAccess() {}
    Lane lane;
    Address address;
    std::optional<Address> address6;
    std::string endpoint;  ///< "host:port"
    PublicKey server_key;
  };
  Session session;
  std::vector<LaneAccess> lanes;
  std::optional<Secret> preshared;  ///< 32 raw bytes, for the peers of all lanes; only if it was asked for
  Seconds heartbeat_ttl{90}, hard_ttl{1296000};
};

/// What ending sessions has taken from the kernel and from Tor, and how long it took.
class CutNumbers {
 public:
  CutNumbers() {}
  std::size_t peers = 0;                  ///< that were on the interfaces, each lane counted
  std::size_t flushed = 0;                ///< addresses whose tracked connections were flushed
  int circuits = 0;                       ///< of Tor
  std::chrono::microseconds stopped{0};   ///< from the request until the last packet that could pass
  std::chrono::microseconds finished{0};  ///< until everything was gone and recorded
};

/// What a change of an account, a device or a session has cut.
class Revocation {
 public:
  Revocation() {}
  User user;                      ///< of a change of an account, as `Gateway::account` has it afterwards
  std::optional<Device> device;   ///< that was revoked
  std::vector<Session> sessions;  ///< that were closed, as they were recorded
  std::size_t sign_ins = 0;       ///< devices whose tokens are refused from now on
  CutNumbers cut;
};

/// A lane and what it has carried.
class LaneSummary {
 public:
  LaneSummary() {}
  void add(const Session& session);

  Lane lane;
  std::string interface;
  LaneMode mode = LaneMode::closed;
  PoolUsage pool;
  std::uint64_t devices = 0;                      ///< that use this lane now
  std::uint64_t received = 0, sent = 0;           ///< bytes of all sessions there ever were
  std::uint64_t receive_rate = 0, send_rate = 0;  ///< bytes a second, at the last reading
};

/// What is not as it should be on this host, which is what the next pass would set and nothing else.
class GatewayDifference {
 public:
  GatewayDifference() {}
  bool empty() const noexcept {
    return peers.empty() && peers.foreign.empty() && peers.interfaces_missing.empty() && host.empty();
  }
  Difference peers;
  /// Links, addresses, routes, routing rules, sysctls, keys and ports of the interfaces, and the ruleset, in words:
  /// "wg0 has no address 10.8.0.1/24".
  std::vector<std::string> host;
};

/// A part of the gateway and whether it works now.
class Component {
 public:
  Component() {}
  Component(std::string name_, bool ready_, std::string detail_)
      : name(std::move(name_)), ready(ready_), detail(std::move(detail_)) {}
  std::string name;
  bool ready = false;
  std::string detail;
  /// If it is not ready, somebody should look, but clients are served: `/health` stays 200.
  bool advisory = false;
};

/// What a process needs to join a lane as a throw-away device and to know what should become of its packets.
class VerificationTicket {
 public:
  VerificationTicket() {}
  std::string token;  ///< for `verify_end`
  LanePolicy policy;  ///< of the lane, with its mode now
  LaneAddress address;
  PublicKey server_key;
  std::uint16_t port = 0;  ///< UDP, of the lane's WireGuard on this host
  Instant until;           ///< the device is gone then, ended or not
};

/// The outcome of a verification of a lane.
class LaneVerified {
 public:
  LaneVerified() {}
  Lane lane;
  LaneMode mode = LaneMode::closed;
  Instant at;
  int held = 0;                     ///< probes that the lane held
  std::vector<std::string> failed;  ///< the others: "udp_quic leaked"
  bool mode_changed = false;        ///< meanwhile: the outcome proves nothing and is not kept
};

/// The policy that counts.
class PolicyInForce {
 public:
  PolicyInForce() {}
  /// Why it is not in force, although it was applied, and what is instead. Empty: it is in force.
  std::string held_back;
  std::int64_t version = 0;
  std::string document;    ///< as it was given
  std::string applied_by;  ///< name of the operator
  Instant applied;
  std::size_t grants = 0;   ///< compiled, of all classes
  std::size_t devices = 0;  ///< addresses with rights of their own now
};

/// What a user moves month by month, and under which limit.
class UserUsage {
 public:
  UserUsage() {}
  User user;
  std::vector<std::pair<std::string, std::uint64_t>> months;  ///< "2026-11" and bytes, this month first
  std::optional<UserLimit> limit;
  QuotaStanding standing;
};

/// Parts an embedder brings along; what is left empty is made from the configuration.
class GatewayParts {
 public:
  GatewayParts() {}
  std::unique_ptr<Database> database;
  std::unique_ptr<LiveStore> live;
  /// What stands behind it goes by `wireguard.backend` all the same: links, processes, or nothing for "memory".
  std::unique_ptr<WireGuard> wireguard;
  std::unique_ptr<Host> host;
  std::unique_ptr<Firewall> firewall;
  /// Command in front of programs that must not have our privileges, up to the name of their account:
  /// {"/usr/sbin/tornadod", "--exec-as"} (I-30). Empty: they are started as we are.
  std::vector<std::string> exec_as;
  /// Reads the configuration anew from where it came from, for `Gateway::reload`; called beside the loop. Empty: it
  /// came from nowhere, and there is nothing to reload.
  std::function<Result<Config>()> configuration;
};

/// A key whose value is another one where the configuration comes from than in the gateway that runs.
class ConfigChange {
 public:
  ConfigChange() {}
  std::string key;              ///< "dns.upstream"
  std::string running, wanted;  ///< as JSON
  bool reloadable = false;      ///< else a start of the gateway is what it takes
};

/// One node: its lanes, pools, firewall table, keys and sessions, and the use cases of its clients and operators.
///
/// Loop thread; a use case that has begun is not cancelled by a vanished caller. Every use case may fail with
/// `unavailable` while the gateway starts or a store is away: doubt never sounds like proof (I-10).
class TORNADO_API Gateway {
 public:
  Gateway(Runtime& runtime, Config config, GatewayParts parts = GatewayParts());
  ~Gateway();

  /// Brings the gateway up in named steps (see `steps`). Errors: those of the step, with what to do about it.
  Task<void> start();
  /// Ends background work, writes the journal, closes the stores. Peers, rules and keys stay.
  Task<void> stop();
  /// `stop`, and then peers, links and the firewall table go, in this order.
  Task<void> teardown();
  /// Steps of the start that are complete, in order.
  std::vector<std::string> steps() const;
  /// The API listens; the last step.
  void listening();
  bool ready() const noexcept;
  std::vector<Component> health() const;
  /// Decided once, when the gateway is made.
  const WireGuardChoice& wireguard_choice() const noexcept;

  // Client use cases.
  Task<Login> login(Caller caller, Sealed sealed);
  Task<Refreshed> reauth(Caller caller, std::string refresh_token);
  Task<void> logout(Caller caller, std::string refresh_token);
  Task<TunnelConfig> initiate(Caller caller, std::string public_key, bool preshared_key = false);
  Task<Beat> heartbeat(Caller caller);
  /// The same if it can be answered from memory alone.
  std::optional<Result<Beat>> heartbeat_now(const Caller& caller);
  /// Ends the device's session; its sign-in stays. session_expired: there is none.
  Task<void> disconnect(Caller caller);
  /// The user a token belongs to.
  Task<UserId> identify(Caller caller);
  PublicKey login_key() const;

  // Operator use cases.
  /// Ends one session, whatever state it is in. not_found.
  Task<Revocation> close(Caller caller, Instance instance, CloseReason reason);
  Task<Revocation> suspend(Caller caller, UserId user);
  Task<User> reinstate(Caller caller, UserId user);
  Task<Revocation> remove_user(Caller caller, UserId user);
  /// Sessions end if the change ends access: a new password, or inactive.
  Task<Revocation> update_user(Caller caller, UserId user, UserChanges changes);
  Task<Revocation> revoke_device(Caller caller, DeviceId device);
  /// An account; its totals are those of its ended sessions and what the others have come to by now, each once.
  /// not_found.
  Task<User> account(UserId user);
  /// The same of many. invalid_argument.
  Task<std::vector<User>> accounts(UserQuery query);
  Task<std::vector<Session>> history(HistoryQuery query);
  /// Closes the circuits of a device and lets it begin on new ones; how many. not_found: it has no session;
  /// tor_unavailable; failed_precondition: this gateway runs without Tor.
  Task<int> new_identity(Caller caller, DeviceId device);
  /// Circuits of Tor, of one device or all. not_found, tor_unavailable, failed_precondition.
  Task<std::vector<Circuit>> circuits(std::optional<DeviceId> device);
  /// Admits a throw-away device to one lane for a minute: no session, no history, an owner of its own. One at a time.
  /// Errors: not_found (no such lane), conflict (one is under way), key_invalid, key_in_use, pool_exhausted, those of
  /// WireGuard.
  Task<VerificationTicket> verify_begin(Caller caller, Lane lane, std::string public_key);
  /// Takes the device away again, keeps the outcome for `verified` and `health`, and publishes `lane_verified`.
  /// Errors: not_found (no such token, or its minute is over), invalid_argument.
  Task<LaneVerified> verify_end(Caller caller, std::string token, int held, std::vector<std::string> failed);
  /// Deadlines that came for more than a tenth of the sessions at once, twenty at least, are held until a person says
  /// so (I-44): this says so, for a minute. How many sessions were held. conflict: none are.
  Task<std::size_t> confirm_ends(Caller caller);
  /// Foreign peers that `wireguard.foreign_peers=remove` would take away, more than five and a tenth of all at once,
  /// are held likewise: this lets them go, for a minute. How many were held. conflict: none are.
  Task<std::size_t> confirm_removals(Caller caller);
  /// The last outcome of each lane since the start.
  std::vector<LaneVerified> verified() const;
  /// Walks from the account to the packet: gateway, account, sign-in, session, lease, peers, handshake, policy. The
  /// subject is a device, a session or an account, which stands for the device of it that was used last. not_found.
  Task<Why> why(Caller caller, std::string subject);
  /// Tests a policy, stores it and brings it into force: rights and paces of all who are connected change in one
  /// transaction, and no connection that stays allowed is lost. Errors: invalid_argument and too_large naming the
  /// entry; failed_precondition (an expectation in it does not hold), not_found (it names somebody without an account);
  /// then nothing was changed. Those of the firewall: it is stored, and brought into force as soon as that is possible.
  Task<PolicyInForce> apply_policy(Caller caller, std::string document);
  /// What the expectations in a document come to, without applying it. invalid_argument, too_large.
  Task<std::vector<PolicyExpectation>> test_policy(std::string document);
  /// not_found: there never was one.
  Task<PolicyInForce> policy_in_force();
  /// Whether a user reaches a place over a lane now, and which rule says so. not_found: no such account or lane.
  Task<AccessVerdict> explain_access(Caller caller, std::string username, AccessTarget target, Lane lane);
  /// not_found.
  Task<UserUsage> usage(UserId user);
  /// Of a connected user under a monthly quota.
  std::optional<QuotaStanding> standing(const UserId& user) const;
  /// The lanes with their totals since the database was made.
  Task<std::vector<LaneSummary>> lanes();
  /// Keeps a peer that is on our interfaces and nobody's here, as it is now, whatever `wireguard.foreign_peers` says:
  /// its addresses are leased to nobody, and it is put back where an interface has lost it. Errors: not_found (no such
  /// foreign peer), conflict (it has an address that is leased, the gateway's own, or too much of the pool).
  Task<std::vector<AdoptedPeer>> adopt(Caller caller, PublicKey key);
  /// Takes an adopted peer from the interfaces and forgets it; its addresses rest. Errors: not_found, those of
  /// WireGuard and of the database, and it stays adopted then.
  Task<void> release(Caller caller, PublicKey key);
  /// In order of lane and key.
  std::vector<AdoptedPeer> adopted() const;
  /// A pass over links, addresses, routes, rules, sysctls, keys and peers now.
  Task<Difference> reconcile();
  /// What a pass would change now; changes nothing. Errors: those of reading.
  Task<GatewayDifference> difference();
  std::string firewall_text() const;
  /// Everything a monitor wants to know, in the text exposition format of Prometheus: docs/operations/metrics.md.
  std::string metrics() const;

  /// Waits until there are events after `after`.
  Task<EventBatch> events(std::uint64_t after);
  std::uint64_t last_event() const noexcept;

  const Config& config() const noexcept;
  /// What differs between the configuration in force and the one it came from as it is now. Errors: invalid_config,
  /// store_unavailable (it cannot be read), failed_precondition (`GatewayParts::configuration` is empty).
  Task<std::vector<ConfigChange>> config_changes();
  /// Takes over of these what is reloadable; returns what differed. Intervals change when the one that runs is over,
  /// the firewall before this returns. One that comes while another runs reads anew after it. Errors: those of
  /// `config_changes` and cancelled (the gateway stops), and then nothing is changed; those of the firewall, which then
  /// follows by itself.
  Task<std::vector<ConfigChange>> reload();
  Users& users() noexcept;
  Auth& auth() noexcept;
  Ipam& ipam() noexcept;
  SessionStore& sessions() noexcept;
  PeerProgrammer& peers() noexcept;
  KeyRotator& keys() noexcept;
  LiveStore& live() noexcept;
  WireGuard& wireguard() noexcept;
  /// Null where `tor.launch` is none.
  TorController* tor() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
