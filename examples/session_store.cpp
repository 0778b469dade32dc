// Presence and history for a VPN whose data plane is somebody else's.
#include <tornado/manual_clock.hpp>
#include <tornado/session_store.hpp>

#include "check.hpp"

using namespace tornado;
using namespace std::chrono_literals;

int main() {
  ManualClock clock;
  Runtime runtime(RuntimeOptions().clock(clock));
  SessionOptions options("journal.db");
  options.idle_ttl = 10min;
  SessionStore sessions(runtime, options);
  runtime.wait(sessions.restore(15min)).value();

  std::vector<LaneAddress> addresses = {LaneAddress(Lane("vpn"), Address::parse("10.8.0.7").value())};
  auto key = PublicKey::parse("hGL7PweY+f4sOfOCO7Qc0+/+cLtcgXNb5GoUMTXFhFQ=").value();
  NewSession wanted(UserId("alice"), DeviceId("laptop"), addresses, key);
  auto session = runtime.wait(sessions.open(wanted)).value();  // durable as pending
  session = runtime.wait(sessions.activate(session.instance)).value();

  clock.advance(60s);
  sessions.beat(session.device, Address::parse("198.51.100.7").value()).value();
  check(sessions.online() == 1 && sessions.due().empty(), "a beat keeps it online");
  clock.advance(2min);
  check(sessions.fade().size() == 1, "silent for two minutes: offline");
  check(sessions.beat(session.device, std::nullopt).value().recovered, "and back with the next beat");

  clock.advance(11min);
  for (const auto& [silent, reason] : sessions.due()) {  // the caller decides what an end means
    auto ended = runtime.wait(sessions.end(silent.instance, reason)).value();
    auto repeated = runtime.wait(sessions.end(silent.instance, CloseReason::killed)).value();
    check(repeated.reason == CloseReason::idle && repeated.reason == ended.reason, "the first reason wins");
    runtime.wait(sessions.record(silent.instance)).value();
  }
  check(sessions.list("", 100).sessions.empty(), "nothing is left open");
  auto history = runtime.wait(sessions.undrained(10)).value();
  check(history.size() == 1 && history[0].id() == "alice-laptop", "the end is recorded once");
}
