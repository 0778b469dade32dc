// The policy in force, from the store into the firewall, and the rights of those who connect.
#include <boost/json/object.hpp>

#include "base/json.hpp"
#include "base/try.hpp"
#include "firewall/ruleset.hpp"
#include "gateway/gateway_impl.hpp"
#include "limits/policy_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

constexpr int visited_at_once = 500;
/// Between two attempts to bring a policy into force that was held back.
constexpr Seconds least_wait{5}, longest_wait{300};
constexpr std::string_view next_step =
    " It is tried again by itself; what helps at once is tornadoctl policy apply FILE";

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
  auto policy = readable(*stored);
  if (!policy) {
    close_rights();
    hold_back(stored->version, policy.error());
    co_return Result<void>();
  }
  access_version = told_version = stored->version;
  access.use(std::make_shared<const AccessPolicy>(std::move(*policy)));
  co_return Result<void>();
}

/// Everybody has the rights of a document that opens nothing. None that is older: the latest one may be there to close
/// what that left open.
void Gateway::Impl::close_rights() {
  static const auto nothing =
      std::make_shared<const AccessPolicy>(AccessPolicy::parse(R"({"default": "nothing"})").value());
  use_policy(nothing, 0);
}

void Gateway::Impl::use_policy(std::shared_ptr<const AccessPolicy> policy, std::int64_t version) {
  access_version = version;
  const auto names = access.names();
  access.use(std::move(policy));
  admit_all(names);
}

bool Gateway::Impl::policy_closed() const {
  return held_back && access_version == 0 && access.policy() != nullptr;
}

void Gateway::Impl::hold_back(std::int64_t version, const Error& why) {
  const bool again = held_back && held_back->version == version;
  const bool told = again && held_back->reason == why.detail();
  HeldBack held;
  held.version = version;
  held.reason = why.detail();
  held.wait = again ? std::min(held_back->wait * 2, longest_wait) : least_wait;
  held.again = runtime.now() + held.wait;
  held_back = std::move(held);
  policy_in_doubt = true;
  if (policy_closed()) told_version = 0;
  say_policy();
  if (told) return;
  boost::json::object fields;
  fields["version"] = version;
  fields["reason"] = why.detail();
  events.publish("policy_held_back", to_json(fields));
  runtime.log().write(LogLevel::error, "policy_held_back",
                      {{"version", std::to_string(version)}, {"detail", why.detail()}});
}

std::string Gateway::Impl::held_back_detail() const {
  std::string detail = "version " + std::to_string(held_back->version);
  detail.append(" is not in force: ").append(held_back->reason).append("; ");
  if (policy_closed())
    detail.append("until one is, devices reach the client API and DNS only.");
  else if (access_version == 0)
    detail.append("as before, devices reach whatever their lane reaches.");
  else
    detail.append("version ").append(std::to_string(access_version)).append(" goes on.");
  return detail.append(next_step);
}

/// The kernel has taken a table, and what it goes by may be another policy.
void Gateway::Impl::table_stands() {
  firewall_behind = table_damaged;
  accepted = access.shared_policy();
  accepted_version = access_version;
  say_policy();
}

void Gateway::Impl::say_policy() {
  if (held_back && access_version >= held_back->version) held_back.reset();
  if (held_back) {
    Component component("policy", false, held_back_detail());
    component.advisory = !policy_closed();
    components["policy"] = std::move(component);
  } else if (access_version != 0) {
    components["policy"] = Component("policy", true, "version " + std::to_string(access_version) + " is in force");
  }
  if (access_version <= told_version) return;
  told_version = access_version;
  events.publish("policy_applied", "{\"version\":" + std::to_string(access_version) + "}");
}

/// The kernel takes no table with the policy in it. Where one stands that it took, that one stays; else a table is made
/// that opens nothing.
Task<void> Gateway::Impl::apply_closed(Error why) {
  const std::int64_t version = tried_version;
  auto stands = co_await parts.firewall->intact();
  if (ready && stands && *stands) co_return why;
  // Meanwhile another one is wanted, which is not to blame.
  if (access_version != version) co_return co_await apply_table();
  const auto refused = access.shared_policy();
  close_rights();
  auto applied = co_await apply_table();
  // Meanwhile another one may have come.
  if (access_version != 0) co_return applied;
  if (applied) {
    hold_back(version, why);
    co_return Result<void>();
  }
  // The policy is not to blame.
  use_policy(refused, version);
  co_return why;
}

/// After a failure to store one it may be on disk all the same, and a restart would bring it into force.
Task<void> Gateway::Impl::settle_policy() {
  if (!policy_in_doubt) co_return Result<void>();
  const Instant now = runtime.now();
  if (held_back && now < held_back->again && held_back->again - now <= held_back->wait) co_return Result<void>();
  // What comes into doubt while this reads stays so.
  policy_in_doubt = false;
  auto read = co_await stored_policy();
  if (!read) {
    policy_in_doubt = true;
    co_return read.error();
  }
  const auto stored = std::move(*read);
  if (!stored || stored->version <= access_version) co_return Result<void>();
  auto policy = readable(*stored);
  if (!policy) {
    hold_back(stored->version, policy.error());
    co_return Result<void>();
  }
  auto done = co_await bring_into_force(std::move(*policy), stored->version);
  if (!done && held_back) co_return Result<void>();
  co_return done;
}

/// `admitted`: the names of those who were admitted before, whose accounts need not be known at this moment.
void Gateway::Impl::admit_all(const std::unordered_map<UserId, std::string>& admitted) {
  if (!access.in_force()) return;
  auto admit = [&, this](const Session& session) {
    if (!session.live()) return;
    auto account = users.last_known(session.device);
    auto before = admitted.find(session.user);
    if (account ? !account->may_connect() : before == admitted.end()) return;
    (void)access.admit(session, account ? account->username.str() : before->second, used(session.user));
  };
  std::optional<Instance> next = Instance();
  while (next) next = sessions.visit(*next, visited_at_once, admit);
  if (verification) (void)access.admit_open(Instance(verification->token), verification->addresses);
}

/// Before the peer is there: a device without rights is never on a lane, nor one with those of its predecessor.
Task<void> Gateway::Impl::admit(const Session& session, const std::string& username) {
  co_return co_await set_rights(access.admit(session, username, used(session.user)), {});
}

Task<void> Gateway::Impl::dismiss(Instance instance) {
  TRY_VOID(co_await set_rights({}, access.dismiss(instance)));
  if (rights_settled()) co_return Result<void>();
  co_return Error(errc::unavailable, "the firewall is being applied as a whole");
}

void Gateway::Impl::free_lease(LeaseId lease, bool dismissed) {
  if (dismissed) {
    (void)ipam.release(lease);
    return;
  }
  (void)ipam.mark_dirty(lease);
  unconfirmed.insert(lease);
  free_confirmed();
}

void Gateway::Impl::take_up_lease(const Owner& owner) {
  auto lease = ipam.find(owner);
  if (lease && unconfirmed.erase(lease->id) > 0) (void)ipam.release(lease->id);
}

void Gateway::Impl::free_confirmed() {
  if (!rights_settled()) return;
  for (const LeaseId& lease : std::exchange(unconfirmed, {})) (void)ipam.release(lease);
}

/// What the table has is not known any more: the next pass applies it as a whole.
void Gateway::Impl::want_firewall() {
  firewall_behind = true;
  reconcile_wanted.notify();
}

/// Who came and went while the ruleset was made.
Task<void> Gateway::Impl::catch_up_rights(std::shared_ptr<const Ruleset> made, std::uint64_t since) {
  if (access.revision() == since) co_return Result<void>();
  std::vector<Address> gone;
  for (const auto& [address, device] : devices_of(*made))
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

/// One at a time: how the one before has ended is known then.
Task<void> Gateway::Impl::bring_into_force(AccessPolicy fresh, std::int64_t version) {
  policy_in_doubt = true;
  while (bringing_policy) {
    bool ended = co_await policy_brought.wait(policy_brought.revision());
    if (!ended) co_return Error(errc::cancelled);
  }
  bringing_policy = true;
  auto done = co_await bring(std::move(fresh), version);
  bringing_policy = false;
  policy_brought.notify();
  co_return done;
}

Task<void> Gateway::Impl::recall_connected() {
  constexpr int most_rounds = 5;
  std::set<DeviceId> barred;
  for (int round = 0; round < most_rounds; ++round) {
    std::vector<DeviceId> devices;
    std::optional<Instance> next = Instance();
    auto note = [&](const Session& session) {
      // What was asked for in an early batch may be forgotten before the last one has come.
      if (round == 0 || (!barred.contains(session.device) && !users.last_known(session.device)))
        devices.push_back(session.device);
    };
    while (next) next = sessions.visit(*next, visited_at_once, note);
    if (devices.empty()) co_return Result<void>();
    TRY(auto ended, co_await users.recall(std::move(devices)));
    barred.insert(ended.begin(), ended.end());
  }
  co_return Error(errc::unavailable, "accounts change faster than they are read");
}

Task<void> Gateway::Impl::bring(AccessPolicy fresh, std::int64_t version) {
  auto recalled = co_await recall_connected();
  if (!recalled) {
    std::string detail = "the policy is stored, and comes into force when the accounts can be read: ";
    co_return Error(recalled.error().code(), detail + recalled.error().detail());
  }
  // A later one may have come first.
  if (version <= access_version) co_return Result<void>();
  use_policy(std::make_shared<const AccessPolicy>(std::move(fresh)), version);
  // Classes of this policy mean nothing in the table of the former one.
  firewall_behind = true;
  auto applied = co_await apply_rights();
  if (applied) co_return applied;
  // Who came and went meanwhile is not in the table of the former one.
  want_firewall();
  // Only single devices are not in the table as they should be, which the next pass mends.
  if (accepted_version >= version) co_return Result<void>();
  if (version == access_version) {
    use_policy(accepted, accepted_version);
    hold_back(version, applied.error());
  }
  std::string detail = "the policy is stored: ";
  if (held_back) {
    detail += held_back_detail();
  } else {
    detail.append("version ").append(std::to_string(version)).append(" is not in force: ");
    detail += applied.error().detail();
  }
  co_return Error(applied.error().code(), detail);
}

Task<void> Gateway::Impl::apply_rights() {
  return as_a_whole(put_rights());
}

Task<void> Gateway::Impl::as_a_whole(Task<void> put) {
  ++tables_under_way;
  auto done = co_await std::move(put);
  --tables_under_way;
  free_confirmed();
  co_return done;
}

Task<void> Gateway::Impl::put_rights() {
  const std::int64_t version = access_version;
  TRY(auto wanted, co_await policy());
  const std::uint64_t revision = access.revision();
  TRY(auto made, co_await compiled(std::move(wanted)));
  // Everything was closed meanwhile: this one must not open it.
  const Error closed(errc::unavailable, "the firewall was closed while this policy was made ready");
  if (version != access_version) co_return closed;
  const auto former = std::exchange(ruleset, made);
  auto taken = co_await parts.firewall->access(made);
  if (!taken) {
    if (ruleset == made) ruleset = former;
    co_return taken;
  }
  if (version != access_version) co_return closed;
  table_stands();
  co_return co_await catch_up_rights(std::move(made), revision);
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
  auto component = impl_->components.find("policy");
  if (component != impl_->components.end() && !component->second.ready)
    out.held_back = component->second.detail;
  else if (out.version != impl_->accepted_version)
    out.held_back = "version " + std::to_string(out.version) + " is stored and not in force yet";
  if (const AccessPolicy* policy = impl_->access.policy()) out.grants = policy->grants().size();
  out.devices = impl_->access.devices().size();
  co_return out;
}

}  // namespace tornado::inline v1
