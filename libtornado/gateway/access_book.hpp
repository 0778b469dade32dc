#pragma once

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "tornado/limits.hpp"
#include "tornado/session_store.hpp"
#include "tornado/users.hpp"

namespace tornado::inline v1 {

/// Who is connected with which rights: the policy in force, the users it finds here, and how they stand within the
/// month. No I/O. Loop thread.
class AccessBook {
 public:
  /// From now on this policy counts; nobody is admitted under it yet.
  void use(std::shared_ptr<const AccessPolicy> policy);
  /// Whether the firewall has to know about single devices.
  bool in_force() const noexcept { return policy_ != nullptr && !policy_->empty(); }
  /// Null: there never was one.
  const AccessPolicy* policy() const noexcept { return policy_.get(); }
  std::shared_ptr<const AccessPolicy> shared_policy() const { return policy_; }

  /// Moves with every change of anybody's rights.
  std::uint64_t revision() const noexcept { return revision_; }

  /// What the addresses of a session may do from now on; `used` is what the user has moved this month. Empty where
  /// nothing is in force.
  std::vector<DeviceAccess> admit(const Session& session, const std::string& username, std::uint64_t used);
  /// Addresses that belong to nobody's account and reach whatever their lane reaches.
  std::vector<DeviceAccess> admit_open(const Instance& instance, const LaneAddresses& addresses);
  /// The addresses nobody holds any more.
  std::vector<Address> dismiss(const Instance& instance);
  /// An account got another name.
  std::vector<DeviceAccess> rename(const UserId& user, const std::string& username, std::uint64_t used);
  bool holds(const Address& address) const { return held_by_.contains(address); }
  /// Everything, for a ruleset made anew.
  std::vector<DeviceAccess> devices() const;
  std::shared_ptr<const AccessRules> rules() const;

  /// Users who are connected and have a monthly quota.
  std::vector<UserId> with_quota() const;
  const UserLimit* limit_of(const UserId& user) const;
  const std::string& name_of(const UserId& user) const;
  /// Of everybody who is admitted.
  std::unordered_map<UserId, std::string> names() const;
  /// Of a connected user; nothing: no quota.
  std::optional<QuotaStanding> standing(const UserId& user) const;
  /// How the user stands now. True: that changes the rights of the user's devices.
  bool stand(const UserId& user, const QuotaStanding& standing);
  std::vector<DeviceAccess> devices_of(const UserId& user) const;
  /// The highest threshold somebody was told of, in per cent; outlives sessions and policies.
  int told(const UserId& user) const;
  void set_told(const UserId& user, int percent);

 private:
  struct Holder {
    UserId user;
    std::vector<Address> addresses;
  };
  struct Entry {
    std::string username;
    std::uint32_t access_class = open_class;
    std::optional<UserLimit> limit;
    QuotaStanding standing;
    std::vector<Instance> sessions;
  };

  Entry& entry_of(const UserId& user, const std::string& username, std::uint64_t used);
  void judge(Entry& entry, std::uint64_t used) const;
  std::vector<DeviceAccess> hold(const Instance& instance, const UserId& user, const LaneAddresses& addresses);
  static DeviceAccess access_of(const Entry& entry, const Address& address);

  std::shared_ptr<const AccessPolicy> policy_;
  std::uint64_t revision_ = 1;
  std::unordered_map<Instance, Holder> holders_;
  std::unordered_map<Address, Instance> held_by_;
  std::unordered_map<UserId, Entry> users_;
  std::unordered_map<UserId, int> told_;
};

}  // namespace tornado::inline v1
