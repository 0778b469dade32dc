#include "gateway/access_book.hpp"

#include <algorithm>

namespace tornado::inline v1 {
namespace {

std::uint64_t slower(std::uint64_t rate, std::uint64_t limit) {
  return rate == 0 ? limit : std::min(rate, limit);
}

}  // namespace

void AccessBook::use(std::shared_ptr<const AccessPolicy> policy) {
  policy_ = std::move(policy);
  ++revision_;
  holders_.clear();
  held_by_.clear();
  users_.clear();
}

std::unordered_map<UserId, std::string> AccessBook::names() const {
  std::unordered_map<UserId, std::string> out;
  for (const auto& [user, entry] : users_)
    if (!user.empty()) out.emplace(user, entry.username);
  return out;
}

void AccessBook::judge(Entry& entry, std::uint64_t used) const {
  entry.access_class = policy_->class_of(entry.username);
  entry.limit = policy_->limit_of(entry.username);
  entry.standing = entry.limit ? standing_of(*entry.limit, used) : QuotaStanding();
}

AccessBook::Entry& AccessBook::entry_of(const UserId& user, const std::string& username, std::uint64_t used) {
  auto [found, fresh] = users_.try_emplace(user);
  if (fresh || found->second.username != username) {
    found->second.username = username;
    if (!user.empty()) judge(found->second, used);
  }
  return found->second;
}

/// A later session of the device takes its addresses over: the former one holds them no more.
std::vector<DeviceAccess> AccessBook::hold(const Instance& instance, const UserId& user,
                                           const LaneAddresses& addresses) {
  ++revision_;
  Entry& entry = users_.at(user);
  Holder& holder = holders_[instance];
  if (holder.addresses.empty()) entry.sessions.push_back(instance);
  holder.user = user;
  holder.addresses.clear();
  for (const LaneAddress& lane : addresses) {
    holder.addresses.push_back(lane.v4);
    if (lane.v6) holder.addresses.push_back(*lane.v6);
  }
  std::vector<DeviceAccess> out;
  for (const Address& address : holder.addresses) {
    held_by_[address] = instance;
    out.push_back(access_of(entry, address));
  }
  return out;
}

std::vector<DeviceAccess> AccessBook::admit(const Session& session, const std::string& username, std::uint64_t used) {
  if (!in_force() || session.addresses.empty()) return {};
  entry_of(session.user, username, used);
  return hold(session.instance, session.user, session.addresses);
}

std::vector<DeviceAccess> AccessBook::admit_open(const Instance& instance, const LaneAddresses& addresses) {
  if (!in_force() || addresses.empty()) return {};
  entry_of(UserId(), std::string(), 0);
  return hold(instance, UserId(), addresses);
}

std::vector<Address> AccessBook::dismiss(const Instance& instance) {
  std::vector<Address> gone;
  auto holder = holders_.find(instance);
  if (holder == holders_.end()) return gone;
  for (const Address& address : holder->second.addresses) {
    auto held = held_by_.find(address);
    if (held == held_by_.end() || held->second != instance) continue;
    gone.push_back(address);
    held_by_.erase(held);
  }
  ++revision_;
  auto entry = users_.find(holder->second.user);
  std::erase(entry->second.sessions, instance);
  if (entry->second.sessions.empty()) users_.erase(entry);
  holders_.erase(holder);
  return gone;
}

std::vector<DeviceAccess> AccessBook::rename(const UserId& user, const std::string& username, std::uint64_t used) {
  auto entry = users_.find(user);
  if (entry == users_.end()) return {};
  ++revision_;
  entry_of(user, username, used);
  return devices_of(user);
}

DeviceAccess AccessBook::access_of(const Entry& entry, const Address& address) {
  DeviceAccess out(address, entry.access_class);
  if (!entry.limit) return out;
  out.up = entry.limit->up;
  out.down = entry.limit->down;
  if (!entry.standing.exhausted()) return out;
  if (entry.limit->action == QuotaAction::block) out.access_class = blocked_class;
  if (entry.limit->action == QuotaAction::throttle) {
    out.up = slower(out.up, entry.limit->throttle);
    out.down = slower(out.down, entry.limit->throttle);
  }
  return out;
}

std::vector<DeviceAccess> AccessBook::devices_of(const UserId& user) const {
  std::vector<DeviceAccess> out;
  auto found = users_.find(user);
  if (found == users_.end()) return out;
  const Entry& entry = found->second;
  for (const Instance& instance : entry.sessions)
    for (const Address& address : holders_.at(instance).addresses)
      if (auto held = held_by_.find(address); held != held_by_.end() && held->second == instance)
        out.push_back(access_of(entry, address));
  return out;
}

std::vector<DeviceAccess> AccessBook::devices() const {
  std::vector<DeviceAccess> out;
  out.reserve(held_by_.size());
  for (const auto& [address, instance] : held_by_)
    out.push_back(access_of(users_.at(holders_.at(instance).user), address));
  return out;
}

std::shared_ptr<const AccessRules> AccessBook::rules() const {
  if (!in_force()) return nullptr;
  auto out = std::make_shared<AccessRules>();
  out->grants = policy_->grants();
  out->devices = devices();
  return out;
}

std::vector<UserId> AccessBook::with_quota() const {
  std::vector<UserId> out;
  for (const auto& [user, entry] : users_)
    if (entry.limit && entry.limit->monthly != 0) out.push_back(user);
  return out;
}

const UserLimit* AccessBook::limit_of(const UserId& user) const {
  auto entry = users_.find(user);
  return entry != users_.end() && entry->second.limit ? &*entry->second.limit : nullptr;
}

const std::string& AccessBook::name_of(const UserId& user) const {
  static const std::string nobody;
  auto entry = users_.find(user);
  return entry == users_.end() ? nobody : entry->second.username;
}

std::optional<QuotaStanding> AccessBook::standing(const UserId& user) const {
  const UserLimit* limit = limit_of(user);
  if (limit == nullptr || limit->monthly == 0) return std::nullopt;
  return users_.at(user).standing;
}

bool AccessBook::stand(const UserId& user, const QuotaStanding& standing) {
  auto entry = users_.find(user);
  if (entry == users_.end()) return false;
  bool changed = entry->second.standing.exhausted() != standing.exhausted();
  entry->second.standing = standing;
  if (changed) ++revision_;
  return changed;
}

int AccessBook::told(const UserId& user) const {
  auto found = told_.find(user);
  return found == told_.end() ? 0 : found->second;
}

void AccessBook::set_told(const UserId& user, int percent) {
  if (percent == 0)
    told_.erase(user);
  else
    told_[user] = percent;
}

}  // namespace tornado::inline v1
