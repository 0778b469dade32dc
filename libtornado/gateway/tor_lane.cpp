// The tor lane follows Tor: through it while it is up, a page that says why while it is not.
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
  auto listen = [&](const Address& at) -> Result<void> {
    TRY_VOID_PLAIN(page->listen(Endpoint(at, config.tor.page_port)));
    return responder->listen(Endpoint(at, config.tor.responder_port));
  };
  auto listening = listen(pool.gateway());
  if (listening && pool.gateway6()) listening = listen(*pool.gateway6());
  components["tor_page"] = Component("tor_page", listening.has_value(), listening ? "" : listening.error().detail());
  components["tor_page"].advisory = true;
  auto found = co_await tor->look();
  bool up = found && found->phase == TorPhase::up;
  tor_mode = up ? LaneMode::tor : LaneMode::maintenance;
  say_tor(tor->status());
  co_return Result<void>();
}

void Gateway::Impl::attach_tor() {
  if (!tor) return;
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
  TRY(auto wanted, co_await policy());
  if (tor_mode != mode) co_return Error(errc::superseded);
  TRY(ruleset, co_await compiled(std::move(wanted)));
  if (tor_mode != mode) co_return Error(errc::superseded);
  TRY_VOID(co_await parts.firewall->mode(ruleset, Lane("tor")));
  // After the change, or a flow in between would be tracked under the old one (I-25).
  Pool pool = config.pool("tor");
  TRY_VOID(co_await parts.host->flush_network(pool.v4));
  if (pool.v6) TRY_VOID(co_await parts.host->flush_network(*pool.v6));
  co_return Result<void>();
}

Task<void> Gateway::Impl::run_tor_watch() {
  LaneMode done = tor_mode;
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
