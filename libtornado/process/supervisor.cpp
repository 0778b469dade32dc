#include "tornado/supervisor.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>

#include "base/cancellation.hpp"
#include "base/notifier.hpp"
#include "base/try.hpp"
#include "process/child.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_backoff{200}, longest_backoff{30'000};
constexpr std::size_t breaker_deaths = 5;
constexpr Seconds breaker_window{60}, breaker_pause{60}, stop_grace{5};
constexpr milliseconds first_probe_pause{10}, longest_probe_pause{200};
constexpr int probes_missed = 3;

Result<void> check(const ChildSpec& spec) {
  auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  bool named = !spec.name.empty() && spec.name[0] != '.' && spec.name.size() <= 100 &&
               std::all_of(spec.name.begin(), spec.name.end(), plain);
  if (!named) return Error(errc::invalid_argument, "a child's name is made of a-z 0-9 . _ -");
  if (spec.argv.empty() || !spec.argv[0].starts_with('/'))
    return Error(errc::invalid_argument, spec.name + ": the program is not an absolute path");
  if (!spec.probe) return Error(errc::invalid_argument, spec.name + ": no probe");
  return {};
}

class Child {
 public:
  Child(Runtime& runtime, Notifier& changed_, ChildSpec spec_, const std::string& directory)
      : changed(changed_),
        alarm(runtime),
        spec(std::move(spec_)),
        log_path(directory + "/" + spec.name + ".log"),
        record_path(directory + "/" + spec.name + ".json") {
    status.name = spec.name;
  }

  void become(ChildState state, Instant now) {
    status.state = state;
    status.pid = process ? process->identity().pid : 0;
    status.since = now;
    changed.notify();
  }

  Notifier& changed;
  Notifier alarm;  // wakes the watch from its backoff
  ChildSpec spec;
  std::string log_path, record_path;
  ChildStatus status;
  std::unique_ptr<Process> process;
  std::deque<Instant> deaths;  // within the breaker's window
  int failures_in_a_row = 0;
  bool stopping = false;
  bool over = false;                    // the watch has ended
  std::optional<Result<void>> outcome;  // of the first start
  Background watch;
};

/// True when the watch is to end: the child is being stopped, or the Supervisor goes and leaves it running.
asio::awaitable<bool> leaving(const Child& child) {
  bool cancelled = co_await is_cancelled();
  co_return child.stopping || cancelled;
}

}  // namespace

struct Supervisor::Impl {
  Impl(Runtime& runtime_, std::string directory_)
      : runtime(runtime_), directory(std::move(directory_)), changed(runtime_) {
    ::mkdir(directory.c_str(), 0700);
  }

  Task<void> watch(std::shared_ptr<Child> child);
  Task<void> begin(Child& child, bool may_adopt);
  Task<void> adopt(Child& child);
  Task<void> start(Child& child);
  Task<void> ready(Child& child, Seconds within);
  boost::asio::awaitable<void> record_again(Child& child);
  Task<void> live(Child& child);
  Task<void> end(Child& child);
  Task<void> revive(Child& child, Error why);
  Task<std::string> output_of(Child& child);
  milliseconds pause_after_death(Child& child);
  void died(Child& child, const std::string& reason);

  Runtime& runtime;
  std::string directory;
  Notifier changed;
  std::map<std::string, std::shared_ptr<Child>> children;
};

Task<std::string> Supervisor::Impl::output_of(Child& child) {
  auto read = [&child]() -> Result<std::string> {
    trim_log(child.log_path);
    return log_tail(child.log_path);
  };
  co_return co_await runtime.offload(Blocking::file, read);
}

/// Takes over the process of a record. Any error: there is none to take over.
Task<void> Supervisor::Impl::adopt(Child& child) {
  auto read = [&child] { return read_record(child.record_path); };
  TRY(auto recorded, co_await runtime.offload(Blocking::file, read));
  auto own = ProcessIdentity::of(::getpid());
  if (!own || own->network_namespace != recorded.network_namespace)
    co_return Error(errc::failed_precondition, "the recorded process is in another network namespace");
  TRY(auto process, Process::open(runtime, recorded));
  if (!(process->identity() == recorded)) co_return Error(errc::failed_precondition, "it runs another program");
  child.process = std::move(process);
  child.status.adopted = true;
  co_return Result<void>();
}

Task<void> Supervisor::Impl::start(Child& child) {
  Launch request;
  request.argv = child.spec.argv;
  request.environment = child.spec.environment;
  request.log_path = child.log_path;
  request.record_path = child.record_path;
  auto run = [&request] { return launch(request); };
  TRY(auto identity, co_await runtime.offload(Blocking::file, run));
  child.status.adopted = false;
  auto opened = Process::open(runtime, identity);
  if (opened) {
    child.process = std::move(*opened);
    co_return Result<void>();
  }
  TRY(auto output, co_await output_of(child));
  co_return Error(errc::backend_failed, "died at once: " + output);
}

/// Ends the process, whatever it does, and forgets it.
Task<void> Supervisor::Impl::end(Child& child) {
  bool gone = co_await child.process->finish(stop_grace);
  if (!gone) co_return Error(errc::backend_failed, child.spec.name + " cannot be ended");
  child.process.reset();
  ::unlink(child.record_path.c_str());
  co_return Result<void>();
}

/// A launcher or script has become another program by now: adoption must find what it will see.
asio::awaitable<void> Supervisor::Impl::record_again(Child& child) {
  auto then = child.process->identity();
  auto now = ProcessIdentity::of(then.pid);
  if (!now || *now == then || now->start_time != then.start_time) co_return;
  auto opened = Process::open(runtime, *now);
  if (!opened) co_return;
  child.process = std::move(*opened);
  auto write = [&now, &child] { return write_record(child.record_path, *now); };
  auto written = co_await runtime.offload(Blocking::file, write);
  if (written) co_return;
  runtime.log().write(LogLevel::warning, "child_record_failed",
                      {{"child", child.spec.name}, {"reason", written.error().detail()}});
}

/// Probes until the child answers. A child that does not in time is ended; the last probe begins after the time is up,
/// for a host that stood still has given it none.
Task<void> Supervisor::Impl::ready(Child& child, Seconds within) {
  auto limit = std::chrono::steady_clock::now() + within;
  milliseconds pause = first_probe_pause;
  Result<void> answer;
  for (bool gone = false, late = false; !gone && !late;) {
    late = std::chrono::steady_clock::now() >= limit;
    answer = co_await child.spec.probe();
    bool leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    if (answer && !child.process->ended()) co_return answer;
    gone = co_await child.process->ends_within(pause);
    leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    pause = std::min(pause * 2, longest_probe_pause);
  }
  bool died = child.process->ended();
  TRY_VOID(co_await end(child));
  TRY(auto output, co_await output_of(child));
  if (died) co_return Error(errc::backend_failed, "died before it was ready: " + output);
  co_return Error(errc::deadline_exceeded, "not ready in time (" + answer.error().detail() + "): " + output);
}

Task<void> Supervisor::Impl::begin(Child& child, bool may_adopt) {
  child.become(ChildState::starting, runtime.now());
  Result<void> adopted = errc::not_found;
  if (may_adopt) adopted = co_await adopt(child);
  bool leave = co_await leaving(child);
  if (leave) co_return Error(errc::cancelled);
  if (adopted) {
    auto answers = co_await ready(child, std::min(child.spec.ready_within, probes_missed * child.spec.check_every));
    if (answers || answers.error().code() == errc::cancelled) co_return answers;
    runtime.log().write(LogLevel::warning, "child_not_adopted",
                        {{"child", child.spec.name}, {"reason", answers.error().detail()}});
  }
  if (child.process) {
    TRY_VOID(co_await end(child));
  }
  TRY_VOID(co_await start(child));
  child.become(ChildState::starting, runtime.now());
  leave = co_await leaving(child);
  if (leave) co_return Error(errc::cancelled);
  co_return co_await ready(child, child.spec.ready_within);
}

/// Returns when the child has died or does not answer any more, or when the watch is to end (cancelled).
Task<void> Supervisor::Impl::live(Child& child) {
  for (int missed = 0;;) {
    auto task = record_again(child);
    co_await std::move(task);
    bool leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    bool gone = co_await child.process->ends_within(child.spec.check_every);
    leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    auto output = co_await output_of(child);
    if (gone) {
      TRY_VOID(co_await end(child));
      co_return Error(errc::backend_failed, "died: " + (output ? *output : std::string()));
    }
    leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    auto answer = co_await child.spec.probe();
    leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    missed = answer ? 0 : missed + 1;
    if (missed < probes_missed || child.process->ended()) continue;
    TRY_VOID(co_await end(child));
    co_return Error(errc::backend_failed, "stopped answering: " + answer.error().detail());
  }
}

void Supervisor::Impl::died(Child& child, const std::string& reason) {
  Instant now = runtime.now();
  child.status.reason = reason;
  ++child.status.restarts;
  child.deaths.push_back(now);
  while (child.deaths.front() + breaker_window <= now) child.deaths.pop_front();
  runtime.log().write(LogLevel::error, "child_died", {{"child", child.spec.name}, {"reason", reason}});
}

/// How long a dead child stays dead.
milliseconds Supervisor::Impl::pause_after_death(Child& child) {
  bool broken = child.deaths.size() >= breaker_deaths;
  child.become(broken ? ChildState::broken : ChildState::backing_off, runtime.now());
  if (!broken) return std::min(first_backoff * (1 << std::min(child.failures_in_a_row++, 10)), longest_backoff);
  child.deaths.clear();
  runtime.log().write(LogLevel::error, "child_breaker_open", {{"child", child.spec.name}});
  return breaker_pause;
}

/// Starts a dead child until it is up again. An error: the watch is to end.
Task<void> Supervisor::Impl::revive(Child& child, Error why) {
  for (;;) {
    died(child, why.detail());
    Instant again = runtime.now() + pause_after_death(child);
    auto slept = runtime.sleep_until(again);
    auto told = child.alarm.wait(child.alarm.revision());
    (void)co_await first_of(std::move(slept), std::move(told));
    bool leave = co_await leaving(child);
    if (leave) co_return Error(errc::cancelled);
    auto begun = co_await begin(child, false);
    leave = co_await leaving(child);
    if (begun || leave) co_return begun;
    why = begun.error();
  }
}

/// The one coroutine that touches the process of a child, from the first start to the end.
Task<void> Supervisor::Impl::watch(std::shared_ptr<Child> child) {
  auto begun = co_await begin(*child, true);
  child->outcome = begun;
  while (begun) {
    Instant since = runtime.now();
    child->become(ChildState::running, since);
    auto ended = co_await live(*child);
    if (runtime.now() - since >= breaker_window) child->failures_in_a_row = 0;
    bool leave = co_await leaving(*child);
    begun = Error(errc::cancelled);
    if (!leave) begun = co_await revive(*child, ended.error());
  }
  if (child->stopping && child->process) child->outcome = co_await end(*child);
  if (!child->stopping) child->status.reason = begun.error().detail();
  child->over = true;
  child->become(ChildState::stopped, runtime.now());
  co_return Result<void>();
}

Supervisor::Supervisor(Runtime& runtime, std::string directory)
    : impl_(std::make_unique<Impl>(runtime, std::move(directory))) {}

Supervisor::~Supervisor() {
  for (auto& [name, child] : impl_->children) child->watch.stop();
}

Task<void> Supervisor::ensure(ChildSpec spec) {
  TRY_VOID(check(spec));
  auto& slot = impl_->children[spec.name];
  if (slot && !slot->over) co_return Error(errc::already_exists, spec.name + " is watched already");
  auto child = slot = std::make_shared<Child>(impl_->runtime, impl_->changed, std::move(spec), impl_->directory);
  child->watch = impl_->runtime.spawn(impl_->watch(child));
  while (!child->outcome) {
    bool more = co_await impl_->changed.wait(impl_->changed.revision());
    if (!more) co_return Error(errc::cancelled);
  }
  co_return *child->outcome;
}

Task<void> Supervisor::stop(std::string name) {
  auto it = impl_->children.find(name);
  if (it == impl_->children.end()) co_return Error(errc::not_found, "no child " + name);
  auto child = it->second;
  child->stopping = true;
  child->outcome = Result<void>();
  child->alarm.notify();
  if (child->process) child->process->wake();
  while (!child->over) {
    bool more = co_await impl_->changed.wait(impl_->changed.revision());
    if (!more) co_return Error(errc::cancelled);
  }
  impl_->children.erase(name);
  co_return *child->outcome;
}

void Supervisor::hurry(const std::string& name) {
  auto it = impl_->children.find(name);
  if (it != impl_->children.end()) it->second->alarm.notify();
}

std::vector<ChildStatus> Supervisor::status() const {
  std::vector<ChildStatus> out;
  for (const auto& [name, child] : impl_->children) out.push_back(child->status);
  return out;
}

Task<std::uint64_t> Supervisor::changed(std::uint64_t since) {
  bool more = co_await impl_->changed.wait(since);
  if (!more) co_return Error(errc::cancelled);
  co_return impl_->changed.revision();
}

}  // namespace tornado::inline v1
