// Hand out addresses from two pools; no runtime, no thread, no store. Time is ours.
#include <tornado/ipam.hpp>
#include <tornado/manual_clock.hpp>

#include "check.hpp"

using namespace tornado;
using namespace std::chrono_literals;

int main() {
  ManualClock clock;
  Lane vpn("vpn"), tor("tor");
  Ipam ipam(clock);
  ipam.add(Pool(vpn, Prefix("10.8.0.0/30"))).value();
  ipam.add(Pool(tor, Prefix("10.9.0.0/24"))).value();

  auto first = ipam.lease(Owner("alice/laptop"), {vpn, tor}, 10min).value();
  for (const auto& address : first.addresses)
    std::printf("       %s %s\n", address.lane.str().c_str(), address.v4.str().c_str());
  auto again = ipam.lease(Owner("alice/laptop"), {vpn, tor}, 10min).value();
  check(again.id == first.id, "the same owner has the same lease");

  auto full = ipam.lease(Owner("bob/phone"), {vpn, tor}, 10min);
  check(!full && full.error().code() == errc::pool_exhausted, "the small pool is full");
  check(ipam.usage(tor).leased == 1, "the failure left the other pool alone");

  clock.advance(11min);
  auto lapsed = ipam.lapse();
  check(lapsed.size() == 1 && lapsed[0].owner == Owner("alice/laptop"), "the lease has lapsed");
  check(!ipam.lease(Owner("bob/phone"), {vpn, tor}, 10min), "a freed address rests first");
  clock.advance(15min);
  auto bob = ipam.lease(Owner("bob/phone"), {vpn, tor}, 10min).value();
  check(bob.on(vpn)->v4 == first.on(vpn)->v4, "after the quarantine bob has it");
  check(!ipam.release(first.id), "a stale lease frees nothing");
  check(ipam.find(bob.on(tor)->v4)->owner == bob.owner, "an address leads to its owner");
}
