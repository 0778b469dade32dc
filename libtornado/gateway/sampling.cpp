// What the interfaces count, and what that says about sessions.
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {

void Gateway::Impl::watch_sessions() {
  sessions.on_presence([this](const Session& session, Presence before) {
    events.presence(session, before);
    if (session.presence == Presence::offline) events.session("session_offline", session);
    bool back = before == Presence::offline && session.presence_reason != PresenceReason::connected;
    if (back && session.presence_reason != PresenceReason::heartbeat) events.session("heartbeat_update", session, true);
  });
  sessions.on_roaming([this](const Session& session, const Address& before) { events.roamed(session, before); });
  peers.on_absent([this](std::vector<AbsentPeer> absent) { return note_absent(std::move(absent)); });
}

/// The lanes take turns within the interval, so that their dumps do not come together.
Task<void> Gateway::Impl::run_sampling() {
  const std::chrono::milliseconds interval = Seconds(config.session.sample_interval);
  const auto share = interval / static_cast<int>(lane_names.size());
  std::map<Lane, std::string> failed;
  Instant round = runtime.now() - interval;
  for (;;) {
    round += interval;
    // A reading that takes longer than the interval, or a sleep of the host, leaves out what it has missed.
    const Instant now = runtime.now();
    if (now - round > share) {
      runtime.log().write(LogLevel::warning, "sampling_late",
                          {{"milliseconds", std::to_string((now - round).count())}});
      round = now + interval;
    }
    Instant turn = round;
    for (const auto& lane : lane_names) {
      bool slept = co_await runtime.sleep_until(turn);
      if (!slept) co_return Error(errc::cancelled);
      turn += share;
      Stopwatch watch;
      auto sampled = co_await sample(lane);
      runtime.metrics()
          .histogram("tornado_sampling_seconds", "Time of a reading of one interface.", {{"lane", lane.str()}})
          .observe(watch.seconds());
      failed.erase(lane);
      if (!sampled) failed[lane] = sampled.error().detail();
      if (!sampled) reconcile_wanted.notify();
      components["wireguard"] =
          Component("wireguard", failed.empty(), failed.empty() ? "answers" : failed.begin()->second);
    }
  }
}

Task<void> Gateway::Impl::sample(Lane lane) {
  if (sessions.size() == 0) co_return Result<void>();
  TRY(auto samples, co_await peers.sample(lane));
  for (const auto& sample : samples) {
    auto instance = sessions.instance_of(sample.key);
    if (!instance) continue;
    Observation seen(sample.lane);
    seen.received = sample.received;
    seen.sent = sample.sent;
    seen.handshake = sample.handshake;
    seen.interface = sample.interface;
    if (sample.endpoint) seen.source = sample.endpoint->address;
    (void)sessions.observe(*instance, seen);
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
