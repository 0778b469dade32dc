#pragma once

#include <deque>

#include "base/notifier.hpp"
#include "base/task_group.hpp"
#include "tor/circuit_book.hpp"
#include "tor/control_connection.hpp"
#include "tornado/supervisor.hpp"
#include "tornado/tor_controller.hpp"

namespace tornado::inline v1 {

struct TorController::Impl {
  Impl(Runtime& runtime, TorOptions options);

  // tor_controller.cpp: towards the wish.
  Task<void> load_wish(TorWish first);
  Task<void> look();
  Task<void> look_up();
  Task<void> converge();
  Task<void> step();
  Task<void> ensure_process();
  Task<void> take_over();
  Result<void> runs(const ChildStatus& child);
  ChildSpec spec();
  Task<void> launch();
  boost::asio::awaitable<void> stop_wished();
  Task<void> prepare();
  boost::asio::awaitable<void> halt_other();
  Task<void> ensure_control();
  Task<void> ensure_network(bool wanted);
  Task<void> judge();
  Task<void> run_child_watch();
  Task<void> answers();
  Task<void> end_process();
  void failed(const Error& error);
  void rested();
  std::chrono::milliseconds pause_after_failure();
  std::optional<ChildStatus> child() const;

  // tor_service.cpp: a tor that a service manager runs.
  Task<void> configure();
  Task<void> rest_service();
  void service_ended();

  // tor_events.cpp: what tor tells.
  Task<void> observe();
  Task<void> check_data_limit();
  Task<void> bar_strangers(std::shared_ptr<ControlConnection> from);
  void strangers_barred();
  Task<void> run_events(std::shared_ptr<ControlConnection> from);
  void event(const ControlReply& reply);
  void status_client(const ControlWords& words, std::string_view line);
  void status_general(const ControlWords& words);
  void say_warnings();
  void clock_set();
  void bootstrap(const BootstrapLine& line);

  // tor_probe.cpp
  Task<void> probe();

  void publish();
  void enter(TorPhase phase);
  void clear_cause();
  void forget_progress();
  Result<ControlConnection*> connected();
  std::string data() const { return options.directory + "/data"; }
  bool external() const { return !options.service.empty(); }
  /// Where control socket and cookie are.
  std::string place() const { return external() ? options.service : data(); }

  Runtime& runtime;
  TorOptions options;
  std::string configuration;  // the torrc
  // What the supervisor's probe uses, which ends with it.
  TaskGroup readers;  // of control connections
  std::shared_ptr<ControlConnection> control;
  Supervisor supervisor;
  CircuitBook book;
  bool barred = false;   // no stream comes any more on a circuit from before the control connection
  bool at_rest = false;  // no process runs, so nothing is open
  TorStatus status, published;
  Notifier changed, nudge, wished, barring, lost;
  std::string version_warning, clock_warning;
  Instant progress_at, probed_at, clock_warned_at;
  int probes_missed = 0, ports_missed = 0;
  int failures = 0;
  int served_before = 0;          // pid of the service's tor, when it was last seen
  std::deque<Instant> failed_at;  // within the breaker's window
  bool running = false;
  TaskGroup tasks;
};

}  // namespace tornado::inline v1
