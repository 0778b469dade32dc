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

Task<std::vector<ConfigChange>> Gateway::Impl::reload() {
  if (reloading) co_return Error(errc::unavailable, "another reload is under way");
  reloading = true;
  auto read = co_await configuration();
  std::vector<ConfigChange> changes;
  Result<void> done = read ? Result<void>() : Result<void>(read.error());
  if (read) {
    changes = changes_between(config, *read);
    done = co_await take_over(changes);
  }
  reloading = false;
  if (!done) {
    runtime.log().write(LogLevel::error, "config_not_reloaded", {{"detail", done.error().detail()}});
    co_return done.error();
  }
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
  // Key by key: others read theirs beside the loop.
  for (const ConfigChange& change : changes)
    if (change.reloadable) TRY_VOID(config.set(change.key, change.wanted));
  ++config_revision;
  boost::json::object fields;
  fields["applied"] = std::move(applied);
  fields["waiting"] = std::move(waiting);
  const std::string told = to_json(fields);
  runtime.log().write(LogLevel::info, "config_reloaded", {{"keys", told}});
  runtime.log().least(config.log_level());
  events.publish("config_reloaded", told);
  // Chains that are known from now on, or not any more.
  (void)co_await check_foreign_chains();
  if (!firewall) co_return Result<void>();
  auto put = co_await apply_firewall();
  if (put) co_return Result<void>();
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
