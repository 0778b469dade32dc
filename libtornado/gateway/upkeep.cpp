// What a gateway does by time: deadlines, counters, reconciling, history.
#include <time.h>

#include "base/cancellation.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "limits/usage_repo.hpp"
#include "session/history_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::size_t most_closing_at_once = 64;
constexpr std::chrono::milliseconds longest_closing_rest{500};
constexpr int history_batch = 500;
constexpr std::size_t most_ends_unasked = 20;
/// Between two passes, and between two looks at what the host has told.
constexpr std::chrono::milliseconds least_rest{200}, longest_rest{600};
/// Between two looks at the ruleset, and after a failed one.
constexpr Seconds least_unlooked{1}, longest_unlooked{30};
/// A revision that no Notifier reaches.
constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();

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
  background.add("loop_watch", run_loop_watch());
  background.add("sampling", run_sampling());
  background.add("limits", run_limits());
  background.add("reconciling", run_reconciling());
  background.add("reconcile_timer", run_reconcile_timer());
  background.add("closing", run_closing());
  background.add("child_watch", run_child_watch());
  background.add("host_watch", run_host_watch());
  background.add("api_watch", run_api_watch());
  if (endpoint_is_name()) background.add("endpoint_watch", run_endpoint_watch());
  background.add("firewall_watch", run_firewall_watch());
}

Task<void> Gateway::Impl::run_ticks() {
  Instant checkpoint_at = runtime.now() + Seconds(config.session.checkpoint_interval);
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(1));
    if (!slept) co_return Error(errc::cancelled);
    if (watch_clock()) checkpoint_at = runtime.now();
    auto ticked = co_await tick();
    if (runtime.now() >= checkpoint_at) {
      auto written = co_await sessions.checkpoint();
      if (ticked) ticked = written;
      if (written) checkpoint_at = runtime.now() + Seconds(config.session.checkpoint_interval);
    }
    components["journal"] = Component("journal", ticked.has_value(), ticked ? "written" : ticked.error().detail());
  }
}

Task<void> Gateway::Impl::tick() {
  (void)sessions.fade();
  if (!hold_ends() && !ending_due) {
    ending_due = true;
    background.add("end_due", end_due());
  }
  look_at_doubts();
  for (const auto& lease : ipam.lapse())
    runtime.log().write(LogLevel::info, "lease_lapsed", {{"owner", lease.owner.str()}});
  watch_pools();
  watch_verification();
  auth.trim();
  co_return co_await drain_history();
}

/// Beside the ticks: many take a while.
Task<void> Gateway::Impl::end_due() {
  // One at a time per device; the gate reads the state again.
  const auto due = sessions.due();
  for (const auto& [session, reason] : due) {
    co_await background.settled(most_closing_at_once);
    // What is begun after the group was told to stop is told nothing.
    bool cancelled = co_await is_cancelled();
    if (cancelled) co_return Error(errc::cancelled);
    if (!gates.busy(session.device)) background.add("close_due", close_due(session.instance, reason));
  }
  ending_due = false;
  co_return Result<void>();
}

bool Gateway::Impl::hold_ends() {
  const std::size_t due = sessions.overdue_count(), all = sessions.size();
  const bool confirmed = runtime.now() < ends_confirmed_until;
  // Once held, they stay so until somebody has said so or none is left.
  bool many = !confirmed && (ends_held ? due > 0 : due >= most_ends_unasked && due * 10 > all);
  if (many || ends_held) {
    const std::string count = std::to_string(due) + " of " + std::to_string(all);
    Component component(
        "ends", !many,
        many ? count + " sessions are to end at once: look, then tornadoctl session confirm-ends" : "none are held");
    component.advisory = true;
    components["ends"] = std::move(component);
    if (many && !ends_held) {
      events.publish("ends_held", "{\"due\":" + std::to_string(due) + ",\"sessions\":" + std::to_string(all) + "}");
      runtime.log().write(LogLevel::error, "ends_held",
                          {{"due", std::to_string(due)}, {"sessions", std::to_string(all)}});
    }
  }
  ends_held = many;
  return many;
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
  if (!sessions.is_due(instance)) co_return Result<void>();
  auto done = co_await finish(std::move(instance), reason);
  if (!done) closing.notify();
  if (!done && done.error().code() != errc::not_found) co_return done.error();
  co_return Result<void>();
}

Task<void> Gateway::Impl::finish_closing(Instance instance) {
  auto session = sessions.find(instance);
  if (!session || session->state != SessionState::closing) co_return Result<void>();
  TRY(auto pass, co_await gates.enter(session->device));
  // An initiate that could not replace it may have brought it back meanwhile (I-04).
  session = sessions.find(instance);
  if (!session || session->state != SessionState::closing) co_return Result<void>();
  TRY(bool goes_on, co_await take_back_successor(instance));
  if (goes_on) co_return Result<void>();
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
      bool cancelled = co_await is_cancelled();
      if (cancelled) break;
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
    const auto still = sessions.closing();
    // Of those that leave by themselves it is told.
    const bool failed = std::any_of(still.begin(), still.end(),
                                    [this](const Session& session) { return !leaving.contains(session.instance); });
    const bool more = closing.revision() != seen;
    if (!failed) backoff = Seconds(1);
    if (failed && !more) backoff = std::min(backoff * 2, Seconds(30));
    std::optional<Instant> again;
    if (failed) again = runtime.now() + backoff;
    bool due = co_await told_or(closing, seen, again);
    if (!due) co_return Error(errc::cancelled);
  }
}

Task<void> Gateway::Impl::drain_history() {
  for (;;) {
    // Whose record is in doubt is held until it has been repeated, and is counted as such.
    const int held = static_cast<int>(sessions.closing_count());
    TRY(auto ended, co_await sessions.undrained(history_batch + held));
    std::erase_if(ended, [this](const Session& session) { return sessions.find(session.instance).has_value(); });
    if (ended.empty()) co_return Result<void>();
    const bool more = ended.size() >= static_cast<std::size_t>(history_batch);
    ended.erase(ended.begin() + std::min<std::ptrdiff_t>(history_batch, std::ssize(ended)), ended.end());
    const bool keeps_address = config.session.address_privacy == "full";
    Database::Body body = [&](Tx& tx) -> Result<void> {
      for (const auto& session : ended) {
        TRY_VOID_PLAIN(history_repo::insert(tx, session, runtime.now(), keeps_address));
        usage_repo::SessionUsage total(session.instance, session.user, session.received + session.sent);
        TRY_VOID_PLAIN(usage_repo::close(tx, Month::of(session.ended), total));
      }
      return {};
    };
    ++draining;
    auto written = co_await parts.database->transact(Scope::system(), body);
    --draining;
    if (!written) co_return written;
    std::vector<Instance> taken;
    for (const auto& session : ended) {
      undrained.erase(session.instance);
      taken.push_back(session.instance);
    }
    ++drains;
    TRY_VOID(co_await sessions.drained(std::move(taken)));
    if (!more) co_return Result<void>();
  }
}

Task<Difference> Gateway::Impl::reconcile() {
  Stopwatch watch;
  auto reconciled = co_await peers.reconcile();
  // Also of the lanes that could be read where others could not.
  auto task = withhold_foreign();
  co_await std::move(task);
  say_removals();
  if (!reconciled) co_return reconciled.error();
  Difference difference = std::move(*reconciled);
  if (config.wireguard.foreign_peers == "adopt") TRY_VOID(co_await adopt_foreign(difference));
  auto& metrics = runtime.metrics();
  metrics.histogram("tornado_reconcile_seconds", "Time of a pass over all peers.").observe(watch.seconds());
  for (auto [what, count] :
       {std::pair("missing", difference.missing.size()), std::pair("surplus", difference.surplus.size()),
        std::pair("foreign", difference.foreign.size()), std::pair("parked", difference.parked.size())})
    metrics.counter("tornado_reconcile_differences_total", "Peers that a pass found different.", {{"what", what}})
        .add(count);
  if (!difference.foreign.empty()) {
    events.publish("foreign_peers", "{\"count\":" + std::to_string(difference.foreign.size()) + "}");
    runtime.log().write(LogLevel::warning, "foreign_peers", {{"count", std::to_string(difference.foreign.size())}});
  }
  co_return difference;
}

Task<GatewayDifference> Gateway::Impl::difference() {
  GatewayDifference out;
  TRY(out.peers, co_await peers.difference());
  HostWish wanted = wanted_barriers();
  for (const auto& [lane, settings] : lanes) {
    HostWish link = wanted_link(*settings, config.pool(lane.str()));
    wanted.links.insert(wanted.links.end(), link.links.begin(), link.links.end());
    wanted.addresses.insert(wanted.addresses.end(), link.addresses.begin(), link.addresses.end());
  }
  wanted.sysctls = wanted_forwarding().sysctls;
  TRY(out.host, co_await lacking_in_words(*parts.host, wanted));
  for (const auto& [lane, settings] : lanes) TRY_VOID(co_await identity_difference(lane, *settings, out.host));
  TRY(bool intact, co_await parts.firewall->intact());
  if (!intact) out.host.emplace_back("the ruleset is not ours any more");
  co_return out;
}

Task<void> Gateway::Impl::identity_difference(const Lane& lane, const LaneConfig& settings,
                                              std::vector<std::string>& out) {
  auto interface = co_await parts.wireguard->get(settings.interface);
  // That it is not there is told with the peers.
  if (!interface && interface.error().code() == errc::interface_missing) co_return Result<void>();
  if (!interface) co_return interface.error();
  auto own = lane_keys.find(lane);
  if (own != lane_keys.end() && interface->public_key != own->second)
    out.push_back(settings.interface + " has another private key");
  if (interface->listen_port != settings.listen_port)
    out.push_back(settings.interface + " listens on port " + std::to_string(interface->listen_port) + ", not " +
                  std::to_string(settings.listen_port));
  co_return Result<void>();
}

/// Links, identities and addresses first, then peers; those of a lane whose link fails keep no others waiting.
Task<Difference> Gateway::Impl::mend() {
  Result<void> firewall;
  if (firewall_behind) firewall = co_await apply_firewall();
  if (!firewall) {
    // A policy that the kernel does not take keeps no peer waiting; a table that is not there does.
    auto stands = co_await parts.firewall->intact();
    if (!stands || !*stands) co_return firewall.error();
  }
  auto raised = co_await bring_links_up();
  if (!raised && raised.error().code() == errc::cancelled) co_return raised.error();
  auto undone = co_await undo_all_preshared();
  auto difference = co_await reconcile();
  TRY_VOID(raised);
  if (!difference) co_return difference.error();
  TRY_VOID(undone);
  TRY_VOID(firewall);
  co_return difference;
}

Task<void> Gateway::Impl::run_reconcile_timer() {
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(config.session.reconcile_interval));
    if (!slept) co_return Error(errc::cancelled);
    reconcile_wanted.notify();
    api_wanted.notify();
    lookup_wanted.notify();
  }
}

/// Until something is told after that revision, or until then. False: cancelled.
boost::asio::awaitable<bool> Gateway::Impl::told_or(Notifier& what, std::uint64_t seen, std::optional<Instant> then) {
  auto told = what.wait(seen);
  if (!then) co_return co_await std::move(told);
  auto slept = runtime.sleep_until(*then);
  auto first = co_await first_of(std::move(told), std::move(slept));
  if (!first) co_return false;
  co_return first->index() == 0 ? std::get<0>(*first) : std::get<1>(*first);
}

void Gateway::Impl::say_peers(const Result<Difference>& done) {
  Component component("peers", done.has_value(), done ? "as wanted" : done.error().detail());
  if (done && !done->refused.empty()) {
    // Everybody else is served.
    component.advisory = true;
    component.ready = false;
    component.detail = std::to_string(done->refused.size()) +
                       " wanted peers are refused by an interface and not there, " +
                       std::to_string(done->parked.size()) +
                       " of them parked for an hour: tornadoctl gateway reconcile tries them at once";
  }
  components["peers"] = std::move(component);
}

void Gateway::Impl::say_removals() {
  const std::size_t held = peers.held_removals();
  if (held == 0 && !removals_told) return;
  Component component("foreign_removals", held == 0,
                      held == 0
                          ? "none are held"
                          : std::to_string(held) + " foreign peers are to be removed at once: look at tornadoctl " +
                                "peer list, then tornadoctl gateway confirm-removals");
  component.advisory = true;
  components["foreign_removals"] = std::move(component);
  if (held > 0 && !removals_told) {
    events.publish("removals_held", "{\"count\":" + std::to_string(held) + "}");
    runtime.log().write(LogLevel::error, "removals_held", {{"count", std::to_string(held)}});
  }
  removals_told = held > 0;
}

/// A pass as soon as anybody asks for one. What is told while one runs asks for another; one that failed is repeated
/// with backoff, whatever is told, but at once when a process has come up that it may have failed for.
Task<void> Gateway::Impl::run_reconciling() {
  Seconds backoff(1);
  std::uint64_t seen = reconcile_wanted.revision();
  for (;;) {
    auto again = peers.refused_until();
    if (again) again = std::max(*again, runtime.now() + Seconds(1));
    bool due = co_await told_or(reconcile_wanted, seen, again);
    if (!due) co_return Error(errc::cancelled);
    seen = reconcile_wanted.revision();
    const std::uint64_t up = process_came_up.revision();
    Stopwatch watch;
    (void)co_await check_foreign_chains();
    auto done = co_await mend();
    runtime.metrics()
        .counter("tornado_reconcile_passes_total", "Passes over links and peers.",
                 {{"outcome", done ? "good" : "failed"}})
        .add();
    say_peers(done);
    // A storm of changes costs a quarter of a core, and nobody waits for long.
    const std::chrono::milliseconds thrice(static_cast<std::int64_t>(watch.seconds() * 3000));
    Instant rest = runtime.now() + std::clamp(thrice, least_rest, longest_rest);
    if (done) backoff = Seconds(1);
    if (!done) {
      runtime.log().write(LogLevel::error, "reconcile_failed", {{"detail", done.error().detail()}});
      reconcile_wanted.notify();
      rest = runtime.now() + backoff;
      backoff = std::min(backoff * 2, Seconds(30));
    }
    bool rested = false;
    if (done)
      rested = co_await runtime.sleep_until(rest);
    else
      rested = co_await rest_unless_back(rest, up);
    if (process_came_up.revision() != up) backoff = Seconds(1);
    if (!rested) co_return Error(errc::cancelled);
  }
}

/// A WireGuard process that came back has lost its key and its peers. How often one can come up is the supervisor's
/// backoff to bound.
Task<void> Gateway::Impl::run_child_watch() {
  std::uint64_t seen = 0;
  std::map<std::string, pid_t> running;
  for (;;) {
    auto changed = co_await supervisor.changed(seen);
    if (!changed) co_return changed.error();
    bool came_up = false;
    for (const auto& child : supervisor.status()) {
      const pid_t pid = child.state == ChildState::running ? child.pid : 0;
      came_up = came_up || (pid != 0 && running[child.name] != pid);
      running[child.name] = pid;
    }
    if (seen != 0) reconcile_wanted.notify();
    if (seen != 0 && came_up) process_came_up.notify();
    seen = *changed;
  }
}

/// Links and addresses changed: the lanes may have lost theirs, and the API may be known by others.
Task<void> Gateway::Impl::run_host_watch() {
  std::uint64_t seen = 0;
  for (;;) {
    auto changed = co_await parts.host->changed(seen);
    if (!changed) co_return changed.error();
    if (seen != 0) {
      reconcile_wanted.notify();
      api_wanted.notify();
      lookup_wanted.notify();
    }
    seen = *changed;
    bool slept = co_await runtime.sleep_until(runtime.now() + least_rest);
    if (!slept) co_return Error(errc::cancelled);
  }
}

/// The ruleset is looked at whenever the kernel tells of a change by somebody else, and from time to time whether it
/// does or not (I-21). A look that failed is repeated with backoff.
Task<void> Gateway::Impl::run_firewall_watch() {
  std::uint64_t seen = 0;
  Seconds rest = least_unlooked;
  for (;;) {
    auto looked = co_await look_at_firewall();
    rest = looked ? least_unlooked : std::min(rest * 2, longest_unlooked);
    bool slept = co_await runtime.sleep_until(runtime.now() + rest);
    if (!slept) co_return Error(errc::cancelled);
    if (!looked) continue;
    auto told = parts.firewall->changed(seen);
    auto expired = runtime.sleep_until(runtime.now() + longest_unlooked);
    auto first = co_await first_of(std::move(told), std::move(expired));
    bool cancelled = co_await is_cancelled();
    if (cancelled) co_return Error(errc::cancelled);
    if (!first || first->index() != 0) continue;
    auto& revision = std::get<0>(*first);
    if (!revision) co_return revision.error();
    seen = *revision;
  }
}

/// Somebody else changed it: ours is put back, and it is told. What cannot be looked at counts as changed until it can.
Task<void> Gateway::Impl::look_at_firewall() {
  auto intact = co_await parts.firewall->intact();
  if (!intact) {
    const std::string& why = intact.error().detail();
    components["firewall"] = Component("firewall", false, "in doubt, it cannot be looked at: " + why);
    if (!firewall_doubted) runtime.log().write(LogLevel::error, "firewall_in_doubt", {{"detail", why}});
    firewall_doubted = true;
    co_return intact.error();
  }
  if (*intact && firewall_doubted) components["firewall"] = Component("firewall", true, "as it was applied");
  firewall_doubted = false;
  if (*intact) co_return Result<void>();
  if (!table_damaged) {
    events.publish("firewall_changed_elsewhere", "{}");
    runtime.log().write(LogLevel::error, "firewall_changed_elsewhere", {});
  }
  components["firewall"] = Component("firewall", false, "somebody else changed it; it is being put back");
  table_damaged = true;
  auto restored = co_await apply_firewall();
  if (!restored) want_firewall();
  components["firewall"] =
      Component("firewall", restored.has_value(), restored ? "restored" : restored.error().detail());
  co_return Result<void>();
}

}  // namespace tornado::inline v1
