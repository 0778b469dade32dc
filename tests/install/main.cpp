// Uses a piece of every kind: plain classes, tasks, a seam, the facade, blocking clients, exceptions across the
// library.
#include <tornado/client.hpp>
#include <tornado/control.hpp>
#include <tornado/gateway.hpp>
#include <tornado/manual_clock.hpp>

#include <cstdio>
#include <stdexcept>

using namespace tornado;

static Task<int> count(LiveStore& live) {
  for (const char* id : {"a", "b"}) {
    SessionRecord record;
    record.session_id = id;
    record.deadline = system_clock().now() + Seconds(60);
    auto done = co_await live.put(std::move(record));
    if (!done) co_return done.error();
  }
  auto page = co_await live.list("", 10);
  if (!page) co_return page.error();
  co_return static_cast<int>(page->size());
}

static bool throws_what_it_says() {
  try {
    (void)Prefix("10.0.0.1/8");
  } catch (const std::invalid_argument&) {
    try {
      Result<int>(Error(errc::not_found, "nothing")).value();
    } catch (const Exception& e) {
      return e.error().code() == errc::not_found;
    }
  }
  return false;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  ManualClock clock;
  Ipam ipam(clock);
  ipam.add(Pool(Lane("vpn"), Prefix("10.8.0.0/24"))).value();
  bool good = ipam.lease(Owner("a"), {Lane("vpn")}, Seconds(60)).value().addresses.size() == 1;

  Runtime runtime;
  auto live = memory_live_store(runtime);
  good = good && runtime.wait(count(*live)).value() == 2 && throws_what_it_says();

  Config config;
  config.set("state_dir", std::string(argv[1]) + "/state").value();
  config.set("runtime_dir", std::string(argv[1]) + "/run").value();
  config.set("wireguard.backend", "memory").value();
  Gateway gateway(runtime, config);
  ControlServer control(runtime, gateway);
  {
    LoopThread thread = runtime.start();
    runtime.wait(gateway.start()).value();
    runtime.call([&] { return control.listen(); }).value();
    ControlClient client(std::string(argv[1]) + "/run/control.sock");
    good = good && client.call("gateway.status").value().find("state_restored") != std::string::npos;
    good = good && DeviceClient("127.0.0.1:1").pubkey().error().code() == errc::unavailable;
    runtime.call([&] { control.close(); });
    runtime.wait(gateway.stop()).value();
  }
  std::printf("%s\n", good ? "ok" : "WRONG");
  return good ? 0 : 1;
}
