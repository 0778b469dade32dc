// What can be asked about an account and a device, for the explanation.
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "explain/why_facts.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"
#include "users/device_repo.hpp"
#include "users/user_repo.hpp"

namespace tornado::inline v1 {
namespace {

/// By device id, by session id ("user-device"), else an account by name, address or id.
class Subject {
 public:
  std::optional<DeviceId> device;
  std::optional<UserId> user;
};

Subject parse_subject(const std::string& text) {
  constexpr std::size_t uuid_size = 36;
  Subject out;
  if (text.size() == 2 * uuid_size + 1 && is_uuid(text.substr(uuid_size + 1))) {
    out.device = DeviceId(text.substr(uuid_size + 1));
  } else if (is_uuid(text)) {
    out.device = DeviceId(text);
    out.user = UserId(text);
  }
  return out;
}

}  // namespace

/// The device asked for, signed out or not; of an account, the one that is signed in and was used last.
Task<void> Gateway::Impl::gather_account(const std::string& text, WhyFacts& facts) {
  Subject subject = parse_subject(text);
  if (subject.device) {
    auto device = co_await users.device(*subject.device);
    if (!device && device.error().code() != errc::not_found) co_return device.error();
    if (device) {
      TRY(facts.user, co_await users.get(device->user));
      facts.device = *device;
    }
  }
  if (!facts.device) {
    Result<User> found = Error(errc::not_found);
    if (subject.user)
      found = co_await users.get(*subject.user);
    else
      found = co_await users.find(text);
    if (!found) co_return Error(found.error().code(), "no account and no device '" + text + "'");
    facts.user = *found;
  }
  TRY(facts.signed_in, co_await users.devices(facts.user.id));
  if (!facts.device && !facts.signed_in.empty()) facts.device = facts.signed_in.front();
  co_return Result<void>();
}

Task<void> Gateway::Impl::gather_lanes(WhyFacts& facts) {
  for (const auto& [lane, settings] : lanes) {
    LaneFacts& out = facts.lanes.emplace_back(lane);
    out.interface = settings->interface;
    out.listen_port = settings->listen_port;
    out.mode = lane_policy(lane, *settings).mode;
    if (ipam.usage(lane).available() == 0) facts.exhausted.push_back(lane.str());
    auto interface = co_await parts.wireguard->get(settings->interface);
    if (!interface) {
      out.unreadable = interface.error();
      continue;
    }
    for (const auto& peer : interface->peers) {
      if (!facts.session || peer.key != facts.session->key) continue;
      out.peer = peer;
      out.preshared_right = peer.preshared == preshared_of(*facts.session);
    }
  }
  co_return Result<void>();
}

Task<Why> Gateway::why(Caller, std::string subject) {
  WhyFacts facts;
  facts.now = impl_->runtime.now();
  facts.ready = impl_->ready;
  for (const auto& component : health()) {
    if (component.ready) continue;
    auto& part = facts.broken.emplace_back();
    part.name = component.name;
    part.detail = component.detail;
    part.advisory = component.advisory;
  }
  TRY_VOID(co_await impl_->gather_account(subject, facts));
  auto throttled = co_await impl_->parts.live->throttled();
  for (const auto& name : {facts.user.username, facts.user.email})
    if (throttled)
      for (const auto& state : *throttled)
        if (state.key == "account:" + user_repo::fold(name)) facts.throttles.push_back(state);
  if (facts.device) {
    facts.session = impl_->sessions.find(facts.device->id);
    facts.lease = impl_->ipam.find(owner_of(facts.device->id));
  }
  if (const AccessPolicy* policy = impl_->access.policy()) {
    facts.limit = policy->limit_of(facts.user.username);
    if (facts.limit) facts.standing = standing_of(*facts.limit, impl_->used(facts.user.id));
    facts.reaches_nothing = policy->class_of(facts.user.username) == blocked_class;
  }
  HistoryQuery query;
  query.user = facts.user.id;
  query.limit = 1;
  auto ended = co_await history(std::move(query));
  if (ended && !ended->empty()) facts.last_ended = ended->front();
  if (impl_->tor) facts.tor = impl_->tor->status();
  TRY_VOID(co_await impl_->gather_lanes(facts));
  co_return explain(facts);
}

}  // namespace tornado::inline v1
