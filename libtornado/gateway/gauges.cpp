// What a gateway tells a monitor: counters and histograms of its modules, and gauges read at the moment of asking.
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gateway/gateway_impl.hpp"
#include "tornado/metrics.hpp"

namespace tornado::inline v1 {
namespace {

double as_seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double as_seconds(Instant instant) {
  return std::chrono::duration<double>(instant.time_since_epoch()).count();
}

/// Names as every exporter of process metrics has them.
void write_process(MetricText& out) {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  out.family("process_cpu_seconds_total", "counter", "User and system time of the daemon, seconds.")
      .sample({}, as_seconds(used.ru_utime) + as_seconds(used.ru_stime));
  std::uint64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  out.family("process_resident_memory_bytes", "gauge", "Resident memory of the daemon.")
      .sample({}, resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  std::error_code ec;
  std::uint64_t open = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", ec), end; !ec && it != end; it.increment(ec)) ++open;
  out.family("process_open_fds", "gauge", "Open descriptors of the daemon.").sample({}, open);
}

}  // namespace

void Gateway::Impl::write_sessions(MetricText& out) const {
  out.family("tornado_sessions", "gauge", "Unclosed sessions by state.")
      .sample({{"state", "online"}}, std::uint64_t{sessions.online()})
      .sample({{"state", "idle"}}, std::uint64_t{sessions.idle()})
      .sample({{"state", "offline"}}, std::uint64_t{sessions.offline()})
      .sample({{"state", "closing"}}, std::uint64_t{sessions.closing_count()});
  out.family("tornado_peers_wanted", "gauge", "Owners whose peer should be on the interfaces.")
      .sample({}, std::uint64_t{peers.wanted_count()});
  out.family("tornado_peers_dirty", "gauge", "1 while a change of the interfaces failed and was not mended yet.")
      .sample({}, std::uint64_t{peers.dirty()});
  out.family("tornado_lane_bytes_total", "counter", "Bytes of sessions by lane and direction, since the start.");
  for (const auto& lane : sessions.traffic()) {
    out.sample({{"lane", lane.lane.str()}, {"direction", "received"}}, lane.received);
    out.sample({{"lane", lane.lane.str()}, {"direction", "sent"}}, lane.sent);
  }
  out.family("tornado_handshakes_total", "counter", "Handshakes seen by lane, at most one per peer and reading.");
  for (const auto& lane : sessions.traffic()) out.sample({{"lane", lane.lane.str()}}, lane.handshakes);
}

void Gateway::Impl::write_pools(MetricText& out) const {
  out.family("tornado_pool_addresses", "gauge", "Addresses of a lane's pool by use.");
  for (const auto& lane : lane_names) {
    auto usage = ipam.usage(lane);
    out.sample({{"lane", lane.str()}, {"use", "leased"}}, std::uint64_t{usage.leased});
    out.sample({{"lane", lane.str()}, {"use", "resting"}}, std::uint64_t{usage.resting});
    out.sample({{"lane", lane.str()}, {"use", "dirty"}}, std::uint64_t{usage.dirty});
    out.sample({{"lane", lane.str()}, {"use", "available"}}, std::uint64_t{usage.available()});
  }
}

void Gateway::Impl::write_lanes(MetricText& out) const {
  if (tor) {
    auto status = tor->status();
    out.family("tornado_tor_phase", "gauge", "1 for the phase Tor is in.");
    for (auto phase : {TorPhase::stopped, TorPhase::launching, TorPhase::bootstrapping, TorPhase::up,
                       TorPhase::maintenance, TorPhase::failed})
      out.sample({{"phase", std::string(name(phase))}}, std::uint64_t{status.phase == phase});
    out.family("tornado_tor_bootstrap_percent", "gauge", "How far Tor has come into its network.")
        .sample({}, static_cast<double>(status.bootstrap));
    out.family("tornado_tor_restarts_total", "counter", "Times the tor process was started anew.")
        .sample({}, static_cast<std::uint64_t>(status.restarts));
  }
  if (verified.empty()) return;
  out.family("tornado_lane_verify_held", "gauge", "Probes the lane held when it was last verified.");
  for (const auto& [lane, last] : verified) out.sample({{"lane", lane.str()}}, static_cast<double>(last.held));
  out.family("tornado_lane_verify_failed", "gauge", "Probes that found a way out when it was last verified.");
  for (const auto& [lane, last] : verified) out.sample({{"lane", lane.str()}}, std::uint64_t{last.failed.size()});
  out.family("tornado_lane_verify_timestamp_seconds", "gauge", "When that was, since 1970.");
  for (const auto& [lane, last] : verified) out.sample({{"lane", lane.str()}}, as_seconds(last.at));
}

void Gateway::Impl::write_limits(MetricText& out) const {
  out.family("tornado_policy_version", "gauge", "Version of the policy in force; 0: none, or one that is held back.")
      .sample({}, static_cast<std::uint64_t>(access_version));
  std::uint64_t within = 0, warned = 0, exhausted = 0;
  for (const auto& user : access.with_quota()) {
    const QuotaStanding standing = access.standing(user).value_or(QuotaStanding());
    ++(standing.exhausted() ? exhausted : standing.reached > 0 ? warned : within);
  }
  out.family("tornado_quota_users", "gauge", "Connected users with a monthly quota, by how they stand.");
  out.sample({{"state", "within"}}, within)
      .sample({{"state", "warned"}}, warned)
      .sample({{"state", "exhausted"}}, exhausted);
}

void Gateway::Impl::write_queues(MetricText& out) const {
  out.family("tornado_waiting", "gauge", "Who waits for a turn before anything is done, by queue.")
      .sample({{"queue", "sign_in"}}, std::uint64_t{auth.waiting()})
      .sample({{"queue", "transaction"}}, std::uint64_t{parts.database->waiting()})
      .sample({{"queue", "interface"}}, std::uint64_t{parts.wireguard->waiting()})
      .sample({{"queue", "device"}}, std::uint64_t{gates.waiting()});
  out.family("tornado_blocking_queue", "gauge", "Jobs that wait for a thread, by purpose.");
  for (auto [purpose, label] : {std::pair(Blocking::database, "database"), std::pair(Blocking::signing, "signing"),
                                std::pair(Blocking::file, "file"), std::pair(Blocking::hashing, "hashing")})
    out.sample({{"purpose", label}}, std::uint64_t{runtime.blocking_queue(purpose)});
  out.family("tornado_events_total", "counter", "Events published.").sample({}, events.last());
}

std::string Gateway::metrics() const {
  MetricText out;
  out.family("tornado_build_info", "gauge", "1, with the version.").sample({{"version", TORNADO_VERSION}}, 1.0);
  out.family("tornado_ready", "gauge", "1 when every step of the start is complete.")
      .sample({}, std::uint64_t{impl_->ready});
  out.family("tornado_component_ready", "gauge", "1 while a part of the gateway works.");
  for (const auto& component : health()) out.sample({{"component", component.name}}, std::uint64_t{component.ready});
  impl_->write_sessions(out);
  impl_->write_pools(out);
  impl_->write_lanes(out);
  impl_->write_limits(out);
  impl_->write_queues(out);
  impl_->runtime.metrics().write(out);
  write_process(out);
  return out.take();
}

/// How long what is ready has to wait for the loop.
Task<void> Gateway::Impl::run_loop_watch() {
  constexpr std::chrono::milliseconds every{250};
  MetricHistogram& lag = runtime.metrics().histogram("tornado_loop_lag_seconds", "How late a timer of the loop came.");
  for (;;) {
    Stopwatch watch;
    bool slept = co_await runtime.sleep_until(runtime.now() + every);
    if (!slept) co_return Error(errc::cancelled);
    if (&runtime.clock() == &system_clock())
      lag.observe(std::max(0.0, watch.seconds() - std::chrono::duration<double>(every).count()));
  }
}

}  // namespace tornado::inline v1
