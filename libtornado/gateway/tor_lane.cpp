// The tor lane follows Tor: through it while it is up, a page that says why while it is not.
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr Seconds first_retry{1}, longest_retry{30};

struct Words {
  std::string headline, detail;
};

/// What a person on the lane is told: true, short, and nothing about the gateway.
Words words_for(const TorStatus& status) {
  if (status.phase == TorPhase::launching || status.phase == TorPhase::bootstrapping) {
    std::string how_far = status.bootstrap > 0 ? " It is at " + std::to_string(status.bootstrap) + " percent." : "";
    return {"Tor is connecting", "This connection goes through Tor only, and Tor is not ready yet." + how_far};
  }
  if (status.phase == TorPhase::maintenance || status.phase == TorPhase::stopped)
    return {"Tor is switched off",
            "The operator of this gateway has taken the Tor lane out of service for now. "
            "The other lane is not affected."};
  return {"Tor is not working",
          "This connection goes through Tor only, and Tor cannot be used at the moment. "
          "It is tried again all the time."};
}

}  // namespace

/// Before the first ruleset: a tor that runs from before and is up goes on without a break.
Task<void> Gateway::Impl::prepare_tor() {
  if (config.tor.launch == "none" || in_memory()) {
    components["tor"] = Component("tor", true, "none is wanted: the lane is closed");
    co_return Result<void>();
  }
  TorOptions options = config.tor_options();
  if (!parts.exec_as.empty()) {
    options.launcher = parts.exec_as;
    options.launcher.push_back(options.account);
  }
  Pool pool = config.pool("tor");
  tor = std::make_unique<TorController>(runtime, std::move(options));
  page = std::make_unique<MaintenancePage>(runtime);
  DnsResponderOptions answers(pool.gateway());
  answers.v6 = pool.gateway6();
  for (const auto& [name, address] : config.tor_options().names) answers.names[name] = {address};
  responder = std::make_unique<DnsResponder>(runtime, answers);
  std::vector<Address> own{pool.gateway()};
  if (pool.gateway6()) own.push_back(*pool.gateway6());
  for (const Address& address : own) {
    page_missing.emplace_back(address, config.tor.page_port);
    responder_missing.emplace_back(address, config.tor.responder_port);
  }
  page_missing = listen_on("tor_page", std::move(page_missing), listen_page());
  responder_missing = listen_on("tor_responder", std::move(responder_missing), listen_responder());
  auto found = co_await tor->look();
  bool up = found && found->phase == TorPhase::up;
  tor_mode = up ? LaneMode::tor : LaneMode::maintenance;
  tor_settled = co_await recorded_lane_mode();
  say_tor(tor->status());
  co_return Result<void>();
}

Gateway::Impl::Listen Gateway::Impl::listen_page() {
  return [this](const Endpoint& at) { return page->listen(at); };
}

Gateway::Impl::Listen Gateway::Impl::listen_responder() {
  return [this](const Endpoint& at) { return responder->listen(at); };
}

std::vector<Endpoint> Gateway::Impl::listen_on(const std::string& component, std::vector<Endpoint> places,
                                               const Listen& listen) {
  std::vector<Endpoint> missing;
  std::string why;
  for (const Endpoint& at : places) {
    auto listening = listen(at);
    if (listening) continue;
    missing.push_back(at);
    if (why.empty()) why = listening.error().detail();
  }
  Component told(component, missing.empty(), missing.empty() ? "listens" : why + "; it is tried again");
  told.advisory = true;
  components[component] = std::move(told);
  return missing;
}

/// A port that another program holds becomes free some day.
Task<void> Gateway::Impl::listen_again(std::string component, std::vector<Endpoint> missing, Listen listen) {
  for (Seconds rest = first_retry; !missing.empty(); rest = std::min(rest * 2, longest_retry)) {
    bool slept = co_await runtime.sleep_until(runtime.now() + rest);
    if (!slept) co_return Error(errc::cancelled);
    missing = listen_on(component, std::move(missing), listen);
  }
  co_return Result<void>();
}

void Gateway::Impl::attach_tor() {
  if (!tor) return;
  background.add("tor_page", listen_again("tor_page", std::move(page_missing), listen_page()));
  background.add("tor_names", listen_again("tor_responder", std::move(responder_missing), listen_responder()));
  cutter.circuits_of(*tor, Lane("tor"));
  background.add("tor", tor->run());
  background.add("tor_watch", run_tor_watch());
  background.add("tor_responder", responder->run());
}

void Gateway::Impl::say_tor(const TorStatus& status) {
  Words words = words_for(status);
  page->say(words.headline, words.detail);
  bool as_wished = status.wish == TorWish::up ? status.phase == TorPhase::up : !status.error;
  std::string detail(name(status.phase));
  if (status.phase == TorPhase::bootstrapping) detail += " " + std::to_string(status.bootstrap) + " %";
  if (!status.reason.empty()) detail += ": " + status.reason;
  if (!status.remedy.empty()) detail += " (" + status.remedy + ")";
  Component component("tor", as_wished, detail);
  component.advisory = true;
  components["tor"] = component;
}

/// The mode is on record first, so that a whole table that is applied meanwhile carries it, too.
Task<void> Gateway::Impl::set_tor_mode(LaneMode mode) {
  tor_mode = mode;
  // Whoever ends in between leaves flows of either mode.
  (void)co_await record_lane_mode(std::nullopt);
  TRY(auto wanted, co_await policy());
  if (tor_mode != mode) co_return Error(errc::superseded);
  TRY(ruleset, co_await compiled(std::move(wanted)));
  if (tor_mode != mode) co_return Error(errc::superseded);
  TRY_VOID(co_await parts.firewall->mode(ruleset, Lane("tor")));
  // After the change, or a flow in between would be tracked under the old one (I-25).
  Pool pool = config.pool("tor");
  TRY_VOID(co_await parts.host->flush_network(pool.v4));
  if (pool.v6) TRY_VOID(co_await parts.host->flush_network(*pool.v6));
  (void)co_await record_lane_mode(mode);
  co_return Result<void>();
}

/// The mode of which alone flows are tracked, for the next start; nothing: they may be of any. A disk that takes no
/// writes keeps no lane in its mode.
boost::asio::awaitable<void> Gateway::Impl::record_lane_mode(std::optional<LaneMode> mode) {
  if (tor_settled == mode) co_return;
  auto write = [&]() -> Result<void> {
    const std::string directory = config.tor_options().directory;
    TRY_VOID_PLAIN(make_directory(directory, 0700));
    return replace_file(directory + "/lane_mode", mode ? name(*mode) : "changing", 0600);
  };
  auto written = co_await runtime.offload(Blocking::file, write);
  if (written)
    tor_settled = mode;
  else
    runtime.log().write(LogLevel::warning, "lane_mode_not_recorded", {{"detail", written.error().detail()}});
}

boost::asio::awaitable<std::optional<LaneMode>> Gateway::Impl::recorded_lane_mode() {
  auto read = [this] { return read_file(config.tor_options().directory + "/lane_mode", 64); };
  auto text = co_await runtime.offload(Blocking::file, read);
  if (!text) co_return std::nullopt;
  for (LaneMode mode : {LaneMode::tor, LaneMode::maintenance})
    if (*text == name(mode)) co_return mode;
  co_return std::nullopt;
}

Task<void> Gateway::Impl::run_tor_watch() {
  // The table has the mode of the start already; flows of another one from before are flushed by setting it again.
  std::optional<LaneMode> done = tor_settled;
  TorPhase told = TorPhase::stopped;
  int percent = 0;
  Seconds retry = first_retry;
  for (std::uint64_t seen = 0;;) {
    TRY(auto status, co_await tor->changed(seen));
    seen = status.revision;
    say_tor(status);
    if (status.phase != told) {
      told = status.phase;
      json::object fields;
      fields["phase"] = std::string(name(status.phase));
      fields["bootstrap"] = status.bootstrap;
      fields["reason"] = status.reason;
      events.publish("tor_phase", to_json(fields));
    }
    if (status.bootstrap != percent) {
      percent = status.bootstrap;
      json::object fields;
      fields["percent"] = percent;
      fields["tag"] = status.tag;
      fields["summary"] = status.summary;
      events.publish("tor_bootstrap", to_json(fields));
    }
    LaneMode mode = status.phase == TorPhase::up ? LaneMode::tor : LaneMode::maintenance;
    if (mode == done) continue;
    auto changed = co_await set_tor_mode(mode);
    mode_failure = changed ? std::string() : "mode not set: " + changed.error().detail();
    say_lane(Lane("tor"));
    if (changed) {
      done = mode;
      retry = first_retry;
      events.publish("lane_mode", mode == LaneMode::tor ? R"({"lane":"tor","mode":"tor"})"
                                                        : R"({"lane":"tor","mode":"maintenance"})");
      continue;
    }
    runtime.log().write(LogLevel::error, "lane_mode_failed", {{"lane", "tor"}, {"detail", changed.error().detail()}});
    bool slept = co_await runtime.sleep_until(runtime.now() + retry);
    if (!slept) co_return Error(errc::cancelled);
    retry = std::min(retry * 2, longest_retry);
    seen = 0;
  }
}

Task<int> Gateway::new_identity(Caller caller, DeviceId device) {
  if (!impl_->tor) co_return Error(errc::failed_precondition, "this gateway runs without Tor: tor.launch is none");
  auto session = impl_->sessions.find(device);
  if (!session) co_return Error(errc::not_found, "the device has no session");
  int closed = 0;
  for (const auto& address : session->addresses) {
    if (address.lane.str() != "tor") continue;
    TRY(int some, co_await impl_->tor->new_identity(address.v4));
    closed += some;
    if (!address.v6) continue;
    TRY(int more, co_await impl_->tor->new_identity(*address.v6));
    closed += more;
  }
  impl_->runtime.log().write(LogLevel::info, "tor_new_identity", {{"operator", caller.name}, {"device", device.str()}});
  co_return closed;
}

Task<std::vector<Circuit>> Gateway::circuits(std::optional<DeviceId> device) {
  if (!impl_->tor) co_return Error(errc::failed_precondition, "this gateway runs without Tor: tor.launch is none");
  TRY(auto all, co_await impl_->tor->circuits());
  if (!device) co_return all;
  auto session = impl_->sessions.find(*device);
  if (!session) co_return Error(errc::not_found, "the device has no session");
  auto of_others = [&](const Circuit& circuit) {
    return std::none_of(circuit.sources.begin(), circuit.sources.end(), [&](const Address& source) {
      return std::any_of(session->addresses.begin(), session->addresses.end(),
                         [&](const LaneAddress& own) { return own.v4 == source || own.v6 == source; });
    });
  };
  std::erase_if(all, of_others);
  co_return all;
}

TorController* Gateway::tor() noexcept {
  return impl_->tor.get();
}

}  // namespace tornado::inline v1
