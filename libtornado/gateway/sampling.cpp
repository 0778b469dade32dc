// What the interfaces count, and what that says about sessions.
#include "base/pace.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {

void Gateway::Impl::watch_sessions() {
  sessions.on_presence([this](const Session& session, Presence before) {
    // `session_created` says that it has connected.
    if (session.presence_reason == PresenceReason::connected && before == Presence::offline) return;
    events.presence(session, before);
    if (session.presence == Presence::offline) events.session("session_offline", session);
    if (before == Presence::offline) events.session("heartbeat_update", session, true);
  });
  sessions.on_roaming([this](const Session& session, const Address& before) { events.roamed(session, before); });
  peers.on_absent([this](std::vector<AbsentPeer> absent) { return note_absent(std::move(absent)); });
}

void Gateway::Impl::tell_beat(const Result<Beat>& beat) {
  if (beat && !beat->recovered && events.observed()) events.session("heartbeat_update", beat->session, false);
}

/// The lanes take turns within the interval, so that their dumps do not come together. Rests are counted from now on,
/// each anew: a clock that is set moves none that has not begun.
Task<void> Gateway::Impl::run_sampling() {
  std::map<Lane, std::string> failed;
  for (;;) {
    const std::chrono::milliseconds interval = Seconds(config.session.sample_interval);
    const auto share = interval / static_cast<int>(lane_names.size());
    for (const auto& lane : lane_names) {
      Stopwatch watch;
      auto sampled = co_await sample(lane);
      const double seconds = watch.seconds();
      runtime.metrics()
          .histogram("tornado_sampling_seconds", "Time of a reading of one interface.", {{"lane", lane.str()}})
          .observe(seconds);
      failed.erase(lane);
      if (!sampled) failed[lane] = sampled.error().detail();
      if (!sampled) reconcile_wanted.notify();
      components["wireguard"] =
          Component("wireguard", failed.empty(), failed.empty() ? "answers" : failed.begin()->second);
      const std::chrono::milliseconds took(static_cast<std::int64_t>(seconds * 1000));
      if (took > share)
        runtime.log().write(LogLevel::warning, "sampling_late",
                            {{"lane", lane.str()}, {"milliseconds", std::to_string(took.count())}});
      bool slept = co_await runtime.sleep_until(runtime.now() + std::max(share - took, share / 2));
      if (!slept) co_return Error(errc::cancelled);
    }
  }
}

Task<void> Gateway::Impl::sample(Lane lane) {
  if (sessions.size() == 0) co_return Result<void>();
  const std::uint64_t restarts = sessions.restarts();
  TRY(auto interface, co_await peers.counters(lane));
  Observation seen(lane);
  seen.interface = interface.index;
  Pace pace(runtime);
  for (const Peer& peer : interface.peers) {
    if (pace.due()) co_await pace.yield();
    // Counters began anew while this reading waited: it is of before, and the next one is soon.
    if (sessions.restarts() != restarts) co_return Result<void>();
    seen.received = peer.received;
    seen.sent = peer.sent;
    seen.handshake = peer.handshake;
    seen.source.reset();
    if (peer.endpoint) seen.source = peer.endpoint->address;
    if (!sessions.unmoved(peer.key, seen) && peers.wants(peer.key, lane)) (void)sessions.observe(peer.key, seen);
  }
  co_return Result<void>();
}

/// Durable before the peers are there again: counters that begin anew are never taken for the old ones (I-09).
Task<void> Gateway::Impl::note_absent(std::vector<AbsentPeer> absent) {
  std::vector<RestartedCounters> restarted;
  for (const auto& peer : absent)
    if (auto instance = sessions.instance_of(peer.key)) restarted.emplace_back(*instance, peer.lane);
  co_return co_await sessions.counters_restarted(std::move(restarted));
}

}  // namespace tornado::inline v1
