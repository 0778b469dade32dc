#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>

#include "tornado/log.hpp"
#include "tornado/metrics.hpp"
#include "tornado/types.hpp"

namespace boost::asio {
class io_context;
}

namespace tornado::inline v1 {

/// A coroutine that ends with a value or an Error. It runs on the loop of the Runtime that drives it.
///
/// g++ 12 destroys some temporaries twice in a full expression with `co_await`: pass named values or types with
/// constructors, never a braced aggregate or a lambda with by-value captures.
template <class T>
using Task = boost::asio::awaitable<Result<T>>;

/// Tells the time and nothing else; waiting is `Runtime::sleep_until`.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
};

/// The wall clock. Any thread.
TORNADO_API Clock& system_clock() noexcept;

/// A running loop thread. Its destructor stops the loop and joins the thread: declare it after all that uses the loop.
class [[nodiscard]] TORNADO_API LoopThread {
 public:
  explicit LoopThread(std::shared_ptr<void> state) : state_(std::move(state)) {}
  LoopThread(LoopThread&&) = default;
  LoopThread& operator=(LoopThread&&) = default;

 private:
  std::shared_ptr<void> state_;
};

/// A task that runs beside its starter. Its destructor cancels it and drives the loop until it has ended: declare it
/// after everything the task uses.
class [[nodiscard]] TORNADO_API Background {
 public:
  Background() = default;
  explicit Background(std::shared_ptr<void> state) : state_(std::move(state)) {}
  Background(Background&&) = default;
  Background& operator=(Background&&) = default;
  /// Cancels and waits now.
  void stop() { state_.reset(); }

 private:
  std::shared_ptr<void> state_;
};

/// What a Runtime is made of; everything has a default.
class TORNADO_API RuntimeOptions {
 public:
  /// Time source; must outlive the Runtime. Default: the system clock.
  RuntimeOptions& clock(Clock& value) {
    clock_ = &value;
    return *this;
  }
  /// Log sink; must outlive the Runtime. Default: none.
  RuntimeOptions& log(LogSink& value) {
    log_ = &value;
    return *this;
  }
  /// Threads for blocking work, 1 to 64. Default 2.
  RuntimeOptions& blocking_threads(int value) {
    blocking_threads_ = value;
    return *this;
  }
  /// Threads for password hashing, 1 to 64, at a lower priority. Default: one per core, at most 4.
  RuntimeOptions& hashing_threads(int value) {
    hashing_threads_ = value;
    return *this;
  }
  /// An embedder's loop; must outlive the Runtime. Default: an own one.
  RuntimeOptions& loop(boost::asio::io_context& value) {
    loop_ = &value;
    return *this;
  }

 private:
  friend class Runtime;
  static int default_hashing_threads() noexcept;
  Clock* clock_ = nullptr;
  LogSink* log_ = nullptr;
  int blocking_threads_ = 2;
  int hashing_threads_ = default_hashing_threads();
  boost::asio::io_context* loop_ = nullptr;
};

/// Why something runs on the blocking pool. Each purpose has a bounded queue and a limit of threads of its own, so
/// that a storm of one cannot starve another.
enum class Blocking : std::uint8_t { database, signing, file, hashing };

/// The environment: one loop, a pool for blocking calls, a clock, a log sink.
///
/// All objects made with a Runtime belong to its loop: their plain methods are called on the loop thread (or while no
/// thread runs it), their tasks run there. A Runtime outlives everything made with it.
class TORNADO_API Runtime {
 public:
  /// Throws std::invalid_argument for an impossible number of threads.
  explicit Runtime(RuntimeOptions options = RuntimeOptions());
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Runs a task to its end and returns its result. Drives the loop on the calling thread, or posts and blocks if
  /// `start` gave the loop a thread. Errors: those of the task; wrong_thread on the loop thread itself; internal if
  /// the task threw.
  template <class T>
  Result<T> wait(Task<T> task);

  /// Runs a callable on the loop and returns its value; blocks. For plain methods while a thread runs the loop. On
  /// the loop thread itself it just calls.
  template <class F>
  auto call(F&& fn) -> std::invoke_result_t<F&>;

  /// Starts a task beside the caller. Declare the result after everything the task uses.
  [[nodiscard]] Background spawn(Task<void> task);

  /// Gives the loop a thread of its own.
  [[nodiscard]] LoopThread start();

  /// Waits for an instant of the Runtime's clock. False: cancelled. Ends late, never early, and notices steps of the
  /// system clock within a second.
  boost::asio::awaitable<bool> sleep_until(Instant instant);

  /// Runs `fn` on the blocking pool and resumes on the loop. Not cancellable once begun. Errors: overloaded when the
  /// queue of that purpose is full; internal if it threw. `fn` is taken by reference and must outlive the call.
  template <class F>
  auto offload(Blocking purpose, F& fn) -> boost::asio::awaitable<std::invoke_result_t<F&>>;

  /// Runs whatever is ready now, sleepers that are due included, and returns. For tests on a manual clock.
  void settle();

  Clock& clock() const noexcept;
  Instant now() const { return clock().now(); }
  LogSink& log() const noexcept;
  Metrics& metrics() const noexcept;
  boost::asio::any_io_executor executor() const;
  boost::asio::io_context& loop() const noexcept;
  /// True on the thread that runs the loop right now.
  bool on_loop_thread() const noexcept;
  /// Jobs waiting for a thread, for health and metrics.
  std::size_t blocking_queue(Blocking purpose) const;
  int hashing_threads() const noexcept;

  struct Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  /// False on the loop thread itself.
  bool drive(boost::asio::awaitable<void> task);
  boost::asio::awaitable<bool> run_blocking(Blocking purpose, std::function<void()> job);

  std::unique_ptr<Impl> impl_;
};

template <class T>
Result<T> Runtime::wait(Task<T> task) {
  std::optional<Result<T>> out;
  auto body = [](Task<T> inner, std::optional<Result<T>>& result) -> boost::asio::awaitable<void> {
    try {
      result.emplace(co_await std::move(inner));
    } catch (const std::exception& e) {
      result.emplace(Error(errc::internal, e.what()));
    }
  };
  if (!drive(body(std::move(task), out))) return Error(errc::wrong_thread, "Runtime::wait was called on the loop");
  if (!out) return Error(errc::cancelled);
  return std::move(*out);
}

template <class F>
auto Runtime::call(F&& fn) -> std::invoke_result_t<F&> {
  using R = std::invoke_result_t<F&>;
  if (on_loop_thread()) return fn();
  if constexpr (std::is_void_v<R>) {
    auto body = [](F& f) -> boost::asio::awaitable<void> {
      f();
      co_return;
    };
    drive(body(fn));
  } else {
    std::optional<R> out;
    auto body = [](F& f, std::optional<R>& result) -> boost::asio::awaitable<void> {
      result.emplace(f());
      co_return;
    };
    drive(body(fn, out));
    return std::move(*out);
  }
}

template <class F>
auto Runtime::offload(Blocking purpose, F& fn) -> boost::asio::awaitable<std::invoke_result_t<F&>> {
  using R = std::invoke_result_t<F&>;
  std::optional<R> out;
  std::function<void()> job = [&fn, &out] { out.emplace(fn()); };
  bool accepted = co_await run_blocking(purpose, std::move(job));
  if (!accepted) co_return R(Error(errc::overloaded, "queue of the blocking pool is full"));
  if (!out) co_return R(Error(errc::internal, "a blocking job threw"));
  co_return std::move(*out);
}

}  // namespace tornado::inline v1
