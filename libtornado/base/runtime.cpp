#include "tornado/runtime.hpp"

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "base/blocking_pool.hpp"
#include "base/cancellation.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {
namespace {

class SystemClock final : public Clock {
 public:
  Instant now() const override {
    return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  }
};

constexpr std::chrono::seconds smallest_step{2};

/// In its coroutine's frame; the map of sleepers points to it.
struct Sleeper {
  explicit Sleeper(asio::io_context& io) : timer(io, asio::steady_timer::time_point::max()) {}
  asio::steady_timer timer;
  std::multimap<Instant, Sleeper*>::iterator place;
  bool due = false;
};

}  // namespace

Clock& system_clock() noexcept {
  static SystemClock clock;
  return clock;
}

struct Runtime::Impl {
  Metrics metrics;
  Impl(Clock* clock_, LogSink* log_, int threads, int hashing, asio::io_context* loop)
      : clock(clock_ != nullptr ? *clock_ : system_clock()),
        log(log_ != nullptr ? *log_ : null_log()),
        own(loop == nullptr ? std::make_unique<asio::io_context>() : nullptr),
        io(loop != nullptr ? *loop : *own),
        work(io.get_executor()),
        alarm(io),
        pool(threads, hashing) {}

  ~Impl() {
    pool.close();
    work.reset();
  }

  /// The wall clock was set back: who sleeps for a while must not sleep for that while and the step.
  void follow_steps() {
    if (&clock != &system_clock()) return;
    auto steady = std::chrono::steady_clock::now();
    Instant now = clock.now();
    auto step = (now - seen_at) - std::chrono::duration_cast<std::chrono::milliseconds>(steady - seen_steady);
    seen_at = now;
    seen_steady = steady;
    if (step > -smallest_step) return;
    std::multimap<Instant, Sleeper*> moved;
    for (const auto& [at, sleeper] : sleepers) sleeper->place = moved.emplace(at + step, sleeper);
    sleepers.swap(moved);
  }

  /// Wakes sleepers whose instant has come.
  void wake_due() {
    Instant now = clock.now();
    for (auto it = sleepers.begin(); it != sleepers.end() && it->first <= now; ++it) {
      it->second->due = true;
      it->second->timer.cancel();
    }
  }

  /// One timer stands for all sleepers; at most a second, so that a step of the wall clock is noticed.
  void arm() {
    if (sleepers.empty() || &clock != &system_clock()) return;
    auto wait = std::clamp(sleepers.begin()->first - clock.now(), std::chrono::milliseconds(0),
                           std::chrono::milliseconds(1000));
    auto at = std::chrono::steady_clock::now() + wait;
    if (armed && at >= armed_at) return;
    armed = true;
    armed_at = at;
    alarm.expires_at(at);
    alarm.async_wait([this, alive = std::weak_ptr<bool>(here)](const boost::system::error_code& ec) {
      if (ec || alive.expired()) return;
      armed = false;
      follow_steps();
      wake_due();
      rearm_later();
    });
  }

  /// Sleepers that were woken leave the map when they resume, after this handler.
  void rearm_later() {
    asio::post(io, [this, alive = std::weak_ptr<bool>(here)] {
      if (!alive.expired()) arm();
    });
  }

  void run_until(const bool& done) {
    auto before = loop_thread.exchange(std::this_thread::get_id());
    while (!done) {
      wake_due();
      if (io.run_one() == 0) io.restart();
    }
    loop_thread.store(before);
  }

  Clock& clock;
  LogSink& log;
  std::multimap<Instant, Sleeper*> sleepers;
  std::unique_ptr<asio::io_context> own;
  asio::io_context& io;
  asio::executor_work_guard<asio::io_context::executor_type> work;
  asio::steady_timer alarm;
  Instant seen_at = clock.now();
  std::chrono::steady_clock::time_point seen_steady = std::chrono::steady_clock::now();
  bool armed = false;
  std::chrono::steady_clock::time_point armed_at;
  std::atomic<std::thread::id> loop_thread{};
  std::atomic<bool> threaded{false};
  std::shared_ptr<bool> here = std::make_shared<bool>();  // handlers in a lent loop may run when this has gone
  BlockingPool pool;
};

int RuntimeOptions::default_hashing_threads() noexcept {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 4);
}

Runtime::Runtime(RuntimeOptions options)
    : impl_(std::make_unique<Impl>(options.clock_, options.log_, options.blocking_threads_, options.hashing_threads_,
                                   options.loop_)) {}

Runtime::~Runtime() = default;

Clock& Runtime::clock() const noexcept {
  return impl_->clock;
}
LogSink& Runtime::log() const noexcept {
  return impl_->log;
}
Metrics& Runtime::metrics() const noexcept {
  return impl_->metrics;
}
asio::any_io_executor Runtime::executor() const {
  return impl_->io.get_executor();
}
asio::io_context& Runtime::loop() const noexcept {
  return impl_->io;
}
bool Runtime::on_loop_thread() const noexcept {
  return impl_->loop_thread.load() == std::this_thread::get_id();
}
int Runtime::hashing_threads() const noexcept {
  return impl_->pool.hashing_threads();
}
std::size_t Runtime::blocking_queue(Blocking purpose) const {
  return impl_->pool.waiting(purpose);
}

bool Runtime::drive(asio::awaitable<void> task) {
  if (on_loop_thread()) return false;
  if (impl_->threaded) {
    std::promise<void> ended;
    auto future = ended.get_future();
    asio::co_spawn(impl_->io, without_throwing(std::move(task)), [&](std::exception_ptr) { ended.set_value(); });
    future.wait();
    return true;
  }
  bool done = false;
  asio::co_spawn(impl_->io, without_throwing(std::move(task)), [&](std::exception_ptr) { done = true; });
  impl_->run_until(done);
  return true;
}

void Runtime::settle() {
  if (impl_->threaded) return;
  auto before = impl_->loop_thread.exchange(std::this_thread::get_id());
  for (;;) {
    impl_->wake_due();
    if (impl_->io.stopped()) impl_->io.restart();
    if (impl_->io.poll() == 0) break;
  }
  impl_->loop_thread.store(before);
}

LoopThread Runtime::start() {
  struct Running {
    Running(Impl& impl_, std::thread thread_) : impl(impl_), thread(std::move(thread_)) {}
    Impl& impl;
    std::thread thread;
    ~Running() {
      impl.io.stop();
      thread.join();
      impl.io.restart();
      impl.threaded = false;
    }
  };
  impl_->threaded = true;
  std::promise<void> up;
  auto running = std::make_shared<Running>(*impl_, std::thread([this, &up] {
    impl_->loop_thread = std::this_thread::get_id();
    up.set_value();
    impl_->io.run();
    impl_->loop_thread = std::thread::id();
  }));
  up.get_future().wait();
  return LoopThread(std::move(running));
}

Background Runtime::spawn(Task<void> task) {
  struct State {
    explicit State(Runtime& runtime_) : runtime(runtime_) {}
    Runtime& runtime;
    asio::cancellation_signal cancel;
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
  };
  struct Handle {
    explicit Handle(std::shared_ptr<State> state_) : state(std::move(state_)) {}
    std::shared_ptr<State> state;
    ~Handle() {
      Runtime& runtime = state->runtime;
      asio::post(runtime.loop(), [s = state] { s->cancel.emit(asio::cancellation_type::terminal); });
      if (runtime.impl_->threaded && !runtime.on_loop_thread()) {
        std::unique_lock lock(state->mutex);
        state->changed.wait(lock, [&] { return state->done; });
      } else {
        runtime.impl_->run_until(state->done);
      }
    }
  };
  auto state = std::make_shared<State>(*this);
  auto body = [](Task<void> inner, LogSink& log) -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    try {
      auto result = co_await std::move(inner);
      if (!result && result.error().code() != errc::cancelled)
        log.write(LogLevel::error, "background_task_failed",
                  {{"code", std::string(name(result.error().code()))}, {"detail", result.error().detail()}});
    } catch (const std::exception& e) {
      log.write(LogLevel::error, "background_task_threw", {{"detail", e.what()}});
    }
  };
  auto ended = [state](std::exception_ptr) {
    std::lock_guard lock(state->mutex);
    state->done = true;
    state->changed.notify_all();
  };
  asio::co_spawn(impl_->io, body(std::move(task), impl_->log),
                 asio::bind_cancellation_slot(state->cancel.slot(), ended));
  return Background(std::make_shared<Handle>(std::move(state)));
}

asio::awaitable<bool> Runtime::sleep_until(Instant instant) {
  // A cancellation that came while nothing could be cancelled is noticed here.
  bool cancelled = co_await is_cancelled();
  if (cancelled) co_return false;
  impl_->follow_steps();
  struct Entry : Sleeper {
    Entry(Runtime::Impl& impl_, Instant at) : Sleeper(impl_.io), impl(impl_) {
      place = impl.sleepers.emplace(at, this);
    }
    ~Entry() { impl.sleepers.erase(place); }
    Runtime::Impl& impl;
  };
  Entry entry(*impl_, instant);
  impl_->arm();
  co_await entry.timer.async_wait(asio::as_tuple(asio::use_awaitable));
  co_return entry.due;
}

asio::awaitable<bool> Runtime::run_blocking(Blocking purpose, std::function<void()> job) {
  auto initiate = [this, purpose](auto handler, std::function<void()> work) {
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    auto finish = [shared, this](bool accepted) {
      asio::post(impl_->io, [shared, accepted] { std::move (*shared)(accepted); });
    };
    bool accepted = impl_->pool.post(purpose, [work = std::move(work), finish] {
      try {
        work();
      } catch (...) {
        // The caller sees that no result was written and reports `internal`.
      }
      finish(true);
    });
    if (!accepted) finish(false);
  };
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(initiate, asio::use_awaitable,
                                                                                     std::move(job));
}

}  // namespace tornado::inline v1
