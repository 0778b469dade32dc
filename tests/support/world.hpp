#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "auth/sealed_login.hpp"
#include "base/notifier.hpp"
#include "crypto/seal.hpp"
#include "firewall/ruleset.hpp"
#include "support/scratch.hpp"
#include "support/steps.hpp"
#include "tornado/gateway.hpp"
#include "tornado/manual_clock.hpp"

namespace tornado::test {

class SteppedDatabase final : public Database {
 public:
  SteppedDatabase(std::unique_ptr<Database> inner, Steps& steps) : inner_(std::move(inner)), steps_(steps) {}
  Task<void> transact(Scope scope, Body& body) override { return steps_.pass(inner_->transact(scope, body)); }
  Task<void> migrate() override { return inner_->migrate(); }
  Task<bool> changed_elsewhere() override { co_return false; }
  Task<void> close() override { return inner_->close(); }

 private:
  std::unique_ptr<Database> inner_;
  Steps& steps_;
};

/// What a kernel does not take, and how often it was asked all the same.
struct Refusal {
  std::function<bool(const Ruleset&)> refuses = [](const Ruleset&) { return false; };
  int count = 0;
  int devices = 0;                               // so many changes of single devices are not taken either
  int interfaces = 0;                            // and so many of interfaces
  bool tables = false;                           // nor any table as a whole
  int looks = 0;                                 // so many looks at the table fail
  bool deaf = false;                             // nobody is told that it was changed
  int modes = 0;                                 // so many changes of a lane's mode are not taken either
  std::optional<PublicKey> peer = std::nullopt;  // nor that peer on any interface
};

class SteppedWireGuard final : public WireGuard {
 public:
  SteppedWireGuard(WireGuard& inner, Steps& steps, Refusal& refusal)
      : inner_(inner), steps_(steps), refusal_(refusal) {}
  Task<std::vector<std::string>> list() override { return inner_.list(); }
  Task<Interface> get(std::string name) override {
    steps_.note();
    return inner_.get(std::move(name));
  }
  Task<void> set(InterfaceChange change) override {
    auto refused_peer = [this](const Peer& peer) { return !peer.remove && refusal_.peer == peer.key; };
    if (std::any_of(change.peers.begin(), change.peers.end(), refused_peer)) return steps_.pass(refused());
    if (refusal_.interfaces == 0) return steps_.pass(inner_.set(std::move(change)));
    --refusal_.interfaces;
    return steps_.pass(refused());
  }
  std::size_t most_peers() const noexcept override { return inner_.most_peers(); }

 private:
  static Task<void> refused() { co_return Error(errc::backend_failed, "the kernel refuses it"); }

  WireGuard& inner_;
  Steps& steps_;
  Refusal& refusal_;
};

inline bool has_grants(const Ruleset& ruleset) {
  return std::any_of(ruleset.sets.begin(), ruleset.sets.end(),
                     [](const ElementSet& set) { return !set.grants.empty(); });
}

class SteppedFirewall final : public Firewall {
 public:
  SteppedFirewall(Runtime& runtime, Steps& steps, Refusal& refusal)
      : memory(runtime), steps_(steps), refusal_(refusal), ended_(runtime), never_(runtime) {}
  Task<void> apply(std::shared_ptr<const Ruleset> ruleset) override {
    steps_.note();
    if (refusal_.tables) co_return Error(errc::backend_failed, "the kernel refuses it");
    if (auto taken = judge(*ruleset); !taken) co_return taken;
    co_return co_await memory.apply(std::move(ruleset));
  }
  Task<void> mode(std::shared_ptr<const Ruleset> ruleset, Lane lane) override {
    if (refusal_.modes == 0) return memory.mode(std::move(ruleset), std::move(lane));
    --refusal_.modes;
    return refused();
  }
  Task<void> api(std::vector<Endpoint> endpoints) override { return memory.api(std::move(endpoints)); }
  Task<void> access(std::shared_ptr<const Ruleset> ruleset) override {
    steps_.note();
    if (auto taken = judge(*ruleset); !taken) co_return taken;
    co_return co_await in_turn(memory.access(std::move(ruleset)));
  }
  Task<void> devices(std::vector<DeviceAccess> changed, std::vector<Address> gone) override {
    if (refusal_.devices > 0) {
      --refusal_.devices;
      co_return Error(errc::backend_failed, "the kernel refuses it");
    }
    co_return co_await in_turn(memory.devices(std::move(changed), std::move(gone)));
  }
  Task<void> remove() override { return memory.remove(); }
  Task<bool> intact() override {
    steps_.note();
    if (refusal_.looks == 0) return memory.intact();
    --refusal_.looks;
    return unseen();
  }
  Task<std::uint64_t> changed(std::uint64_t since) override { return refusal_.deaf ? never() : memory.changed(since); }
  Task<std::vector<ForeignChain>> foreign_drops() override { return memory.foreign_drops(); }

  MemoryFirewall memory;

 private:
  static Task<void> refused() { co_return Error(errc::backend_failed, "the kernel refuses it"); }
  static Task<bool> unseen() { co_return Error(errc::deadline_exceeded, "the kernel does not answer"); }
  Task<std::uint64_t> never() {
    for (bool woken = true; woken;) woken = co_await never_.wait(never_.revision());
    co_return Error(errc::cancelled);
  }

  /// One transaction after the other, as they came, whenever a test lets the steps go.
  Task<void> in_turn(Task<void> step) {
    const int number = taken_++;
    while (number != done_) {
      bool woken = co_await ended_.wait(ended_.revision());
      if (!woken) co_return Error(errc::cancelled);
    }
    auto outcome = co_await steps_.pass(std::move(step));
    ++done_;
    ended_.notify();
    co_return outcome;
  }

  Result<void> judge(const Ruleset& ruleset) {
    if (!refusal_.refuses(ruleset)) return {};
    ++refusal_.count;
    return Error(errc::backend_failed, "the kernel refuses it");
  }

  Steps& steps_;
  Refusal& refusal_;
  int taken_ = 0, done_ = 0;
  Notifier ended_, never_;
};

/// What outlives a daemon: its disk, the interfaces, and time. Gateways come and go in it.
class World {
 public:
  World()
      : runtime(RuntimeOptions().clock(clock).blocking_threads(1).hashing_threads(1)),
        steps(runtime),
        wireguard(runtime, {"wg0", "wg1"}) {
    config.state_dir = scratch / "state";
    config.runtime_dir = scratch / "run";
    config.wireguard.backend = "memory";
    config.endpoint.host = "198.51.100.1";
    config.database.reserve_mib = 0;
    // Tests leap over days; rotation has tests of its own.
    config.keys.rotate_every = 100'000'000;
    // Cheap hashes: the cost of real ones is tested where passwords are.
    config.auth.hash_memory_kib = 64;
    config.auth.hash_passes = 1;
    config.auth.hash_lanes = 1;
    borrow_keys();
  }
  ~World() {
    steps.power(false);
    gateway.reset();
  }

  Result<void> boot() {
    GatewayParts parts;
    parts.database = std::make_unique<SteppedDatabase>(open_sqlite(runtime, config.database_path()), steps);
    parts.wireguard = std::make_unique<SteppedWireGuard>(wireguard, steps, refusal);
    auto memory_host = std::make_unique<MemoryHost>(runtime, std::vector<std::string>{"wg0", "wg1"});
    host = memory_host.get();
    parts.host = std::move(memory_host);
    auto stepped_firewall = std::make_unique<SteppedFirewall>(runtime, steps, refusal);
    firewall = &stepped_firewall->memory;
    parts.firewall = std::move(stepped_firewall);
    parts.configuration = [this] { return file; };
    gateway = std::make_unique<Gateway>(runtime, config, std::move(parts));
    auto started = runtime.wait(gateway->start());
    if (!started) return started;
    gateway->listening();
    if (!std::filesystem::exists(lent_keys())) std::filesystem::copy_file(keys_file(), lent_keys());
    return started;
  }

  /// kill -9: nothing it still tries reaches disk or kernel.
  void crash() {
    steps.power(false);
    gateway.reset();
    steps.disarm();
    steps.power(true);
  }

  /// Time passes, a second at a time, and whatever is due happens.
  void pass(Seconds time) {
    for (Seconds done(0); done < time; done += Seconds(1)) {
      clock.advance(Seconds(1));
      settle();
    }
  }
  void leap(Seconds time) {
    clock.advance(time);
    settle();
  }

  /// Until nothing moves any more, blocking work included.
  void settle() {
    auto nothing = []() -> Result<void> { return {}; };
    auto trip = [](Runtime& r, auto& fn) -> Task<void> { co_return co_await r.offload(Blocking::file, fn); };
    int before = -1;
    for (int quiet = 0; quiet < 3;) {
      runtime.settle();
      // One general thread: when this has come back, whatever was queued before has too.
      (void)runtime.wait(trip(runtime, nothing));
      quiet = steps.done() == before ? quiet + 1 : 0;
      before = steps.done();
    }
  }

  User add_user(const std::string& name, int max_devices = 1) {
    NewUser user(name, name + "@example.org");
    user.password = Secret("correct horse");
    user.max_devices = max_devices;
    return runtime.wait(gateway->users().create(std::move(user))).value();
  }

  Result<Login> login(const std::string& name, const std::string& password = "correct horse",
                      const std::string& from = "203.0.113.7") {
    Sealed sealed = seal_login(gateway->login_key(), name, Secret(password)).value();
    return runtime.wait(gateway->login(Caller::from(Address::parse(from).value()), std::move(sealed)));
  }

  Result<Caller> caller(const Login& login, const std::string& from = "203.0.113.7") {
    Caller out = Caller::from(Address::parse(from).value());
    auto claims = gateway->auth().check(login.tokens.access.reveal());
    if (!claims) return claims.error();
    out.claims = *claims;
    return out;
  }

  static std::string fresh_key() { return X25519Key::generate().public_key().str(); }

  Result<TunnelConfig> initiate(const Login& login, const std::string& key = fresh_key()) {
    auto who = caller(login);
    if (!who) return who.error();
    return runtime.wait(gateway->initiate(*who, key));
  }
  Result<Beat> beat(const Login& login) {
    auto who = caller(login);
    if (!who) return who.error();
    return runtime.wait(gateway->heartbeat(*who));
  }
  Result<void> logout(const Login& login) {
    return runtime.wait(gateway->logout(Caller::system(), std::string(login.tokens.refresh.reveal())));
  }
  std::vector<Session> history() { return runtime.wait(gateway->history(HistoryQuery())).value(); }
  std::vector<Peer> peers(const std::string& interface) { return runtime.wait(wireguard.get(interface)).value().peers; }
  std::vector<Session> unclosed() { return gateway->sessions().list("", 10'000).sessions; }

  /// What must hold at every moment: an address has rights only while it is leased (I-06). A look at the first few is
  /// cheap enough for every step.
  std::optional<Address> rights_without_lease() {
    if (!gateway || !gateway->ready() || !steps.power()) return std::nullopt;
    for (std::uint32_t i = 2; i < 8; ++i)
      for (std::uint32_t net : {0x0a080000U, 0x0a090000U}) {
        const Address address = Address::from_v4(net + i);
        if (firewall->access_of(address) && !gateway->ipam().find(address)) return address;
      }
    return std::nullopt;
  }

  /// What must hold whenever nothing is under way: interfaces equal sessions, no address twice, nothing pending or
  /// half closed, every end recorded once.
  void expect_sound(const std::string& where) {
    SCOPED_TRACE(where);
    std::map<PublicKey, Session> live;
    std::set<Address> used;
    for (const auto& session : unclosed()) {
      EXPECT_EQ(session.state, SessionState::active) << session.instance.str() << " " << name(session.state);
      live[session.key] = session;
      for (const auto& address : session.addresses) EXPECT_TRUE(used.insert(address.v4).second) << address.v4.str();
      EXPECT_EQ(session.addresses.size(), 2U);
    }
    expect_peers("wg0", "vpn", live);
    expect_peers("wg1", "tor", live);
    std::size_t bound = 0;
    for (const auto& lease : gateway->ipam().list()) {
      EXPECT_FALSE(lease.dirty);
      if (lease.expires == Instant()) ++bound;
    }
    EXPECT_EQ(bound, live.size()) << "leases that no session binds";
    std::set<Instance> recorded;
    for (const auto& row : history()) EXPECT_TRUE(recorded.insert(row.instance).second) << "recorded twice";
    for (const auto& [key, session] : live) EXPECT_FALSE(recorded.contains(session.instance)) << "recorded while live";
    expect_rights(used);
  }

  Scratch scratch{in_memory()};
  ManualClock clock;
  Config config;
  Result<Config> file = Config();  ///< what a reload finds
  Runtime runtime;
  Steps steps;
  Refusal refusal;
  MemoryWireGuard wireguard;
  MemoryHost* host = nullptr;
  MemoryFirewall* firewall = nullptr;
  std::unique_ptr<Gateway> gateway;

 private:
  /// RSA keys take longer to make than most tests: the first world of a process lends its own to the others.
  static std::string lent_keys() {
    static Scratch lender(in_memory());
    return lender / "signing-keys.json";
  }
  std::string keys_file() const { return config.state_dir + "/keys/signing-keys.json"; }
  void borrow_keys() {
    if (!std::filesystem::exists(lent_keys())) return;
    std::filesystem::create_directories(config.state_dir + "/keys");
    std::filesystem::copy_file(lent_keys(), keys_file());
  }

  /// Under a policy every address in use has rights, and no other one: what nobody holds is default deny.
  void expect_rights(std::set<Address> used) {
    if (!runtime.wait(gateway->policy_in_force())) return;
    for (const auto& session : unclosed())
      for (const auto& address : session.addresses) used.insert(address.v4);
    for (std::uint32_t i = 2; i < 60; ++i)
      for (std::uint32_t net : {0x0a080000U, 0x0a090000U}) {
        const Address address = Address::from_v4(net + i);
        EXPECT_EQ(firewall->access_of(address).has_value(), used.contains(address)) << address.str();
      }
  }

  void expect_peers(const std::string& interface, const std::string& lane, const std::map<PublicKey, Session>& live) {
    auto present = peers(interface);
    EXPECT_EQ(present.size(), live.size()) << "peers on " << interface;
    for (const auto& peer : present) {
      auto session = live.find(peer.key);
      ASSERT_NE(session, live.end()) << "a peer without a session on " << interface;
      ASSERT_EQ(peer.allowed.size(), 1U);
      EXPECT_EQ(peer.allowed[0].base(), session->second.on(lane)->v4);
    }
  }
};

}  // namespace tornado::test
