// tornadod: parse, load, build, start, wait for a signal, stop.
#include <malloc.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/program_options.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "process/exec_as.hpp"
#include "process/own_process.hpp"
#include "process/service_manager.hpp"
#include "tornado/api_server.hpp"
#include "tornado/control.hpp"
#include "tornado/gateway.hpp"

namespace po = boost::program_options;
using namespace tornado;

namespace {

struct Options {
  Config config;
  bool check = false;
  bool teardown = false;
};

constexpr const char* help_text =
    "usage: tornadod [--config FILE] [--set key=value]... [--state-dir DIR] [--runtime-dir DIR]\n"
    "                [--check] [--teardown] [--version]\n\n"
    "Runs a Tornado gateway. Without a configuration it comes up on its defaults. SIGHUP reads it again and takes\n"
    "over what can change meanwhile (`tornadoctl config diff` says what that is).\n\n";
constexpr const char* examples_text =
    "\nexamples:\n"
    "  tornadod --config /etc/tornado/tornado.json\n"
    "  tornadod --set lanes.vpn.pool=10.20.0.0/16 --set dns.upstream=9.9.9.9\n"
    "  tornadod --check --config tornado.json      tells what is wrong and starts nothing\n"
    "  tornadod --teardown                         on stopping, peers, links and firewall table go too\n";

po::options_description described() {
  po::options_description out("options");
  auto add = out.add_options();
  add("config", po::value<std::string>(), "JSON file, comments allowed");
  add("set", po::value<std::vector<std::string>>()->composing(), "one key, after file and environment");
  add("state-dir", po::value<std::string>(), "as --set state_dir=DIR");
  add("runtime-dir", po::value<std::string>(), "as --set runtime_dir=DIR");
  add("check", "check the configuration and leave");
  add("teardown", "on stopping, remove peers, links and rules as well");
  add("version", "print the version and leave");
  add("help", "print this and leave");
  return out;
}

int say(const char* line) {
  return std::puts(line) >= 0 ? 0 : 1;
}

int fail(int status, const Error& error) {
  std::cerr << "tornadod: " << error.detail() << "\n";
  return status;
}

Result<Options> read_options(const po::variables_map& given, const char* const* environment) {
  Options out;
  if (given.count("config") > 0) {
    auto loaded = Config::load(given["config"].as<std::string>());
    if (!loaded) return loaded.error();
    out.config = *loaded;
  }
  if (auto merged = out.config.merge_environment(environment); !merged) return merged.error();
  std::vector<std::string> settings;
  if (given.count("set") > 0) settings = given["set"].as<std::vector<std::string>>();
  if (given.count("state-dir") > 0) settings.push_back("state_dir=" + given["state-dir"].as<std::string>());
  if (given.count("runtime-dir") > 0) settings.push_back("runtime_dir=" + given["runtime-dir"].as<std::string>());
  for (const auto& setting : settings) {
    auto equals = setting.find('=');
    if (equals == setting.npos) return Error(errc::invalid_config, "--set " + setting + ": key=value is expected");
    if (auto set = out.config.set(setting.substr(0, equals), setting.substr(equals + 1)); !set) return set.error();
  }
  out.check = given.count("check") > 0;
  out.teardown = given.count("teardown") > 0;
  if (auto checked = out.config.check(); !checked) return checked.error();
  return out;
}

/// Sessions are kept for weeks among readings that are over at once: with one arena and fixed thresholds what they
/// leave goes back to the system.
void keep_memory_small() {
  constexpr int threshold = 128 * 1024;
  (void)mallopt(M_ARENA_MAX, 1);
  (void)mallopt(M_MMAP_THRESHOLD, threshold);
  (void)mallopt(M_TRIM_THRESHOLD, threshold);
}

/// Beside the wait for the end, which is not to wait for a reload.
Task<void> reload_on(boost::asio::signal_set& hangups, Gateway& gateway) {
  for (;;) {
    auto [ec, number] = co_await hangups.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (ec) co_return Error(errc::cancelled);
    notify_service_manager("RELOADING=1");
    // What came of it is in the log.
    (void)co_await gateway.reload();
    if (!gateway.ready()) co_return Error(errc::cancelled);
    notify_service_manager("READY=1\nSTATUS=serving");
  }
}

Task<void> run(Runtime& runtime, Gateway& gateway, ApiServer& api, MetricsServer& metrics, ControlServer& control,
               boost::asio::signal_set& hangups, Background& reloading, std::vector<int> sockets) {
  boost::asio::signal_set signals(runtime.loop(), SIGTERM, SIGINT);
  if (auto started = co_await gateway.start(); !started) co_return started;
  if (auto opened = control.listen(); !opened) co_return opened;
  if (auto listening = co_await api.listen(std::move(sockets)); !listening) co_return listening;
  // A gateway without a monitor is better than none.
  if (auto measured = metrics.listen(); !measured)
    runtime.log().write(LogLevel::error, "metrics_unavailable", {{"detail", measured.error().detail()}});
  notify_service_manager("READY=1\nSTATUS=serving");
  // What the start has read leaves gaps that are not at the end.
  (void)malloc_trim(0);
  reloading = runtime.spawn(reload_on(hangups, gateway));
  auto [ec, number] = co_await signals.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  notify_service_manager("STOPPING=1");
  runtime.log().write(LogLevel::info, "stopping", {{"signal", ec ? "none" : std::to_string(number)}});
  co_return co_await api.drain(Seconds(3));
}

int serve(const Options& options, std::function<Result<Config>()> configuration, std::vector<int> sockets) {
  keep_memory_small();
  auto lock = lock_state(options.config.state_dir, options.config.runtime_dir);
  if (!lock) return fail(4, lock.error());
  auto log = json_log(options.config.log_level());
  Runtime runtime(RuntimeOptions().log(*log));
  // To the very end: by default this signal ends a process, in the middle of a stop as well.
  boost::asio::signal_set hangups(runtime.loop(), SIGHUP);
  GatewayParts parts;
  parts.exec_as = {own_path(), "--exec-as"};
  parts.configuration = std::move(configuration);
  Gateway gateway(runtime, options.config, std::move(parts));
  ApiServer api(runtime, gateway);
  MetricsServer metrics(runtime, gateway);
  ControlServer control(runtime, gateway);
  Background watchdog = runtime.spawn(beat_watchdog(runtime));
  Background reloading;  // from the end of the start to that of the stop, which waits for none
  auto ended = runtime.wait(run(runtime, gateway, api, metrics, control, hangups, reloading, std::move(sockets)));
  control.close();
  auto stopped = runtime.wait(options.teardown ? gateway.teardown() : gateway.stop());
  ::unlink((options.config.runtime_dir + "/tornadod.pid").c_str());
  if (!ended) return fail(1, ended.error());
  return stopped ? 0 : fail(1, stopped.error());
}

}  // namespace

int main(int argc, char** argv, char** environment) {
  // tornadod --exec-as ACCOUNT PROGRAM [ARGUMENT]...: for children that must not have our privileges.
  if (argc > 3 && std::string_view(argv[1]) == "--exec-as")
    return fail(1, exec_as(argv[2], std::vector<std::string>(argv + 3, argv + argc)));
  po::variables_map given;
  auto description = described();
  try {
    po::store(po::parse_command_line(argc, argv, description), given);
  } catch (const po::error& e) {
    std::cerr << "tornadod: " << e.what() << "; see tornadod --help\n";
    return 2;
  }
  if (given.count("help") > 0) {
    std::cout << help_text << description << examples_text;
    return 0;
  }
  if (given.count("version") > 0) return say("tornadod " TORNADO_VERSION);
  auto options = read_options(given, environment);
  if (!options) return fail(2, options.error());
  if (options->check) return say("the configuration is good");
  std::signal(SIGPIPE, SIG_IGN);
  auto again = [&]() -> Result<Config> {
    auto fresh = read_options(given, environment);
    return fresh ? Result<Config>(std::move(fresh->config)) : Result<Config>(fresh.error());
  };
  return serve(*options, again, inherited_sockets());
}
