// Another configuration for a gateway that runs.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

std::vector<ConfigChange> changes_between(const Config& running, const Config& wanted) {
  std::vector<ConfigChange> out;
  for (const std::string& key : running.diff(wanted)) {
    ConfigChange& change = out.emplace_back();
    change.key = key;
    change.running = running.value(key).value();
    change.wanted = wanted.value(key).value();
    change.reloadable = Config::reloadable(key);
  }
  return out;
}

bool is_of_firewall(const ConfigChange& change) {
  return change.reloadable && (change.key.starts_with("dns.") || change.key == "firewall.connections_per_device");
}

}  // namespace

Task<Config> Gateway::Impl::configuration() {
  if (!parts.configuration)
    co_return Error(errc::failed_precondition,
                    "the program around this gateway made its configuration; there is nothing to read anew");
  auto read = [this]() -> Result<Config> {
    TRY_PLAIN(auto fresh, parts.configuration());
    TRY_VOID_PLAIN(fresh.check());
    return fresh;
  };
  co_return co_await runtime.offload(Blocking::file, read);
}

/// One at a time; each reads anew, so that the last one has what was written last.
Task<std::vector<ConfigChange>> Gateway::Impl::reload() {
  while (reloading) {
    bool ended = co_await reloaded.wait(reloaded.revision());
    if (!ended) co_return Error(errc::cancelled);
  }
  reloading = true;
  auto changes = co_await read_and_take_over();
  reloading = false;
  reloaded.notify();
  if (!changes) runtime.log().write(LogLevel::error, "config_not_reloaded", {{"detail", changes.error().detail()}});
  co_return changes;
}

Task<std::vector<ConfigChange>> Gateway::Impl::read_and_take_over() {
  TRY(auto wanted, co_await configuration());
  auto changes = changes_between(config, wanted);
  TRY_VOID(co_await take_over(changes));
  co_return changes;
}

/// All that can be taken over or nothing: values are good together, and the ones that stay are not those of the file.
Task<void> Gateway::Impl::take_over(const std::vector<ConfigChange>& changes) {
  Config merged = config;
  boost::json::array applied, waiting;
  for (const ConfigChange& change : changes) {
    (change.reloadable ? applied : waiting).emplace_back(change.key);
    if (change.reloadable) TRY_VOID(merged.set(change.key, change.wanted));
  }
  auto fits = merged.check();
  if (!fits)
    co_return Error(errc::invalid_config, fits.error().detail() + "; some of the file holds after a restart only");
  const bool firewall = std::any_of(changes.begin(), changes.end(), is_of_firewall);
  if (firewall) TRY_VOID(co_await upstreams(merged.dns.upstream, merged.dns.upstream6));
  if (stopping) co_return Error(errc::cancelled, "the gateway is stopping");
  const LogLevel former = config.log_level();
  // Key by key: others read theirs beside the loop.
  for (const ConfigChange& change : changes)
    if (change.reloadable) TRY_VOID(config.set(change.key, change.wanted));
  ++config_revision;
  boost::json::object fields;
  fields["applied"] = std::move(applied);
  fields["waiting"] = std::move(waiting);
  // At a level that lets it through, if the former or the new one does.
  runtime.log().least(std::min(former, config.log_level()));
  runtime.log().write(LogLevel::info, "config_reloaded",
                      {{"applied", to_json(fields["applied"])}, {"waiting", to_json(fields["waiting"])}});
  runtime.log().least(config.log_level());
  events.publish("config_reloaded", to_json(fields));
  // Chains that are known from now on, or not any more.
  (void)co_await check_foreign_chains();
  if (!firewall) co_return Result<void>();
  auto put = co_await apply_firewall();
  if (put) co_return Result<void>();
  // Whole, whatever else is put into it meanwhile.
  table_damaged = true;
  want_firewall();
  co_return Error(put.error().code(),
                  "the configuration is taken over, and the firewall follows by itself: " + put.error().detail());
}

Task<std::vector<ConfigChange>> Gateway::config_changes() {
  TRY(auto wanted, co_await impl_->configuration());
  co_return changes_between(impl_->config, wanted);
}

Task<std::vector<ConfigChange>> Gateway::reload() {
  co_return co_await impl_->reload();
}

}  // namespace tornado::inline v1
