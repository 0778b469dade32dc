// Keep two WireGuard interfaces equal to a list, as `wg syncconf` would, and see what would change.
// Without arguments in memory; with the directory of UAPI sockets on real interfaces wg0 and wg1.
#include <tornado/peer_programmer.hpp>

#include "check.hpp"

using namespace tornado;

int main(int argc, char** argv) {
  Runtime runtime;
  std::unique_ptr<WireGuard> wireguard =
      std::make_unique<MemoryWireGuard>(runtime, std::vector<std::string>{"wg0", "wg1"});
  if (argc > 1) wireguard = uapi_wireguard(runtime, argv[1]);
  PeerProgrammer peers(runtime, *wireguard);
  peers.add_lane(Lane("vpn"), "wg0");
  peers.add_lane(Lane("tor"), "wg1");

  std::vector<LaneAddress> addresses = {LaneAddress(Lane("vpn"), Address::parse("10.8.0.7").value()),
                                        LaneAddress(Lane("tor"), Address::parse("10.9.0.7").value())};
  auto key = PublicKey::parse("hGL7PweY+f4sOfOCO7Qc0+/+cLtcgXNb5GoUMTXFhFQ=").value();
  WantedPeer router(Owner("router-7"), key, addresses);
  peers.want({router});

  auto plan = runtime.wait(peers.difference()).value();
  std::printf("missing %zu, foreign %zu\n", plan.missing.size(), plan.foreign.size());
  runtime.wait(peers.reconcile()).value();
  check(runtime.wait(peers.difference()).value().missing.empty(), "reconciled: nothing is missing");

  WantedPeer thief = router;
  thief.owner = Owner("mallory");
  auto stolen = runtime.wait(peers.add(thief));
  check(!stolen && stolen.error().code() == errc::key_in_use, "a key belongs to one owner");

  // The session ends: no packet passes any more, then the final counters, then the peer goes.
  runtime.wait(peers.strip(router.owner, router.key)).value();
  for (const PeerSample& sample : runtime.wait(peers.remove({router.key})).value())
    std::printf("%s: %llu bytes received\n", sample.lane.str().c_str(),
                static_cast<unsigned long long>(sample.received));
  check(runtime.wait(wireguard->get("wg0")).value().peers.empty() || argc > 1, "the peer is gone");
}
