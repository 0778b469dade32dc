// What a gateway does by time: deadlines, counters, reconciling, history.
#include <time.h>

#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_closing_at_once = 64;
constexpr std::chrono::milliseconds longest_closing_rest{500};
constexpr int history_batch = 500;

/// Counts on while the host sleeps, and does not follow the wall clock.
std::chrono::milliseconds time_with_sleep() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return Seconds(now.tv_sec) + std::chrono::milliseconds(now.tv_nsec / 1'000'000);
}

}  // namespace

void Gateway::Impl::start_upkeep() {
  awake_at = time_with_sleep();
  wall_at = runtime.now();
  background.add("keys", keys.run());
  background.add("ticks", run_ticks());
  background.add("sampling", run_sampling());
  background.add("reconciling", run_reconciling());
  background.add("reconcile_timer", run_reconcile_timer());
  background.add("closing", run_closing());
  background.add("child_watch", run_child_watch());
  background.add("host_watch", run_host_watch());
  background.add("firewall_watch", run_firewall_watch());
}

Task<void> Gateway::Impl::run_ticks() {
  Instant checkpoint_at = runtime.now() + Seconds(config.session.checkpoint_interval);
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(1));
    if (!slept) co_return Error(errc::cancelled);
    if (watch_clock()) checkpoint_at = runtime.now();
    auto ticked = co_await tick();
    if (ticked && runtime.now() >= checkpoint_at) {
      ticked = co_await sessions.checkpoint();
      if (ticked) checkpoint_at = runtime.now() + Seconds(config.session.checkpoint_interval);
    }
    components["journal"] = Component("journal", ticked.has_value(), ticked ? "written" : ticked.error().detail());
  }
}

Task<void> Gateway::Impl::tick() {
  for (const auto& session : sessions.fade()) events.session("session_offline", session);
  // One at a time per device; the gate reads the state again.
  for (const auto& [session, reason] : sessions.due()) {
    co_await background.settled(most_closing_at_once);
    if (!gates.busy(session.device)) background.add("close_due", close_due(session.instance, reason));
  }
  for (const auto& lease : ipam.lapse())
    runtime.log().write(LogLevel::info, "lease_lapsed", {{"owner", lease.owner.str()}});
  watch_pools();
  watch_verification();
  auth.trim();
  co_return co_await drain_history();
}

/// After a sleep of the host or a step of the clock every grace starts anew (I-44), and nothing is due for the step.
/// True: the clock was set.
bool Gateway::Impl::watch_clock() {
  if (&runtime.clock() != &system_clock()) return false;
  auto passed = time_with_sleep() - awake_at;
  auto drift = (runtime.now() - wall_at) - passed;
  bool slept = passed > Seconds(60), stepped = std::chrono::abs(drift) > Seconds(60);
  if (stepped) {
    ClockStep step(drift, runtime.now() - passed - Seconds(1), runtime.now());
    sessions.clock_stepped(step);
    ipam.clock_stepped(step);
    reconcile_wanted.notify();
  }
  if (slept) sessions.restart_graces();
  if (slept || stepped)
    runtime.log().write(LogLevel::warning, "clock_stepped", {{"milliseconds", std::to_string(drift.count())}});
  awake_at = time_with_sleep();
  wall_at = runtime.now();
  return stepped;
}

void Gateway::Impl::watch_pools() {
  for (const auto& lane : lane_names) {
    auto usage = ipam.usage(lane);
    bool full =
        (usage.leased + usage.resting) * 100 >= usage.size * static_cast<std::uint64_t>(config.ipam.warn_percent);
    bool& was = nearly_full[lane];
    if (full && !was) {
      events.publish("pool_nearly_exhausted",
                     "{\"lane\":\"" + lane.str() + "\",\"available\":" + std::to_string(usage.available()) + "}");
      runtime.log().write(LogLevel::warning, "pool_nearly_exhausted",
                          {{"lane", lane.str()}, {"available", std::to_string(usage.available())}});
    }
    was = full;
  }
}

/// A deadline that came, read again inside the gate: a beat may have moved it.
Task<void> Gateway::Impl::close_due(Instance instance, CloseReason reason) {
  auto session = sessions.find(instance);
  if (!session) co_return Result<void>();
  TRY(auto pass, co_await gates.enter(session->device));
  if (reason == CloseReason::idle || reason == CloseReason::expired) {
    auto due = sessions.due();
    bool still =
        std::any_of(due.begin(), due.end(), [&](const auto& entry) { return entry.first.instance == instance; });
    if (!still) co_return Result<void>();
  }
  auto done = co_await finish(std::move(instance), reason);
  if (!done) closing.notify();
  if (!done && done.error().code() != errc::not_found) co_return done.error();
  co_return Result<void>();
}

Task<void> Gateway::Impl::finish_closing(Instance instance) {
  auto session = sessions.find(instance);
  if (!session || session->state != SessionState::closing) co_return Result<void>();
  TRY(auto pass, co_await gates.enter(session->device));
  auto done = co_await finish(std::move(instance), session->reason.value_or(CloseReason::failed));
  if (!done && done.error().code() != errc::not_found) co_return done.error();
  co_return Result<void>();
}

/// Finishes what was cut, and what an earlier failure or crash left behind, with backoff. Each pass reads the
/// interfaces once, so under load the next one waits until more has come together.
Task<void> Gateway::Impl::run_closing() {
  Seconds backoff(1);
  for (;;) {
    std::uint64_t seen = closing.revision();
    Instant began = runtime.now();
    TaskGroup finishing(runtime);
    for (const auto& session : sessions.closing()) {
      if (leaving.contains(session.instance)) continue;
      co_await finishing.settled(most_closing_at_once * 4);
      finishing.add("finish_closing", finish_closing(session.instance));
    }
    co_await finishing.settled(1);
    if (finishing.size() > 0) {
      co_await finishing.stop_all();
      co_return Error(errc::cancelled);
    }
    Instant rest = runtime.now() + std::min((runtime.now() - began) * 3, longest_closing_rest);
    bool slept = co_await runtime.sleep_until(rest);
    if (!slept) co_return Error(errc::cancelled);
    bool left = !sessions.closing().empty();
    backoff = left ? std::min(backoff * 2, Seconds(30)) : Seconds(1);
    if (left && closing.revision() == seen) {
      bool woke = co_await runtime.sleep_until(runtime.now() + backoff);
      if (!woke) co_return Error(errc::cancelled);
    } else {
      bool told = co_await closing.wait(seen);
      if (!told) co_return Error(errc::cancelled);
    }
  }
}

Task<void> Gateway::Impl::drain_history() {
  for (;;) {
    TRY(auto ended, co_await sessions.undrained(history_batch));
    if (ended.empty()) co_return Result<void>();
    Database::Body body = [&](Tx& tx) -> Result<void> {
      for (const auto& session : ended) TRY_VOID_PLAIN(history_repo::insert(tx, session, runtime.now()));
      return {};
    };
    TRY_VOID(co_await parts.database->transact(Scope::system(), body));
    std::vector<Instance> taken;
    for (const auto& session : ended) taken.push_back(session.instance);
    TRY_VOID(co_await sessions.drained(std::move(taken)));
    if (ended.size() < static_cast<std::size_t>(history_batch)) co_return Result<void>();
  }
}

Task<void> Gateway::Impl::run_sampling() {
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(config.session.sample_interval));
    if (!slept) co_return Error(errc::cancelled);
    auto sampled = co_await sample();
    components["wireguard"] =
        Component("wireguard", sampled.has_value(), sampled ? "answers" : sampled.error().detail());
    if (!sampled) reconcile_wanted.notify();
  }
}

Task<void> Gateway::Impl::sample() {
  if (sessions.size() == 0) co_return Result<void>();
  TRY(auto samples, co_await peers.sample());
  for (const auto& sample : samples) {
    auto session = sessions.find(sample.key);
    if (!session) continue;
    Observation seen(sample.lane);
    seen.received = sample.received;
    seen.sent = sample.sent;
    seen.handshake = sample.handshake;
    if (sample.endpoint) seen.source = sample.endpoint->address;
    bool was_offline = session->presence == Presence::offline;
    auto observed = sessions.observe(session->instance, seen);
    if (observed && was_offline && observed->presence == Presence::online)
      events.session("heartbeat_update", *observed, true);
  }
  co_return Result<void>();
}

Task<Difference> Gateway::Impl::reconcile() {
  TRY(auto difference, co_await peers.reconcile());
  for (const auto& peer : difference.missing) {
    auto session = sessions.find(DeviceId(peer.owner.str()));
    if (!session) continue;
    for (const auto& lane : lane_names) sessions.counters_restarted(session->instance, lane);
  }
  if (!difference.foreign.empty()) {
    events.publish("foreign_peers", "{\"count\":" + std::to_string(difference.foreign.size()) + "}");
    runtime.log().write(LogLevel::warning, "foreign_peers", {{"count", std::to_string(difference.foreign.size())}});
  }
  co_return difference;
}

/// Links, identities and addresses first, then peers.
Task<Difference> Gateway::Impl::mend() {
  TRY_VOID(co_await bring_links_up());
  co_return co_await reconcile();
}

Task<void> Gateway::Impl::run_reconciling() {
  Seconds backoff(1);
  std::uint64_t seen = reconcile_wanted.revision();
  for (;;) {
    reconcile_due = runtime.now() + Seconds(config.session.reconcile_interval);
    bool told = co_await reconcile_wanted.wait(seen);
    if (!told) co_return Error(errc::cancelled);
    // Whoever asks from here on may mean something that this pass has already looked at.
    seen = reconcile_wanted.revision();
    (void)co_await check_foreign_chains();
    auto done = co_await mend();
    components["peers"] = Component("peers", done.has_value(), done ? "as wanted" : done.error().detail());
    if (!done) {
      runtime.log().write(LogLevel::error, "reconcile_failed", {{"detail", done.error().detail()}});
      reconcile_wanted.notify();
    }
    // A pass follows another after at least a second, and after the backoff if it failed.
    bool slept = co_await runtime.sleep_until(runtime.now() + backoff);
    if (!slept) co_return Error(errc::cancelled);
    backoff = done ? Seconds(1) : std::min(backoff * 2, Seconds(30));
  }
}

/// Asks for a pass when none was asked for in `session.reconcile_interval`.
Task<void> Gateway::Impl::run_reconcile_timer() {
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(1));
    if (!slept) co_return Error(errc::cancelled);
    if (runtime.now() >= reconcile_due) reconcile_wanted.notify();
  }
}

/// A WireGuard process that came back has lost its key and its peers.
Task<void> Gateway::Impl::run_child_watch() {
  std::uint64_t seen = 0;
  for (;;) {
    auto changed = co_await supervisor.changed(seen);
    if (!changed) co_return changed.error();
    if (seen != 0) reconcile_wanted.notify();
    seen = *changed;
  }
}

/// Links and addresses changed: the lanes may have lost theirs, and the API may be known by others.
Task<void> Gateway::Impl::run_host_watch() {
  std::uint64_t seen = 0;
  for (;;) {
    auto changed = co_await parts.host->changed(seen);
    if (!changed) co_return changed.error();
    bool first = seen == 0;
    seen = *changed;
    auto endpoints = co_await api_endpoints();
    if (endpoints && *endpoints != api) {
      auto updated = co_await parts.firewall->api(*endpoints);
      if (updated) api = *endpoints;
    }
    if (!first) reconcile_wanted.notify();
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(1));
    if (!slept) co_return Error(errc::cancelled);
  }
}

/// Somebody else changed the ruleset: ours is put back, and it is told.
Task<void> Gateway::Impl::run_firewall_watch() {
  std::uint64_t seen = 0;
  for (;;) {
    auto changed = co_await parts.firewall->changed(seen);
    if (!changed) co_return changed.error();
    seen = *changed;
    auto intact = co_await parts.firewall->intact();
    if (intact && !*intact) {
      events.publish("firewall_changed_elsewhere", "{}");
      runtime.log().write(LogLevel::error, "firewall_changed_elsewhere", {});
      components["firewall"] = Component("firewall", false, "somebody else changed it; it is being put back");
      auto restored = co_await apply_firewall();
      components["firewall"] =
          Component("firewall", restored.has_value(), restored ? "restored" : restored.error().detail());
    }
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(1));
    if (!slept) co_return Error(errc::cancelled);
  }
}

}  // namespace tornado::inline v1
