// Follow the event stream of a gateway: watch_events /run/tornado/control.sock [number of events]
// Without a socket it starts a gateway of its own in this process and watches an account being suspended.
#include <tornado/control.hpp>
#include <tornado/gateway.hpp>

#include <filesystem>

#include "check.hpp"

using namespace tornado;

int watch(const std::string& socket, int count) {
  ControlClient client(socket);
  if (auto begun = client.subscribe(0); !begun) {
    std::fprintf(stderr, "%s\n", begun.error().detail().c_str());
    return 0;
  }
  int seen = 0;
  while (count == 0 || seen < count) {
    auto event = client.next_event(5);
    if (!event && event.error().code() == errc::deadline_exceeded && count == 0) continue;
    if (!event) break;
    std::printf("%s %6llu %-20s %s\n", iso8601(event->time).c_str(), static_cast<unsigned long long>(event->sequence),
                event->name.c_str(), event->json.c_str());
    ++seen;
  }
  return seen;
}

int main(int argc, char** argv) {
  if (argc > 1) return watch(argv[1], argc > 2 ? std::atoi(argv[2]) : 0) > 0 ? 0 : 1;
  Runtime runtime;
  Config config;
  const std::string here = std::filesystem::current_path();
  config.set("state_dir", here + "/state").value();
  config.set("runtime_dir", here + "/run").value();
  config.set("wireguard.backend", "memory").value();
  Gateway gateway(runtime, config);
  ControlServer control(runtime, gateway);
  LoopThread thread = runtime.start();
  runtime.wait(gateway.start()).value();
  runtime.call([&] { return control.listen(); }).value();

  auto last = runtime.call([&] { return gateway.last_event(); });
  check(last > 0, "the start is among the events");
  check(watch(here + "/run/control.sock", static_cast<int>(last)) == static_cast<int>(last), "all of them are read");
  runtime.call([&] { control.close(); });
  runtime.wait(gateway.stop()).value();
}
