// Run a tor of one's own: off the network, seen from outside, taken over by the next controller, and ended.
#include <tornado/tor_controller.hpp>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "check.hpp"

using namespace tornado;

TorStatus wait_for(Runtime& runtime, TorController& tor, TorPhase phase) {
  TorStatus now = tor.status();
  Instant end = runtime.now() + Seconds(20);
  while (now.phase != phase && !now.error && runtime.now() < end)
    now = runtime.wait(tor.changed(now.revision, Seconds(1))).value();
  if (now.error) std::printf("%s: %s\n%s\n", name(*now.error).data(), now.reason.c_str(), now.remedy.c_str());
  return now;
}

int main() {
  char place[] = "/tmp/tornado-tor.XXXXXX";  // a socket's path is short
  std::string directory = ::mkdtemp(place);
  Runtime runtime;
  TorOptions options;
  options.directory = directory + "/tor";
  options.children = directory + "/children";
  options.extra = {"MaxCircuitDirtiness 5 minutes"};
  int pid = 0;
  {
    TorController tor(runtime, options);
    Background running = runtime.spawn(tor.run(TorWish::maintenance));
    auto status = wait_for(runtime, tor, TorPhase::maintenance);
    check(status.phase == TorPhase::maintenance, "tor runs and keeps off the network");
    check(runtime.wait(tor.circuits()).value().empty(), "so there are no circuits");
    pid = status.pid;
  }
  TorController next(runtime, options);
  Background running = runtime.spawn(next.run(TorWish::maintenance));
  auto status = wait_for(runtime, next, TorPhase::maintenance);
  check(status.pid == pid && status.adopted, "the next controller takes it over");
  runtime.wait(next.wish(TorWish::stopped)).value();
  check(wait_for(runtime, next, TorPhase::stopped).pid == 0, "stopped");

  options.extra = {"SocksPort 9050"};
  auto refused = torrc(options);
  check(!refused && refused.error().code() == errc::invalid_config, "an option that opens a port is refused");
  std::printf("%s\n", refused.error().detail().c_str());
  running.stop();
  std::filesystem::remove_all(directory);
}
