#include <algorithm>
#include <optional>

#include "base/notifier.hpp"
#include "base/try.hpp"
#include "firewall/ruleset.hpp"
#include "tornado/firewall.hpp"

namespace tornado::inline v1 {

Task<std::vector<ForeignChain>> Firewall::foreign_drops() {
  co_return Error(errc::unimplemented, "this firewall does not know the tables of others");
}

struct MemoryFirewall::Impl {
  explicit Impl(Runtime& runtime) : changes(runtime) {}

  Result<void> begin() {
    if (failures == 0) return {};
    --failures;
    return Error(failure, "injected");
  }

  std::shared_ptr<const Ruleset> applied;
  std::unordered_map<Address, DeviceAccess> devices;
  std::vector<ForeignChain> foreign;
  bool tampered = false;
  int failures = 0;
  errc failure = errc::backend_failed;
  Notifier changes;
};

MemoryFirewall::MemoryFirewall(Runtime& runtime) : impl_(std::make_unique<Impl>(runtime)) {}
MemoryFirewall::~MemoryFirewall() = default;

Task<void> MemoryFirewall::apply(std::shared_ptr<const Ruleset> ruleset) {
  TRY_VOID(impl_->begin());
  if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
  impl_->applied = std::move(ruleset);
  impl_->devices = devices_of(*impl_->applied);
  impl_->tampered = false;
  co_return Result<void>();
}

Task<void> MemoryFirewall::mode(std::shared_ptr<const Ruleset> ruleset, Lane lane) {
  TRY_VOID(impl_->begin());
  if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
  if (!impl_->applied) co_return Error(errc::backend_failed, "no table");
  auto next = std::make_shared<Ruleset>(*impl_->applied);
  if (!replace_lane(*next, *ruleset, lane)) co_return Error(errc::invalid_argument, "no lane '" + lane.str() + "'");
  impl_->applied = std::move(next);
  co_return Result<void>();
}

Task<void> MemoryFirewall::api(std::vector<Endpoint> endpoints) {
  TRY_VOID(impl_->begin());
  if (!impl_->applied) co_return Error(errc::backend_failed, "no table");
  auto next = std::make_shared<Ruleset>(*impl_->applied);
  replace_api(*next, endpoints);
  impl_->applied = std::move(next);
  co_return Result<void>();
}

Task<void> MemoryFirewall::access(std::shared_ptr<const Ruleset> ruleset) {
  TRY_VOID(impl_->begin());
  if (!ruleset) co_return Error(errc::invalid_argument, "no ruleset");
  if (!impl_->applied) co_return Error(errc::backend_failed, "no table");
  auto next = std::make_shared<Ruleset>(*impl_->applied);
  replace_access(*next, *ruleset);
  impl_->devices = devices_of(*next);
  impl_->applied = std::move(next);
  co_return Result<void>();
}

Task<void> MemoryFirewall::devices(std::vector<DeviceAccess> changed, std::vector<Address> gone) {
  TRY_VOID(impl_->begin());
  if (!impl_->applied) co_return Error(errc::backend_failed, "no table");
  DeviceChanges(impl_->devices, std::move(changed), std::move(gone)).apply(impl_->devices);
  co_return Result<void>();
}

std::optional<DeviceAccess> MemoryFirewall::access_of(const Address& address) const {
  auto found = impl_->devices.find(address);
  if (found == impl_->devices.end()) return std::nullopt;
  return found->second;
}

Task<void> MemoryFirewall::remove() {
  TRY_VOID(impl_->begin());
  impl_->applied.reset();
  impl_->devices.clear();
  impl_->tampered = false;
  co_return Result<void>();
}

Task<bool> MemoryFirewall::intact() {
  co_return impl_->applied != nullptr && !impl_->tampered;
}

Task<std::uint64_t> MemoryFirewall::changed(std::uint64_t since) {
  bool woken = co_await impl_->changes.wait(since);
  if (!woken) co_return Error(errc::cancelled);
  co_return impl_->changes.revision();
}

Task<std::vector<ForeignChain>> MemoryFirewall::foreign_drops() {
  TRY_VOID(impl_->begin());
  co_return impl_->foreign;
}

void MemoryFirewall::set_foreign_drops(std::vector<ForeignChain> chains) {
  std::sort(chains.begin(), chains.end());
  impl_->foreign = std::move(chains);
}

std::shared_ptr<const Ruleset> MemoryFirewall::applied() const {
  return impl_->applied;
}

void MemoryFirewall::fail_next(int count, errc code) {
  impl_->failures = count;
  impl_->failure = code;
}

void MemoryFirewall::tamper() {
  impl_->applied.reset();
  impl_->devices.clear();
  damage();
}

void MemoryFirewall::damage() {
  impl_->tampered = true;
  impl_->changes.notify();
}

}  // namespace tornado::inline v1
