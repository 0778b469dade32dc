// Who may reach what, how fast and how much: the policy in force, the rights of those who connect, and the month.
#include <boost/json/object.hpp>

#include "base/json.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "firewall/ruleset.hpp"
#include "gateway/gateway_impl.hpp"
#include "limits/policy_repo.hpp"
#include "limits/quantity.hpp"
#include "limits/usage_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr Seconds usage_interval{300};
constexpr std::size_t usage_batch = 1000;
constexpr int visited_at_once = 500;

Result<AccessPolicy> readable(const policy_repo::StoredPolicy& stored) {
  auto parsed = AccessPolicy::parse(stored.document);
  if (parsed) return parsed;
  return Error(errc::data_loss, "the stored policy, version " + std::to_string(stored.version) +
                                    ", cannot be read by this program: " + parsed.error().detail());
}

class TestedPolicy {
 public:
  AccessPolicy policy;
  std::vector<PolicyExpectation> outcomes;
};

Result<TestedPolicy> tested(const std::string& document) {
  TestedPolicy out;
  TRY_PLAIN(out.policy, AccessPolicy::parse(document));
  out.outcomes = out.policy.test();
  return out;
}

std::uint64_t volume_of(const Session& session) {
  return session.received + session.sent;
}

}  // namespace

Task<std::optional<policy_repo::StoredPolicy>> Gateway::Impl::stored_policy() {
  std::optional<policy_repo::StoredPolicy> stored;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(stored, policy_repo::latest(tx));
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  co_return stored;
}

Task<void> Gateway::Impl::load_policy() {
  TRY(auto stored, co_await stored_policy());
  if (!stored) co_return Result<void>();
  TRY(auto policy, readable(*stored));
  access_version = stored->version;
  access.use(std::make_shared<const AccessPolicy>(std::move(policy)));
  co_return Result<void>();
}

/// After a failure to store one it may be on disk all the same, and a restart would bring it into force.
Task<void> Gateway::Impl::settle_policy() {
  if (!policy_in_doubt) co_return Result<void>();
  TRY(auto stored, co_await stored_policy());
  if (!stored || stored->version <= access_version) {
    policy_in_doubt = false;
    co_return Result<void>();
  }
  TRY(auto policy, readable(*stored));
  co_return co_await bring_into_force(std::move(policy), stored->version);
}

/// The sessions of before the stop, and what they may do: known before the ruleset is made, so that those who are
/// connected do not lose a packet.
Task<void> Gateway::Impl::read_sessions() {
  TRY(restored, co_await sessions.restore(Seconds(config.ipam.quarantine)));
  std::vector<DeviceId> devices;
  for (const auto& session : restored.unclosed)
    if (session.state == SessionState::active) devices.push_back(session.device);
  TRY_VOID(co_await users.recall(std::move(devices)));
  // A disk that is full keeps nobody from starting.
  (void)co_await drain_history();
  TRY_VOID(co_await load_usage(Month::of(runtime.now())));
  admit_all();
  co_return Result<void>();
}

void Gateway::Impl::admit_all() {
  if (!access.in_force()) return;
  auto admit = [this](const Session& session) {
    auto account = users.last_known(session.device);
    if (session.live() && account && account->may_connect())
      (void)access.admit(session, account->user, used(account->user.id));
  };
  std::optional<Instance> next = Instance();
  while (next) next = sessions.visit(*next, visited_at_once, admit);
  if (verification) (void)access.admit_open(Instance(verification->token), verification->addresses);
}

std::uint64_t Gateway::Impl::used(const UserId& user) const {
  std::uint64_t out = quota.settled(user);
  sessions.visit_of(user, [&](const Session& session) { out += quota.share(session.instance, volume_of(session)); });
  return out;
}

Task<void> Gateway::Impl::load_usage(Month month) {
  QuotaBook::Settled settled;
  QuotaBook::Bases bases;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(settled, usage_repo::settled(tx, month));
    TRY_PLAIN(bases, usage_repo::bases(tx, month));
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  quota.load(month, std::move(settled), std::move(bases));
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
  Instant written = runtime.now();
  for (;;) {
    bool slept = co_await runtime.sleep_until(runtime.now() + Seconds(config.session.sample_interval));
    if (!slept) co_return Error(errc::cancelled);
    auto done = co_await settle_policy();
    if (done) done = co_await watch_month();
    if (done) done = co_await watch_quotas();
    const Instant now = runtime.now();
    if (done && (now - written >= usage_interval || now < written)) {
      done = co_await write_usage(std::min(written, now) - usage_interval);
      if (done) written = now;
    }
    components["limits"] = Component("limits", done.has_value(), done ? "kept" : done.error().detail());
  }
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

/// Before the peer is there: a device without rights is never on a lane, nor one with those of its predecessor.
Task<void> Gateway::Impl::admit(const Session& session, const User& user) {
  co_return co_await set_rights(access.admit(session, user, used(user.id)), {});
}

Task<void> Gateway::Impl::dismiss(Instance instance) {
  co_return co_await set_rights({}, access.dismiss(instance));
}

/// What the table has is not known any more: the next pass applies it as a whole.
void Gateway::Impl::want_firewall() {
  firewall_behind = true;
  reconcile_wanted.notify();
}

/// Who came and went while the ruleset was made.
Task<void> Gateway::Impl::catch_up_rights(std::uint64_t since) {
  if (access.revision() == since) co_return Result<void>();
  std::vector<Address> gone;
  for (const auto& [address, device] : devices_of(*ruleset))
    if (!access.holds(address)) gone.push_back(address);
  co_return co_await set_rights(access.devices(), std::move(gone));
}

/// Beside the loop: rights of many make it long.
Task<std::shared_ptr<const Ruleset>> Gateway::Impl::compiled(GatewayPolicy wanted) {
  auto work = [&wanted]() -> Result<std::shared_ptr<const Ruleset>> { return compile(wanted); };
  auto made = co_await runtime.offload(Blocking::file, work);
  if (made || made.error().code() != errc::overloaded) co_return made;
  co_return compile(wanted);
}

Task<void> Gateway::Impl::set_rights(std::vector<DeviceAccess> changed, std::vector<Address> gone) {
  if (changed.empty() && gone.empty()) co_return Result<void>();
  // The table is of another policy, or unknown: the pass that applies it as a whole brings these along. Until then
  // who is new there is blocked.
  if (firewall_behind) co_return Result<void>();
  auto set = co_await parts.firewall->devices(std::move(changed), std::move(gone));
  if (!set) want_firewall();
  co_return set;
}

/// Names must be those of accounts: a right for somebody who does not exist hides a mistake.
Task<void> Gateway::Impl::check_policy_users(const AccessPolicy& policy) {
  std::string unknown;
  int count = 0;
  const auto names = policy.users();
  Database::Body body = [&](Tx& tx) -> Result<void> {
    unknown.clear();
    count = 0;
    for (const auto& name : names) {
      auto user = user_repo::find(tx, name);
      if (!user && user.error().code() != errc::not_found) return user.error();
      if (user && user_repo::fold(user->username) == name) continue;
      if (++count <= 5) unknown += (unknown.empty() ? "" : ", ") + name;
    }
    return {};
  };
  TRY_VOID(co_await parts.database->transact(Scope::system(), body));
  if (count == 0) co_return Result<void>();
  co_return Error(errc::not_found, "no account has the user name " + unknown +
                                       (count > 5 ? " (and " + std::to_string(count - 5) + " more)" : std::string()) +
                                       "; nothing was changed");
}

/// Stored first: what is on disk is what comes into force, at once or when the firewall answers again.
Task<PolicyInForce> Gateway::Impl::apply_policy(const Caller& caller, std::string document) {
  auto read = [&]() -> Result<TestedPolicy> { return tested(document); };
  TRY(auto fresh, co_await runtime.offload(Blocking::file, read));
  for (const auto& expectation : fresh.outcomes)
    if (!expectation.holds())
      co_return Error(errc::failed_precondition, "a test of the policy fails: " + expectation.user + " to " +
                                                     expectation.target.str() + " is to be " +
                                                     (expectation.allowed ? "allowed" : "denied") + ", but " +
                                                     expectation.verdict.detail + "; nothing was changed");
  TRY_VOID(co_await check_policy_users(fresh.policy));
  policy_repo::StoredPolicy stored;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(stored, policy_repo::insert(tx, document, caller.name, runtime.now()));
    return {};
  };
  auto written = co_await parts.database->transact(Scope::system(), body);
  policy_in_doubt = policy_in_doubt || !written;
  if (!written) co_return written.error();
  TRY_VOID(co_await bring_into_force(std::move(fresh.policy), stored.version));
  PolicyInForce out;
  out.version = stored.version;
  out.document = std::move(document);
  out.applied_by = stored.applied_by;
  out.applied = stored.applied;
  out.grants = access.policy()->grants().size();
  out.devices = access.devices().size();
  co_return out;
}

Task<void> Gateway::Impl::bring_into_force(AccessPolicy fresh, std::int64_t version) {
  policy_in_doubt = true;
  std::vector<DeviceId> devices;
  std::optional<Instance> next = Instance();
  auto note = [&](const Session& session) { devices.push_back(session.device); };
  while (next) next = sessions.visit(*next, visited_at_once, note);
  TRY_VOID(co_await users.recall(std::move(devices)));
  policy_in_doubt = false;
  // A later one may have been quicker.
  if (version <= access_version) co_return Result<void>();
  access_version = version;
  access.use(std::make_shared<const AccessPolicy>(std::move(fresh)));
  admit_all();
  events.publish("policy_applied", "{\"version\":" + std::to_string(version) + "}");
  // Classes of this policy mean nothing in the table of the former one.
  firewall_behind = true;
  auto applied = co_await apply_rights();
  if (!applied) {
    want_firewall();
    co_return Error(applied.error().code(), "the policy is stored and not in force yet: " + applied.error().detail() +
                                                "; the gateway tries again by itself");
  }
  co_return Result<void>();
}

Task<void> Gateway::Impl::apply_rights() {
  const std::int64_t version = access_version;
  TRY(auto wanted, co_await policy());
  const std::uint64_t revision = access.revision();
  TRY(auto made, co_await compiled(std::move(wanted)));
  // Whoever brought a later one into force applies it, too, and must not be overtaken.
  if (version != access_version) co_return Result<void>();
  ruleset = std::move(made);
  TRY_VOID(co_await parts.firewall->access(ruleset));
  firewall_behind = false;
  co_return co_await catch_up_rights(revision);
}

Task<std::vector<PolicyExpectation>> Gateway::test_policy(std::string document) {
  auto read = [&]() -> Result<TestedPolicy> { return tested(document); };
  TRY(auto outcome, co_await impl_->runtime.offload(Blocking::file, read));
  co_return std::move(outcome.outcomes);
}

Task<PolicyInForce> Gateway::apply_policy(Caller caller, std::string document) {
  co_return co_await impl_->apply_policy(caller, std::move(document));
}

Task<PolicyInForce> Gateway::policy_in_force() {
  TRY(auto stored, co_await impl_->stored_policy());
  if (!stored)
    co_return Error(errc::not_found, "no policy was ever applied: every device reaches what its lane reaches");
  PolicyInForce out;
  out.version = stored->version;
  out.document = std::move(stored->document);
  out.applied_by = std::move(stored->applied_by);
  out.applied = stored->applied;
  if (const AccessPolicy* policy = impl_->access.policy()) out.grants = policy->grants().size();
  out.devices = impl_->access.devices().size();
  co_return out;
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
