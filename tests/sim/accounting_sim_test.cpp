// Random lives of devices on a whole gateway, against a model that knows every byte (I-04, I-06, I-09, D-037, D-041).
#include <random>

#include "support/world.hpp"

namespace tornado::test {
namespace {

constexpr int devices = 4;
constexpr const char* interfaces[] = {"wg0", "wg1"};

class Accounting : public ::testing::TestWithParam<unsigned> {
 protected:
  /// A device and what its sessions must come to, by instance.
  struct Owner {
    std::string name;
    std::optional<Login> login;
    std::optional<Session> session;
  };
  struct Bytes {
    std::uint64_t received = 0, sent = 0;
  };

  Accounting() : random_(GetParam()) {
    world_.config.session.quiet_after = 3600;
    world_.boot().value();
    for (int i = 0; i < devices; ++i) {
      owners_[i].name = "user-" + std::to_string(i);
      world_.add_user(owners_[i].name, 100);
      sign_in(owners_[i]);
    }
  }

  void sign_in(Owner& owner) {
    owner.login = world_.login(owner.name).value();
    owner.session.reset();
  }
  void connect(Owner& owner) { owner.session = world_.initiate(*owner.login).value().session; }

  void carry(Owner& owner) {
    if (!owner.session) return;
    const char* interface = interfaces[random_() % 2];
    std::uint64_t up = random_() % 100'000, down = random_() % 1'000'000;
    if (!world_.wireguard.traffic(interface, owner.session->key, up, down, world_.clock.now())) return;
    model_[owner.session->instance].received += up;
    model_[owner.session->instance].sent += down;
  }

  void close(Owner& owner) {
    if (!owner.session) return;
    ASSERT_TRUE(
        world_.runtime.wait(world_.gateway->close(Caller::system(), owner.session->instance, CloseReason::killed)));
    owner.session.reset();
  }

  /// Somebody else takes a peer away. What the gateway has not read by then nobody can know: it reads before.
  void take_away(Owner& owner) {
    if (!owner.session) return;
    world_.pass(Seconds(6));
    Peer gone;
    gone.key = owner.session->key;
    gone.remove = true;
    InterfaceChange change(interfaces[random_() % 2]);
    change.peers = {gone};
    ASSERT_TRUE(world_.runtime.wait(world_.wireguard.set(std::move(change))));
    ASSERT_TRUE(world_.runtime.wait(world_.gateway->reconcile()));
  }

  void remake_interface() {
    world_.pass(Seconds(6));
    const char* interface = interfaces[random_() % 2];
    world_.wireguard.drop(interface);
    world_.wireguard.create(interface);
    ASSERT_TRUE(world_.runtime.wait(world_.gateway->reconcile()));
  }

  void crash() {
    world_.crash();
    world_.boot().value();
  }

  void step() {
    Owner& owner = owners_[random_() % devices];
    switch (random_() % 12) {
      case 0:
      case 1:
        connect(owner);
        break;
      case 2:
        close(owner);
        break;
      case 3:
        take_away(owner);
        break;
      case 4:
        remake_interface();
        break;
      case 5:
        crash();
        break;
      case 6:
        world_.pass(Seconds(1 + random_() % 70));
        break;
      case 7:
        sign_in(owner);
        break;
      default:
        carry(owner);
    }
  }

  void expect_sums(const std::string& where) {
    SCOPED_TRACE(where);
    world_.pass(Seconds(12));
    world_.expect_sound(where);
    std::uint64_t recorded_received = 0, recorded_sent = 0;
    std::set<Instance> seen;
    auto check = [&](const Session& session) {
      const Bytes& bytes = model_[session.instance];
      EXPECT_EQ(session.received, bytes.received) << session.instance.str() << " " << name(session.state);
      EXPECT_EQ(session.sent, bytes.sent) << session.instance.str();
      seen.insert(session.instance);
    };
    for (const auto& session : world_.unclosed()) check(session);
    for (const auto& session : world_.history()) {
      check(session);
      recorded_received += session.received;
      recorded_sent += session.sent;
    }
    for (const auto& [instance, bytes] : model_) EXPECT_TRUE(seen.contains(instance)) << instance.str();
    std::uint64_t users_received = 0, users_sent = 0;
    for (const auto& user : world_.runtime.wait(world_.gateway->users().list(UserQuery())).value()) {
      users_received += user.total_received;
      users_sent += user.total_sent;
    }
    EXPECT_EQ(users_received, recorded_received) << "totals of users are the sums of their history";
    EXPECT_EQ(users_sent, recorded_sent);
    std::uint64_t sessions = 0;
    users_received = users_sent = 0;
    for (const auto& user : world_.runtime.wait(world_.gateway->accounts(UserQuery())).value()) {
      sessions += user.total_sessions;
      users_received += user.total_received;
      users_sent += user.total_sent;
    }
    EXPECT_EQ(sessions, world_.history().size() + world_.unclosed().size());
    Bytes all, lanes;
    for (const auto& [instance, bytes] : model_) {
      all.received += bytes.received;
      all.sent += bytes.sent;
    }
    for (const auto& lane : world_.runtime.wait(world_.gateway->lanes()).value()) {
      lanes.received += lane.received;
      lanes.sent += lane.sent;
    }
    EXPECT_EQ(users_received, all.received) << "with the sessions that go on";
    EXPECT_EQ(users_sent, all.sent);
    EXPECT_EQ(lanes.received, all.received);
    EXPECT_EQ(lanes.sent, all.sent);
  }

  World world_;
  std::mt19937 random_;
  Owner owners_[devices];
  std::map<Instance, Bytes> model_;
};

}  // namespace

TEST_P(Accounting, InterfacesEqualSessionsAndSumsEqualTheModel) {
  for (int i = 0; i < 60; ++i) {
    ASSERT_NO_FATAL_FAILURE(step());
    if (i % 20 != 19) continue;
    ASSERT_NO_FATAL_FAILURE(expect_sums("after " + std::to_string(i + 1) + " steps"));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Accounting, ::testing::Range(0u, 12u));

}  // namespace tornado::test
