// A gateway inside another program: one thread for it, this thread stays ours. No tunnel, so no privilege is needed.
#include <tornado/gateway.hpp>

#include <filesystem>

#include "check.hpp"

using namespace tornado;

int main() {
  Runtime runtime;
  Config config;
  const std::string here = std::filesystem::current_path();
  config.set("state_dir", here + "/state").value();
  config.set("runtime_dir", here + "/run").value();
  config.set("wireguard.backend", "memory").value();  // "userspace" carries packets
  config.check().value();
  Gateway gateway(runtime, config);
  LoopThread thread = runtime.start();  // last: its destructor stops the loop before the rest goes

  if (auto up = runtime.wait(gateway.start()); !up) {
    std::fprintf(stderr, "gateway: %s\n", up.error().detail().c_str());
    return 1;
  }
  runtime.call([&] { gateway.listening(); });  // an ApiServer says so itself; here nothing listens
  NewUser alice("alice", "alice@example.org");
  alice.password = Secret("correct horse");
  auto user = runtime.wait(gateway.users().create(alice)).value();
  check(runtime.wait(gateway.users().find("ALICE@example.org")).value().id == user.id, "the account is there");

  auto batch = runtime.wait(gateway.events(0)).value();  // waits; oldest first; a gap shows in the sequence
  for (const auto& event : batch.events)
    std::printf("       %llu %s %s\n", static_cast<unsigned long long>(event.sequence), event.name.c_str(),
                event.json.c_str());
  check(!batch.events.empty() && batch.dropped == 0, "the start can be watched");

  // Plain methods run on the loop.
  auto page = runtime.call([&] { return gateway.sessions().list("", 100); });
  check(page.sessions.empty(), "nobody is connected");
  auto usage = runtime.call([&] { return gateway.ipam().usage(Lane("vpn")); });
  check(usage.available() > 200, "addresses are free");
  for (const auto& part : runtime.call([&] { return gateway.health(); })) check(part.ready, part.name.c_str());
  runtime.wait(gateway.stop()).value();
}
