// What tor tells of itself: asked for once, then by events.
#include "base/try.hpp"
#include "tor/tor_controller_impl.hpp"
#include "tor/tor_failure.hpp"

namespace tornado::inline v1 {
namespace {

constexpr Seconds clock_warning_holds{3600};

}  // namespace

void TorController::Impl::bootstrap(const BootstrapLine& line) {
  if (line.percent != status.bootstrap) progress_at = runtime.now();
  status.bootstrap = line.percent;
  status.tag = line.tag;
  status.summary = line.summary;
  if (line.warning && !line.problem.empty()) status.reason = line.problem;
}

/// The whole picture; events keep it up to date from then on.
Task<void> TorController::Impl::observe() {
  auto line = control;
  TRY(auto told, co_await line->order("GETINFO status/bootstrap-phase status/circuit-established network-liveness "
                                      "status/version/current"));
  if (auto phase = BootstrapLine::parse(told.value("status/bootstrap-phase").value_or(""))) bootstrap(*phase);
  bool had = status.circuit_established;
  status.circuit_established = told.value("status/circuit-established") == "1";
  status.network_live = told.value("network-liveness") == "up";
  std::string_view version = told.value("status/version/current").value_or("");
  bool unsafe = version == "obsolete" || version == "unrecommended";
  version_warning = unsafe ? "tor " + status.version + " is " + std::string(version) + ": install a newer one" : "";
  say_warnings();
  if (had && !status.circuit_established) status.probe_answered = false;
  co_return Result<void>();
}

/// A tor that has used up what AccountingMax allows closes its ports and cuts its circuits until the next interval: no
/// fault of the network, and nothing that a new start would mend.
Task<void> TorController::Impl::check_data_limit() {
  if (options.data_limit.empty()) co_return Result<void>();
  auto line = control;
  TRY(auto told, co_await line->order("GETINFO accounting/hibernating accounting/interval-end"));
  const std::string_view state = told.value("accounting/hibernating").value_or("awake");
  if (state == "awake") co_return Result<void>();
  status.circuit_established = status.probe_answered = false;
  const std::string until(told.value("accounting/interval-end").value_or("the end of the month"));
  co_return Error(errc::tor_data_limit, "the " + options.data_limit + " of tor.data_limit are used up (" +
                                            std::string(state) + " hibernation) until " + until + " UTC");
}

namespace {

template <class Take>
void each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    std::size_t end = std::min(text.find('\n'), text.size());
    take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace

/// Tor tells of a stream's device only when the stream begins: whose circuits are there already nobody knows. They keep
/// the streams they have, and get no others: those of every device begin on circuits whose devices are known.
Task<void> TorController::Impl::bar_strangers(std::shared_ptr<ControlConnection> from) {
  TRY(auto known, co_await from->order("GETINFO circuit-status stream-status"));
  if (from != control) co_return Error(errc::cancelled);
  std::string_view circuits = known.value("circuit-status").value_or("");
  std::string_view streams = known.value("stream-status").value_or("");
  each_line(circuits, [this](std::string_view line) {
    if (auto circuit = CircuitLine::parse(line)) book.circuit(*circuit);
  });
  each_line(streams, [this](std::string_view line) {
    if (auto stream = StreamLine::parse(line)) book.stranger(*stream);
  });
  if (circuits.empty() && streams.empty()) {
    strangers_barred();
    co_return Result<void>();
  }
  // An event tells when it is done, which may be seconds after the answer.
  TRY_VOID(co_await from->order("SIGNAL NEWNYM"));
  co_return Result<void>();
}

void TorController::Impl::strangers_barred() {
  barred = true;
  barring.notify();
}

Task<void> TorController::Impl::run_events(std::shared_ptr<ControlConnection> from) {
  auto looked = co_await bar_strangers(from);
  if (!looked && looked.error().code() != errc::cancelled)
    runtime.log().write(LogLevel::warning, "tor_circuits_unattributed", {{"detail", looked.error().detail()}});
  for (;;) {
    auto reply = co_await from->event();
    if (!reply) {
      if (external() && from == control && reply.error().code() != errc::cancelled) service_ended();
      if (from == control) lost.notify();
      nudge.notify();
      co_return Error(errc::cancelled);
    }
    if (from != control) co_return Error(errc::cancelled);
    event(*reply);
  }
}

void TorController::Impl::event(const ControlReply& reply) {
  std::string_view line = reply.lines.front().text;
  std::size_t space = std::min(line.find(' '), line.size());
  std::string_view kind = line.substr(0, space), rest = line.substr(std::min(space + 1, line.size()));
  if (kind == "CIRC" || kind == "CIRC_MINOR") {
    if (auto circuit = CircuitLine::parse(rest)) book.circuit(*circuit);
    return;
  }
  if (kind == "STREAM") {
    if (auto stream = StreamLine::parse(rest)) book.stream(*stream);
    return;
  }
  auto words = ControlWords::parse(rest);
  if (!words) return;
  if (kind == "SIGNAL" && words->at(0) == "NEWNYM") strangers_barred();
  if (kind == "STATUS_CLIENT") status_client(*words, rest);
  if (kind == "STATUS_GENERAL") status_general(*words);
  if (kind == "NETWORK_LIVENESS") {
    status.network_live = words->at(0) == "UP";
    publish();
    nudge.notify();
  }
}

void TorController::Impl::status_client(const ControlWords& words, std::string_view line) {
  if (words.at(1) == "BOOTSTRAP") {
    if (auto phase = BootstrapLine::parse(line)) bootstrap(*phase);
  } else if (words.at(1) == "CIRCUIT_NOT_ESTABLISHED") {
    status.circuit_established = status.probe_answered = false;
    if (status.phase == TorPhase::up) {
      status.reason = "no circuit: " + std::string(words["REASON"]);
      enter(TorPhase::bootstrapping);
      progress_at = runtime.now();
    }
  } else if (words.at(1) != "CIRCUIT_ESTABLISHED") {
    return;
  }
  publish();
  nudge.notify();
}

/// Tor tells of a wrong clock again and again, and never that it is right again: what it has not repeated for long, or
/// what it said of a clock that was set since, is over.
void TorController::Impl::say_warnings() {
  if (!clock_warning.empty() && runtime.now() - clock_warned_at >= clock_warning_holds) clock_warning.clear();
  const bool both = !version_warning.empty() && !clock_warning.empty();
  status.warning = version_warning + (both ? "; " : "") + clock_warning;
}

void TorController::Impl::clock_set() {
  clock_warning.clear();
  if (status.error == errc::tor_clock_skewed) clear_cause();
}

void TorController::Impl::status_general(const ControlWords& words) {
  if (words.at(1) == "CLOCK_SKEW") {
    std::string seconds(words["SKEW"]);
    clock_warning = "the clock of this host seems wrong by " + seconds + " s";
    clock_warned_at = runtime.now();
    if (status.phase != TorPhase::up) {
      status.error = errc::tor_clock_skewed;
      status.reason = clock_warning;
      status.remedy = tor_remedy(errc::tor_clock_skewed, external());
    }
  } else if (words.at(1) == "DANGEROUS_VERSION") {
    version_warning = "tor " + std::string(words["CURRENT"]) + " is " + std::string(words["REASON"]);
  } else if (words.at(1) == "CLOCK_JUMPED") {
    clock_set();
  } else {
    return;
  }
  say_warnings();
  publish();
}

}  // namespace tornado::inline v1
