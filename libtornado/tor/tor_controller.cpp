#include "tornado/tor_controller.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/cancellation.hpp"
#include "base/file.hpp"
#include "base/try.hpp"
#include "tor/tor_controller_impl.hpp"
#include "tor/tor_failure.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view child_name = "tor";
constexpr milliseconds first_pause{200}, longest_pause{30'000};
constexpr milliseconds longest_wait{1000};  // for a tor that somebody else starts
constexpr std::size_t breaker_failures = 5;
constexpr Seconds breaker_window{60}, breaker_pause{60};
constexpr Seconds longest_halt{10};
constexpr Seconds look_again{1};  // while it bootstraps; events say most of it earlier
constexpr int probes_forgiven = 3;
constexpr Seconds longest_barring{15};  // tor does it once in ten seconds

constexpr std::string_view wish_names[] = {"up", "maintenance", "stopped"};
constexpr std::string_view phase_names[] = {"stopped", "launching", "bootstrapping", "up", "maintenance", "failed"};

Error directory_error(const std::string& path) {
  return Error(errno == ENOSPC ? errc::disk_full : errc::tor_directory, path + ": " + std::strerror(errno));
}

/// The account has to get to its directory: passing through ours, not reading. What lies above is not ours to change.
Result<void> let_through(const TorOptions& options) {
  std::string above = options.directory.substr(0, options.directory.rfind('/'));
  for (const std::string& path : {options.directory, above}) {
    struct stat now {};
    if (::stat(path.c_str(), &now) != 0) return directory_error(path);
    if ((now.st_mode & 0001) == 0 && ::chmod(path.c_str(), (now.st_mode & 07777) | 0001) != 0)
      return directory_error(path);
  }
  for (std::string path = above.substr(0, above.rfind('/')); path.size() > 1; path = path.substr(0, path.rfind('/'))) {
    struct stat now {};
    if (::stat(path.c_str(), &now) != 0) return directory_error(path);
    if ((now.st_mode & 0001) == 0)
      return Error(errc::tor_directory,
                   path + " does not let the account " + options.account + " through: choose another state_dir");
  }
  return {};
}

/// The data directory belongs to the account tor runs as, everything above it to us.
Result<void> prepare_files(const TorOptions& options, const std::string& data, const std::string& configuration) {
  TRY_VOID_PLAIN(make_directory(options.directory, 0700));
  TRY_VOID_PLAIN(make_directory(data, 0700));
  std::string file = options.directory + "/torrc";
  TRY_VOID_PLAIN(replace_file(file, configuration, 0600));
  if (options.account.empty() || ::geteuid() != 0) return {};
  const passwd* account = ::getpwnam(options.account.c_str());
  if (!account) return Error(errc::tor_directory, "tor.account: there is no account " + options.account);
  for (const std::string& path : {data, file})
    if (::chown(path.c_str(), account->pw_uid, account->pw_gid) != 0) return directory_error(path);
  return let_through(options);
}

/// It rests after too many failures. What failed has its own name and remedy, which a rest must not hide.
Error resting(const Error& last, std::string_view failures, Instant until) {
  const errc code = last.code() == errc::tor_died ? errc::tor_breaker : last.code();
  return Error(code, last.detail() + "; " + std::string(failures) + ": it rests until " + iso8601(until));
}

}  // namespace

std::string_view name(TorWish wish) noexcept {
  return wish_names[static_cast<std::size_t>(wish)];
}

std::string_view name(TorPhase phase) noexcept {
  return phase_names[static_cast<std::size_t>(phase)];
}

Result<TorWish> parse_tor_wish(std::string_view text) {
  for (std::size_t i = 0; i < std::size(wish_names); ++i)
    if (wish_names[i] == text) return static_cast<TorWish>(i);
  return Error(errc::invalid_argument, "a wish is up, maintenance or stopped");
}

TorController::Impl::Impl(Runtime& runtime_, TorOptions options_)
    : runtime(runtime_),
      options(std::move(options_)),
      readers(runtime_),
      supervisor(runtime_, options.children),
      changed(runtime_),
      nudge(runtime_),
      wished(runtime_),
      barring(runtime_),
      lost(runtime_),
      tasks(runtime_) {
  auto text = torrc(options);
  if (!text) throw std::invalid_argument(text.error().detail());
  configuration = std::move(*text);
  status.since = runtime.now();
}

// What is known
// --------------------------------------------------------------------------------------------------------

/// Whoever waits is told if anything is different.
void TorController::Impl::publish() {
  auto facts = [](const TorStatus& s) {
    return std::tie(s.wish, s.phase, s.bootstrap, s.tag, s.summary, s.circuit_established, s.probe_answered,
                    s.network_live, s.error, s.reason, s.remedy, s.warning, s.version, s.pid, s.adopted, s.restarts);
  };
  if (status.revision != 0 && facts(status) == facts(published)) return;
  ++status.revision;
  published = status;
  changed.notify();
}

void TorController::Impl::enter(TorPhase phase) {
  if (status.phase == phase) return;
  status.phase = phase;
  status.since = runtime.now();
  runtime.log().write(LogLevel::info, "tor_phase", {{"phase", std::string(name(phase))}, {"reason", status.reason}});
}

/// Of a tor that is gone, or cannot be asked.
void TorController::Impl::forget_progress() {
  status.bootstrap = 0;
  status.tag.clear();
  status.summary.clear();
  status.circuit_established = status.probe_answered = status.network_live = false;
}

void TorController::Impl::clear_cause() {
  status.error.reset();
  status.reason.clear();
  status.remedy.clear();
}

void TorController::Impl::failed(const Error& error) {
  bool same = status.error == error.code() && status.phase == TorPhase::failed;
  status.error = error.code();
  status.reason = error.detail();
  status.remedy = tor_remedy(error.code(), external());
  if (!control || control->ended()) forget_progress();
  status.circuit_established = status.probe_answered = false;
  if (!same)
    runtime.log().write(
        LogLevel::error, "tor_failed",
        {{"code", std::string(name(error.code()))}, {"reason", status.reason}, {"remedy", status.remedy}});
  enter(TorPhase::failed);
  publish();
}

/// Null: no process of ours is started or watched.
std::optional<ChildStatus> TorController::Impl::child() const {
  for (ChildStatus& child : supervisor.status())
    if (child.name == child_name && child.state != ChildState::stopped) return std::move(child);
  return std::nullopt;
}

Result<ControlConnection*> TorController::Impl::connected() {
  if (control && !control->ended()) return control.get();
  std::string why = status.reason.empty() ? "tor is " + std::string(name(status.phase)) : status.reason;
  return Error(errc::tor_unavailable, why);
}

// The process
// ----------------------------------------------------------------------------------------------------------

Task<void> TorController::Impl::load_wish(TorWish first) {
  auto read = [this] { return read_file(options.directory + "/wish", 64); };
  auto text = co_await runtime.offload(Blocking::file, read);
  status.wish = first;
  if (text) {
    if (auto wish = parse_tor_wish(*text)) status.wish = *wish;
  }
  co_return Result<void>();
}

/// Whether tor speaks its protocol.
Task<void> TorController::Impl::answers() {
  if (control && !control->ended()) {
    auto asked = co_await control->ask("GETINFO version");
    if (!asked) co_return asked.error();
    co_return Result<void>();
  }
  auto opened = co_await ControlConnection::open(runtime, readers, place() + "/control", place() + "/cookie");
  // Whatever is wrong with it, it has answered; what to do about it is not the supervisor's to decide.
  bool answered = opened || opened.error().code() == errc::tor_authentication ||
                  opened.error().code() == errc::tor_too_old || opened.error().code() == errc::cancelled;
  if (!answered) co_return opened.error();
  co_return Result<void>();
}

/// A tor that runs with another configuration than ours is ended first.
Task<void> TorController::Impl::prepare() {
  bool differs = false;
  auto work = [&]() -> Result<void> {
    auto former = read_file(options.directory + "/torrc", 1 << 20);
    differs = former && *former != configuration;
    return prepare_files(options, data(), configuration);
  };
  TRY_VOID(co_await runtime.offload(Blocking::file, work));
  if (differs) co_await halt_other();
  co_return Result<void>();
}

namespace {

/// Until tor has closed the connection.
asio::awaitable<void> ended(ControlConnection& connection) {
  for (bool open = true; open;) {
    auto told = co_await connection.event();
    open = told.has_value();
  }
}

}  // namespace

asio::awaitable<void> TorController::Impl::halt_other() {
  control.reset();
  auto opened = co_await ControlConnection::open(runtime, readers, place() + "/control", place() + "/cookie");
  if (!opened) co_return;
  (void)co_await (*opened)->ask("SIGNAL HALT");
  // It answers, closes the socket, and is gone soon after.
  auto closed = ended(**opened);
  auto limit = runtime.sleep_until(runtime.now() + longest_halt);
  (void)co_await first_of(std::move(closed), std::move(limit));
}

Task<void> TorController::Impl::look() {
  TRY_VOID(co_await load_wish(TorWish::up));
  if (status.wish != TorWish::up) co_return Result<void>();
  if (external()) co_return co_await look_up();
  auto read = [this] { return read_file(options.directory + "/torrc", 1 << 20); };
  auto former = co_await runtime.offload(Blocking::file, read);
  if (!former || *former != configuration) co_return Result<void>();
  co_return co_await look_up();
}

/// One with our configuration that is connected is up; the probe follows, and the former daemon has had its answer.
Task<void> TorController::Impl::look_up() {
  TRY_VOID(co_await ensure_control());
  TRY(auto network, co_await control->order("GETCONF DisableNetwork"));
  if (network.value("DisableNetwork") != "0" || status.bootstrap != 100 || !status.circuit_established)
    co_return Result<void>();
  status.probe_answered = true;
  enter(TorPhase::up);
  co_return Result<void>();
}

/// Error: it does not run.
Result<void> TorController::Impl::runs(const ChildStatus& child) {
  status.pid = child.pid;
  status.adopted = child.adopted;
  status.restarts = child.restarts;
  if (child.state == ChildState::running) return {};
  if (child.state == ChildState::starting) {
    if (status.phase != TorPhase::up) enter(TorPhase::launching);
    publish();
    return Error(errc::cancelled, "it has been started and does not answer yet");
  }
  const Error why = tor_failure(Error(errc::backend_failed, child.reason));
  if (child.state != ChildState::broken) return why;
  return resting(why, "it has ended five times within a minute", child.since + breaker_pause);
}

ChildSpec TorController::Impl::spec() {
  ChildSpec out;
  out.name = child_name;
  out.argv = options.launcher;
  for (const char* word : {options.program.c_str(), "--defaults-torrc", "/dev/null", "-f"}) out.argv.push_back(word);
  out.argv.push_back(options.directory + "/torrc");
  out.environment = {"PATH=/usr/bin:/bin", "HOME=" + data()};
  out.probe = [this]() -> Task<void> { return answers(); };
  return out;
}

Task<void> TorController::Impl::ensure_process() {
  if (external()) {
    if (status.phase != TorPhase::up && status.phase != TorPhase::failed && !control) enter(TorPhase::launching);
    co_return Result<void>();
  }
  at_rest = false;
  if (auto child = this->child()) co_return runs(*child);
  if (status.phase != TorPhase::up) enter(TorPhase::launching);
  publish();
  if (::access(options.program.c_str(), X_OK) != 0)
    co_return Error(errc::tor_missing, options.program + ": " + std::strerror(errno));
  TRY_VOID(co_await prepare());
  auto launched = co_await launch();
  if (launched) co_return Result<void>();
  // One of ours whose record was lost: the data directory and its cookie are nobody else's.
  if (launched.error().detail().find("another Tor process is running") != std::string::npos) co_await halt_other();
  co_return tor_failure(launched.error());
}

/// The process that a former daemon has left, so that it can be ended: by its record nothing else could.
Task<void> TorController::Impl::take_over() {
  auto read = [this]() -> Result<std::string> { return read_file(options.children + "/tor.json", 4096); };
  auto left = co_await runtime.offload(Blocking::file, read);
  if (!left || child()) co_return Result<void>();
  TRY_VOID(co_await prepare());
  co_return co_await supervisor.ensure(spec());
}

asio::awaitable<void> TorController::Impl::stop_wished() {
  for (bool more = true; more && status.wish != TorWish::stopped;) more = co_await wished.wait(wished.revision());
}

/// Returns when it answers, when it has ended, and when it is to be stopped, which does not wait for it.
Task<void> TorController::Impl::launch() {
  if (status.wish == TorWish::stopped) co_return Error(errc::cancelled, "it is to be stopped");
  ChildSpec wanted = spec();
  wanted.ready_within = options.patience;
  auto ensured = supervisor.ensure(std::move(wanted));
  auto unwished = stop_wished();
  auto first = co_await first_of(std::move(ensured), std::move(unwished));
  if (first && first->index() == 0) co_return std::get<0>(std::move(*first));
  co_return Error(errc::cancelled, "it is to be stopped");
}

Task<void> TorController::Impl::ensure_control() {
  if (control && !control->ended()) co_return Result<void>();
  control.reset();
  book.clear();
  barred = false;
  auto opened = co_await ControlConnection::open(runtime, readers, place() + "/control", place() + "/cookie");
  if (!opened) {
    forget_progress();
    // One that cannot be controlled is of no use, and only a new one has a cookie that holds.
    if (opened.error().code() == errc::tor_authentication) (void)co_await end_process();
    if (!external() || opened.error().code() != errc::tor_unavailable) co_return opened.error();
    co_return Error(errc::tor_unavailable,
                    opened.error().detail() + "; tor.launch is external: is its service running?");
  }
  control = std::move(*opened);
  status.version = control->version();
  clock_warning.clear();
  if (external()) {
    auto configured = co_await configure();
    if (!configured) control.reset();
    TRY_VOID(std::move(configured));
  }
  clear_cause();
  progress_at = runtime.now();
  for (const auto& child : supervisor.status()) {
    if (child.name != child_name) continue;
    status.pid = child.pid;
    status.adopted = child.adopted;
    status.restarts = child.restarts;
  }
  TRY_VOID(
      co_await control->order("SETEVENTS STATUS_CLIENT STATUS_GENERAL NETWORK_LIVENESS CIRC CIRC_MINOR STREAM SIGNAL"));
  tasks.add("tor_events", run_events(control));
  co_return co_await observe();
}

Task<void> TorController::Impl::ensure_network(bool wanted) {
  TRY(auto told, co_await control->order("GETCONF DisableNetwork"));
  std::string_view now = told.value("DisableNetwork").value_or("");
  if (now == (wanted ? "0" : "1")) co_return Result<void>();
  std::string change = wanted ? "SETCONF DisableNetwork=0" : "SETCONF DisableNetwork=1";
  auto set = co_await control->order(change);
  if (!set) co_return tor_failure(set.error());
  status.probe_answered = false;
  progress_at = runtime.now();
  co_return Result<void>();
}

/// Is it up? All three must hold (D-096).
Task<void> TorController::Impl::judge() {
  TRY_VOID(co_await observe());
  TRY_VOID(co_await check_data_limit());
  std::uint64_t wish_seen = wished.revision(), lost_seen = lost.revision();
  bool connected_now = status.bootstrap == 100 && status.circuit_established;
  Instant now = runtime.now();
  if (!connected_now) status.probe_answered = false;
  if (connected_now && (!status.probe_answered || now - probed_at >= options.probe_every)) {
    auto answered = co_await probe();
    if (wished.revision() != wish_seen) co_return Result<void>();
    // It may have died, or lost its circuits, while the probe was on its way.
    if (lost.revision() != lost_seen && status.phase == TorPhase::failed && status.error)
      co_return Error(*status.error, status.reason);
    if (control->ended()) co_return Error(errc::tor_unavailable, "tor closed its control socket");
    connected_now = status.bootstrap == 100 && status.circuit_established;
    // After its network was switched off and on in quick succession tor may have lost a port without knowing it.
    bool deaf = !answered && answered.error().code() == errc::backend_failed;
    ports_missed = deaf ? ports_missed + 1 : 0;
    if (ports_missed >= probes_forgiven) {
      ports_missed = 0;
      TRY_VOID(co_await end_process());
      co_return Error(errc::tor_died, answered.error().detail() + "; it is started anew");
    }
    probed_at = runtime.now();
    probes_missed = answered ? 0 : probes_missed + 1;
    status.probe_answered = answered || (status.probe_answered && probes_missed < probes_forgiven);
    if (!answered && !status.probe_answered) status.reason = answered.error().detail();
  }
  if (connected_now && status.probe_answered) {
    clear_cause();
    progress_at = now;
    enter(TorPhase::up);
  } else {
    enter(TorPhase::bootstrapping);
    if (!status.error && now - progress_at >= options.patience) {
      status.error = errc::tor_stuck;
      status.remedy = tor_remedy(errc::tor_stuck, external());
      if (status.reason.empty())
        status.reason = "no progress at " + std::to_string(status.bootstrap) + " %: " + status.summary;
    }
  }
  publish();
  co_return Result<void>();
}

Task<void> TorController::Impl::end_process() {
  if (external() && control) (void)co_await control->ask("SIGNAL HALT");
  if (external()) control.reset();
  if (!child()) co_return Result<void>();
  control.reset();
  auto stopped = co_await supervisor.stop(std::string(child_name));
  if (!stopped && stopped.error().code() != errc::not_found) co_return stopped.error();
  status.pid = 0;
  co_return Result<void>();
}

// Towards the wish
// -----------------------------------------------------------------------------------------------------

/// One step in the direction of the wish. An error: it failed, and is to be repeated.
Task<void> TorController::Impl::step() {
  if (status.wish == TorWish::stopped) {
    if (external()) {
      TRY_VOID(co_await rest_service());
    } else {
      (void)co_await take_over();
      TRY_VOID(co_await end_process());
      at_rest = true;
    }
    forget_progress();
    clear_cause();
    enter(TorPhase::stopped);
    publish();
    co_return Result<void>();
  }
  auto launched = co_await ensure_process();
  // It is to be stopped, which the next step does; or what comes of it is told, and then there is another step.
  if (!launched && (status.wish == TorWish::stopped || launched.error().code() == errc::cancelled))
    co_return Result<void>();
  TRY_VOID(std::move(launched));
  TRY_VOID(co_await ensure_control());
  TRY_VOID(co_await ensure_network(status.wish == TorWish::up));
  if (status.wish == TorWish::up) co_return co_await judge();
  status.circuit_established = status.probe_answered = false;
  clear_cause();
  enter(TorPhase::maintenance);
  publish();
  co_return Result<void>();
}

void TorController::Impl::rested() {
  failures = 0;
  failed_at.clear();
}

milliseconds TorController::Impl::pause_after_failure() {
  if (status.error == errc::tor_data_limit) return longest_pause;
  if (external() && status.error == errc::tor_unavailable)
    return std::min(first_pause * (1 << std::min(failures++, 10)), longest_wait);
  Instant now = runtime.now();
  failed_at.push_back(now);
  while (failed_at.front() + breaker_window <= now) failed_at.pop_front();
  if (failed_at.size() >= breaker_failures && !child() && !external()) {
    failed_at.clear();
    const Error last(status.error.value_or(errc::tor_died), status.reason);
    failed(resting(last, "five starts within a minute failed", now + breaker_pause));
    runtime.log().write(LogLevel::error, "tor_rests",
                        {{"code", std::string(name(last.code()))}, {"reason", status.reason}});
    return breaker_pause;
  }
  return std::min(first_pause * (1 << std::min(failures++, 10)), longest_pause);
}

Task<void> TorController::Impl::converge() {
  for (;;) {
    std::uint64_t seen = nudge.revision();
    auto done = co_await step();
    bool leave = co_await is_cancelled();
    if (leave) co_return Error(errc::cancelled);
    Instant again = runtime.now() + Seconds(3600);
    if (!done) {
      failed(done.error());
      again = runtime.now() + pause_after_failure();
    } else {
      rested();
      if (status.phase == TorPhase::bootstrapping) again = runtime.now() + look_again;
      if (status.phase == TorPhase::up) again = probed_at + options.probe_every;
    }
    auto slept = runtime.sleep_until(again);
    auto told = nudge.wait(seen);
    (void)co_await first_of(std::move(slept), std::move(told));
    leave = co_await is_cancelled();
    if (leave) co_return Error(errc::cancelled);
  }
}

/// A death is told at once: whoever depends on tor must not wait for the next look.
Task<void> TorController::Impl::run_child_watch() {
  int pid = 0;
  for (std::uint64_t seen = 0;;) {
    auto told = co_await supervisor.changed(seen);
    if (!told) co_return told.error();
    seen = *told;
    ChildStatus child;
    for (const auto& one : supervisor.status())
      if (one.name == child_name) child = one;
    bool gone = pid != 0 && child.pid != pid;
    pid = child.state == ChildState::running ? child.pid : 0;
    if (gone) {
      forget_progress();
      lost.notify();
    }
    if (gone && status.wish != TorWish::stopped) {
      status.pid = 0;
      failed(tor_failure(Error(errc::backend_failed, child.reason)));
    }
    nudge.notify();
  }
}

// The face
// -------------------------------------------------------------------------------------------------------------

TorController::TorController(Runtime& runtime, TorOptions options)
    : impl_(std::make_unique<Impl>(runtime, std::move(options))) {}

TorController::~TorController() {
  impl_->control.reset();
}

Task<void> TorController::run(TorWish first) {
  if (impl_->running) co_return Error(errc::already_exists, "run was called before");
  impl_->running = true;
  TRY_VOID(co_await impl_->load_wish(first));
  impl_->publish();
  impl_->tasks.add("tor_child_watch", impl_->run_child_watch());
  auto ended = co_await impl_->converge();
  impl_->control.reset();
  co_await impl_->tasks.stop_all();
  co_return ended;
}

Task<TorStatus> TorController::look() {
  auto looked = co_await impl_->look();
  if (!looked) impl_->control.reset();
  impl_->publish();
  co_return impl_->status;
}

Task<TorStatus> TorController::wish(TorWish wish) {
  auto work = [&]() -> Result<void> {
    TRY_VOID_PLAIN(make_directory(impl_->options.directory, 0700));
    return replace_file(impl_->options.directory + "/wish", name(wish), 0600);
  };
  TRY_VOID(co_await impl_->runtime.offload(Blocking::file, work));
  impl_->status.wish = wish;
  impl_->rested();
  if (wish != TorWish::stopped) impl_->supervisor.hurry(std::string(child_name));
  impl_->publish();
  impl_->wished.notify();
  impl_->nudge.notify();
  co_return impl_->status;
}

TorStatus TorController::status() const {
  return impl_->status;
}

Task<TorStatus> TorController::changed(std::uint64_t since, std::optional<Seconds> within) {
  Instant end = impl_->runtime.now() + within.value_or(Seconds(86400 * 365));
  while (impl_->status.revision <= since && impl_->runtime.now() < end) {
    auto told = impl_->changed.wait(impl_->changed.revision());
    auto slept = impl_->runtime.sleep_until(end);
    (void)co_await first_of(std::move(told), std::move(slept));
    bool leave = co_await is_cancelled();
    if (leave) co_return Error(errc::cancelled);
  }
  co_return impl_->published;
}

Task<std::vector<Circuit>> TorController::circuits() {
  TRY(ControlConnection * control, impl_->connected());
  (void)control;
  co_return impl_->book.list();
}

Task<TorTraffic> TorController::traffic() {
  TRY_VOID(impl_->connected());
  auto control = impl_->control;
  TRY(auto told, co_await control->order("GETINFO traffic/read traffic/written entry-guards"));
  TorTraffic out;
  auto count = [&](std::string_view key) {
    return std::strtoull(std::string(told.value(key).value_or("0")).c_str(), nullptr, 10);
  };
  out.read = count("traffic/read");
  out.written = count("traffic/written");
  std::string_view guards = told.value("entry-guards").value_or("");
  while (!guards.empty()) {
    std::size_t end = std::min(guards.find('\n'), guards.size());
    std::string_view line = guards.substr(0, end);
    guards.remove_prefix(std::min(end + 1, guards.size()));
    // "$FINGERPRINT~nickname up"
    if (line.size() > 42) out.guards.emplace_back(line.substr(42));
  }
  co_return out;
}

Task<ClosedCircuits> TorController::close_circuits(Address source) {
  ClosedCircuits out;
  if (impl_->at_rest) co_return out;
  TRY_VOID(impl_->connected());
  auto control = impl_->control;
  std::vector<std::string> commands;
  for (const std::string& id : impl_->book.streams_of(source)) commands.push_back("CLOSESTREAM " + id + " 1");
  const std::size_t streams = commands.size();
  // A circuit of which tor is not sure that it ever worked is tested first and closed later; asked again, at once.
  for (const std::string& id : impl_->book.circuits_of(source))
    commands.insert(commands.end(), 2, "CLOSECIRCUIT " + id);
  out.complete = impl_->barred && impl_->book.attributed();
  TRY(auto told, co_await control->ask_all(std::move(commands)));
  for (std::size_t i = 0; i < told.size(); ++i) {
    if (i >= streams && (i - streams) % 2 == 0 && told[i].ok()) ++out.count;
    // 552: it has closed by itself meanwhile.
    if (!told[i].ok() && told[i].status != 552) out.complete = false;
  }
  co_return out;
}

Task<int> TorController::new_identity(Address source) {
  const Instant end = impl_->runtime.now() + longest_barring;
  while (!impl_->barred && !impl_->at_rest) {
    TRY_VOID(impl_->connected());
    if (impl_->runtime.now() >= end)
      co_return Error(errc::tor_unavailable, "tor has not let go yet of the circuits from before the daemon's start");
    auto told = impl_->barring.wait(impl_->barring.revision());
    auto slept = impl_->runtime.sleep_until(end);
    (void)co_await first_of(std::move(told), std::move(slept));
    bool leave = co_await is_cancelled();
    if (leave) co_return Error(errc::cancelled);
  }
  TRY(auto closed, co_await close_circuits(source));
  co_return closed.count;
}

Task<void> TorController::end() {
  co_return co_await impl_->end_process();
}

}  // namespace tornado::inline v1
