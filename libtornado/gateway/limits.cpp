// How much: what users move in a month, and what becomes of those who have used it up.
#include <boost/json/object.hpp>

#include "base/json.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "limits/policy_repo.hpp"
#include "limits/usage_repo.hpp"
#include "session/history_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr Seconds usage_interval{300};
constexpr std::size_t usage_batch = 1000;
constexpr int trim_batch = 500, most_trim_batches = 20;
constexpr int visited_at_once = 500;
constexpr int all_of_them = 1'000'000'000;

std::uint64_t volume_of(const Session& session) {
  return session.received + session.sent;
}

}  // namespace

/// The sessions of before the stop, and what they may do: known before the ruleset is made, so that those who are
/// connected do not lose a packet.
Task<void> Gateway::Impl::read_sessions() {
  TRY(restored, co_await sessions.restore(Seconds(config.ipam.quarantine)));
  std::vector<DeviceId> devices;
  for (const auto& session : restored.unclosed)
    if (session.state == SessionState::active) devices.push_back(session.device);
  TRY_VOID(co_await users.recall(std::move(devices)));
  // A disk that is full keeps nobody from starting: every tick tries again, and what is left counts until then.
  (void)co_await drain_history();
  TRY(auto left, co_await sessions.undrained(all_of_them));
  for (const auto& session : left) undrained.emplace(session.instance, EndedSession(session));
  TRY_VOID(co_await load_usage(Month::of(runtime.now())));
  admit_all();
  co_return Result<void>();
}

std::uint64_t Gateway::Impl::used(const UserId& user) const {
  std::uint64_t out = quota.settled(user);
  sessions.visit_of(user, [&](const Session& session) { out += quota.share(session.instance, volume_of(session)); });
  return out;
}

Task<void> Gateway::Impl::load_usage(Month month) {
  QuotaBook::Settled settled;
  QuotaBook::Bases bases;
  std::unordered_set<Instance> taken;
  std::vector<Instance> ended;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(settled, usage_repo::settled(tx, month));
    TRY_PLAIN(bases, usage_repo::bases(tx, month));
    taken.clear();
    for (const auto& instance : ended) {
      TRY_PLAIN(bool there, history_repo::has(tx, instance));
      if (there) taken.insert(instance);
    }
    return {};
  };
  // What is drained while this reads would be counted in neither place, or in both: once more.
  for (std::uint64_t seen = drains + 1; seen != drains || draining > 0;) {
    seen = drains;
    ended.clear();
    for (const auto& [instance, session] : undrained) ended.push_back(instance);
    TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  }
  quota.load(month, std::move(settled), std::move(bases));
  for (const auto& [instance, session] : undrained)
    if (!taken.contains(instance))
      quota.settle(session.user, instance, session.received + session.sent, Month::of(session.ended));
  co_return Result<void>();
}

/// Of sessions with a sign of life since then.
Task<void> Gateway::Impl::write_usage(Instant since) {
  std::vector<usage_repo::SessionUsage> batch;
  auto take = [&](const Session& session) {
    bool moved = std::any_of(session.counters.begin(), session.counters.end(),
                             [&](const LaneCounters& account) { return account.active >= since; });
    std::uint64_t share = quota.share(session.instance, volume_of(session));
    if (moved && share != 0) batch.emplace_back(session.instance, session.user, share);
  };
  const Month month = quota.month();
  Database::Body body = [&](Tx& tx) -> Result<void> { return usage_repo::put(tx, month, batch); };
  std::optional<Instance> next = Instance();
  while (next) {
    next = sessions.visit(*next, visited_at_once, take);
    if (batch.size() < usage_batch && next) continue;
    if (!batch.empty()) TRY_VOID(co_await parts.database->transact(Scope::system(), body));
    batch.clear();
  }
  co_return Result<void>();
}

Task<void> Gateway::Impl::write_recent_usage() {
  const Instant now = runtime.now();
  TRY_VOID(co_await write_usage(std::min(usage_written, now) - usage_interval));
  usage_written = now;
  co_return Result<void>();
}

/// A new month, or a clock that was set back into an old one.
Task<void> Gateway::Impl::watch_month() {
  const Month month = Month::of(runtime.now());
  if (month == quota.month()) co_return Result<void>();
  TRY_VOID(co_await write_usage(Instant()));
  TRY_VOID(co_await drain_history());
  TRY_VOID(co_await load_usage(month));
  events.publish("quota_month", "{\"month\":\"" + month.str() + "\"}");
  co_return Result<void>();
}

Task<void> Gateway::Impl::run_limits() {
  usage_written = runtime.now();
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(config.session.sample_interval));
    if (!slept) co_return Error(errc::cancelled);
    auto done = co_await settle_policy();
    if (done) done = co_await watch_month();
    if (done) done = co_await watch_quotas();
    const Instant now = runtime.now();
    if (done && (now - usage_written >= usage_interval || now < usage_written)) {
      done = co_await write_recent_usage();
      if (done) done = co_await trim_records();
    }
    components["limits"] = Component("limits", done.has_value(), done ? "kept" : done.error().detail());
  }
}

/// What is kept of the past is bounded. A batch is a transaction of its own, and what is left is for the next time.
Task<void> Gateway::Impl::trim_records() {
  const Month kept = quota.month().before(config.policy.usage_months - 1);
  const Instance oldest = oldest_unrecorded();
  const int versions = config.policy.versions;
  int removed = 0;
  Database::Body usage = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(removed, usage_repo::trim(tx, kept, oldest, trim_batch));
    return {};
  };
  Database::Body policies = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(removed, policy_repo::trim(tx, versions, trim_batch / 10));
    return {};
  };
  for (Database::Body* body : {&usage, &policies})
    for (int batch = 0; batch < most_trim_batches; ++batch) {
      TRY_VOID(co_await parts.database->transact(Scope::system(), *body));
      if (removed == 0) break;
    }
  co_return Result<void>();
}

/// Of what it has moved in earlier months, what an older one left behind needs nobody any more. Instances are in order
/// of time.
Instance Gateway::Impl::oldest_unrecorded() const {
  Instance out("~");
  auto page = sessions.list("", 1);
  if (!page.sessions.empty()) out = page.sessions.front().instance;
  for (const auto& [instance, session] : undrained) out = std::min(out, instance);
  return out;
}

/// What users have moved by now, against what they may.
Task<void> Gateway::Impl::watch_quotas() {
  Pace pace(runtime);
  std::vector<UserId> changed;
  std::vector<std::pair<UserId, QuotaStanding>> crossed;
  for (const auto& user : access.with_quota()) {
    if (pace.due()) co_await pace.yield();
    const UserLimit* limit = access.limit_of(user);
    if (limit == nullptr) continue;
    const QuotaStanding now = standing_of(*limit, used(user));
    if (access.stand(user, now)) changed.push_back(user);
    const int told = access.told(user);
    if (now.reached > told) crossed.emplace_back(user, now);
    if (now.reached >= told) continue;
    say_quota("quota_renewed", user, now, now.reached);
    access.set_told(user, now.reached);
  }
  // As they are now: meanwhile sessions may have gone, or another policy come.
  std::vector<DeviceAccess> rights;
  for (const auto& user : changed)
    for (const auto& device : access.devices_of(user)) rights.push_back(device);
  TRY_VOID(co_await set_rights(std::move(rights), {}));
  // A crash must not give back what is used up.
  if (!crossed.empty()) TRY_VOID(co_await sessions.checkpoint());
  for (const auto& [user, now] : crossed) TRY_VOID(co_await tell_quota(user, now));
  co_return Result<void>();
}

/// Each threshold once a month, whatever happens in between.
Task<void> Gateway::Impl::tell_quota(UserId user, QuotaStanding standing) {
  const UserLimit* limit = access.limit_of(user);
  if (limit == nullptr) co_return Result<void>();
  std::vector<int> thresholds = limit->warnings, fresh;
  thresholds.push_back(100);
  const Month month = quota.month();
  Database::Body body = [&](Tx& tx) -> Result<void> {
    fresh.clear();
    for (int percent : thresholds) {
      if (percent > standing.reached) break;
      TRY_PLAIN(bool noted, usage_repo::note(tx, user, month, percent, runtime.now()));
      if (noted) fresh.push_back(percent);
    }
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  for (int percent : fresh) say_quota(percent == 100 ? "quota_reached" : "quota_warning", user, standing, percent);
  access.set_told(user, standing.reached);
  co_return Result<void>();
}

void Gateway::Impl::say_quota(std::string_view what, const UserId& user, const QuotaStanding& standing, int percent) {
  boost::json::object fields;
  fields["action"] = what;
  fields["user_id"] = user.str();
  fields["username"] = access.name_of(user);
  fields["month"] = quota.month().str();
  fields["percent"] = percent;
  fields["used"] = standing.used;
  fields["limit"] = standing.limit;
  fields["then"] = name(standing.action);
  events.publish(std::string(what), to_json(fields));
  runtime.log().write(LogLevel::info, what, {{"user", user.str()}, {"percent", std::to_string(percent)}});
}

std::optional<QuotaStanding> Gateway::standing(const UserId& user) const {
  return impl_->access.standing(user);
}

Task<UserUsage> Gateway::usage(UserId user) {
  TRY_VOID(co_await impl_->drain_history());
  UserUsage out;
  TRY(out.user, co_await impl_->users.get(user));
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(auto rows, usage_repo::months_of(tx, user));
    out.months.clear();
    for (const auto& row : rows) out.months.emplace_back(row.month, row.bytes);
    return {};
  };
  TRY_VOID(co_await impl_->parts.database->transact(Scope::system(), body));
  const std::string month = impl_->quota.month().str();
  const std::uint64_t used = impl_->used(user);
  if (!out.months.empty() && out.months.front().first == month)
    out.months.front().second = used;
  else
    out.months.emplace(out.months.begin(), month, used);
  if (const AccessPolicy* policy = impl_->access.policy())
    if (auto limit = policy->limit_of(out.user.username)) {
      out.limit = *limit;
      out.standing = standing_of(*limit, used);
    }
  co_return out;
}

}  // namespace tornado::inline v1
