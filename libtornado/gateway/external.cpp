// WireGuard processes that belong to a service manager (I-30): waited for and watched, never started or ended.
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

using std::chrono::milliseconds;

constexpr Seconds answers_within{10};
constexpr milliseconds first_pause{20}, longest_pause{500};
constexpr Seconds check_every{15};

}  // namespace

/// Only the start has the patience: afterwards the other lane is not to wait for this one.
Task<void> Gateway::Impl::await_wireguard(const LaneConfig& lane, std::string name) {
  const Instant limit = runtime.now() + answers_within;
  for (milliseconds pause = first_pause;; pause = std::min(pause * 2, longest_pause)) {
    auto answer = co_await probe_interface(lane.interface);
    components[name] = Component(name, answer.has_value(), answer ? "answers" : answer.error().detail());
    if (answer) co_return answer;
    if (started || runtime.now() >= limit)
      co_return Error(errc::interface_missing,
                      "no process answers; wireguard.launch is external: is the service of the interface running?");
    bool slept = co_await runtime.sleep_until(runtime.now() + pause);
    if (!slept) co_return Error(errc::cancelled);
  }
}

/// A service manager tells nobody that a process is there again: it is asked, which costs little.
boost::asio::awaitable<bool> Gateway::Impl::rest_unless_back(Instant rest, std::uint64_t up) {
  std::vector<std::string> silent;
  for (const auto& [lane, settings] : lanes) {
    if (!external()) break;
    auto answer = co_await probe_interface(settings->interface);
    if (!answer) silent.push_back(settings->interface);
  }
  for (;;) {
    const Instant next = silent.empty() ? rest : std::min(rest, runtime.now() + Seconds(1));
    bool told = co_await told_or(process_came_up, up, next);
    if (!told) co_return false;
    if (process_came_up.revision() != up || runtime.now() >= rest) co_return true;
    for (const auto& interface : silent) {
      auto answer = co_await probe_interface(interface);
      if (answer) process_came_up.notify();
    }
  }
}

/// A process that came back has lost its key and its peers. The host tells of its link at once; this is for what it
/// does not tell, a process that stands still and a key that somebody changed. Rare, because a large interface answers
/// with megabytes.
Task<void> Gateway::Impl::run_external_watch() {
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + check_every);
    if (!slept) co_return Error(errc::cancelled);
    for (const auto& [lane, settings] : lanes) {
      auto interface = co_await parts.wireguard->get(settings->interface);
      bool good = interface && interface->public_key == lane_keys[lane];
      std::string name = "wireguard-" + lane.str();
      if (good) {
        components[name] = Component(name, true, "answers");
        continue;
      }
      std::string detail = interface ? "it has lost its key" : interface.error().detail();
      components[name] = Component(name, false, detail);
      runtime.log().write(LogLevel::error, "interface_lost", {{"interface", settings->interface}, {"reason", detail}});
      reconcile_wanted.notify();
    }
  }
}

/// The link would come back with its process at once if it were removed: it is left, empty and down.
Task<void> Gateway::Impl::leave_external(const LaneConfig& lane) {
  auto down = co_await parts.host->set_link(lane.interface, false, std::nullopt);
  if (!down && down.error().code() != errc::interface_missing) co_return down;
  co_return Result<void>();
}

}  // namespace tornado::inline v1
