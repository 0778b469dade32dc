// A history that cannot be written keeps nothing else from the disk.
#include "support/world.hpp"

namespace tornado::test {
namespace {

class DrainSim : public ::testing::Test {
 protected:
  DrainSim() {
    world.boot().value();
    other = open_sqlite(world.runtime, world.config.database_path());
  }
  ~DrainSim() override { (void)world.runtime.wait(other->close()); }
  Rows run(const std::string& sql) {
    Rows out;
    Database::Body body = [&](Tx& tx) -> Result<void> {
      auto done = tx.exec(sql);
      if (!done) return done.error();
      out = std::move(*done);
      return {};
    };
    world.runtime.wait(other->transact(Scope::system(), body)).value();
    return out;
  }
  World world;
  std::unique_ptr<Database> other;
};

TEST_F(DrainSim, CheckpointsGoOn) {
  for (const char* name : {"alice", "bob"}) world.add_user(name);
  world.initiate(world.login("alice").value()).value();
  const auto session = world.unclosed().at(0);
  auto bob = world.login("bob").value();
  world.initiate(bob).value();
  world.settle();
  run("ALTER TABLE vpn_session_history RENAME TO elsewhere");
  world.logout(bob).value();
  world.pass(Seconds(5));
  auto health = world.gateway->health();
  EXPECT_TRUE(
      std::any_of(health.begin(), health.end(), [](const Component& c) { return c.name == "journal" && !c.ready; }));
  ASSERT_TRUE(world.wireguard.traffic("wg0", session.key, 5000, 700, world.clock.now()));
  world.pass(Seconds(130));
  auto rows = run("SELECT bytes_rx FROM session_journal WHERE instance = '" + session.instance.str() + "'");
  ASSERT_EQ(rows.rows.size(), 1U);
  EXPECT_EQ(rows[0][0].value_or(""), "5000");
  run("ALTER TABLE elsewhere RENAME TO vpn_session_history");
  world.pass(Seconds(5));
  EXPECT_EQ(world.history().size(), 1U);
}

}  // namespace
}  // namespace tornado::test
