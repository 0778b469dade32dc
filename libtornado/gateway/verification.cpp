// A throw-away device of one lane, which proves from inside that the lane holds.
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"
#include "gateway/gateway_impl.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

constexpr Seconds verification_time{60};
constexpr std::size_t most_failed = 256;

/// The same one each time: it gets its former address again, so that verifying often uses up no pool.
Owner verifier(const Lane& lane) {
  return Owner("verify-" + lane.str());
}

std::string record_of(const Config& config) {
  return config.state_dir + "/verification.json";
}

}  // namespace

/// The peer is on record before it is on the interface: after a crash it is ours, not a foreign one.
Task<void> Gateway::Impl::record_verification() {
  json::object out;
  out["lane"] = verification->lane.str();
  out["public_key"] = verification->key.str();
  std::string text = to_json(out), path = record_of(config);
  auto write = [&]() -> Result<void> { return replace_file(path, text); };
  co_return co_await runtime.offload(Blocking::file, write);
}

/// What an earlier run left, to be cleared as soon as time goes on. Returns its key.
Task<std::optional<PublicKey>> Gateway::Impl::recall_verification() {
  std::string path = record_of(config);
  auto read = [&]() -> Result<std::string> { return read_file(path, 4096); };
  auto text = co_await runtime.offload(Blocking::file, read);
  if (!text) co_return std::optional<PublicKey>();
  auto value = parse_json(*text);
  if (!value || !value->is_object()) co_return std::optional<PublicKey>();
  auto key = PublicKey::parse(text_at(value->get_object(), "public_key").value_or(""));
  Lane lane(text_at(value->get_object(), "lane").value_or(""));
  if (!key || lane.empty()) co_return std::optional<PublicKey>();
  verification.emplace();
  verification->lane = lane;
  verification->key = *key;
  verification->until = runtime.now();
  co_return std::optional<PublicKey>(*key);
}

Task<void> Gateway::Impl::admit_verifier() {
  const Owner owner = verifier(verification->lane);
  take_up_lease(owner);
  TRY(auto lease, ipam.lease(owner, {verification->lane}, verification_time));
  verification->lease = lease.id;
  verification->addresses = lease.addresses;
  // Kept until the removal of the peer is confirmed, however long that takes (I-06).
  TRY_VOID(ipam.bind(lease.id));
  TRY_VOID(co_await record_verification());
  TRY_VOID(co_await set_rights(access.admit_open(Instance(verification->token), lease.addresses), {}));
  WantedPeer peer(owner, verification->key, lease.addresses);
  co_return co_await peers.add(peer);
}

Task<void> Gateway::Impl::clear_verification() {
  if (!verification || verification->clearing) co_return Result<void>();
  verification->clearing = true;
  auto removed = co_await remove_verifier();
  if (!removed) {
    verification->clearing = false;
    verification->until = runtime.now() + Seconds(1);
    co_return removed.error();
  }
  auto dismissed = co_await dismiss(Instance(verification->token));
  if (verification->lease) free_lease(*verification->lease, dismissed.has_value());
  std::string path = record_of(config);
  auto erase = [&]() -> Result<void> {
    (void)::unlink(path.c_str());
    return {};
  };
  (void)co_await runtime.offload(Blocking::file, erase);
  verification.reset();
  co_return Result<void>();
}

Task<void> Gateway::Impl::remove_verifier() {
  const PublicKey key = verification->key;
  const Owner owner = verifier(verification->lane);
  TRY_VOID(co_await peers.strip(owner, key));
  std::vector<PublicKey> keys(1, key);
  TRY_VOID(co_await peers.remove(keys));
  const LaneAddresses addresses = verification->addresses;
  for (const auto& address : addresses) {
    TRY_VOID(co_await parts.host->flush_connections(address.v4, address.lane));
    if (address.v6) TRY_VOID(co_await parts.host->flush_connections(*address.v6, address.lane));
    if (!tor || address.lane.str() != "tor") continue;
    (void)co_await tor->close_circuits(address.v4);
    if (address.v6) (void)co_await tor->close_circuits(*address.v6);
  }
  co_return Result<void>();
}

/// Called by the tick: a verification that was admitted and not ended, or could not be cleared, is cleared by time.
void Gateway::Impl::watch_verification() {
  if (!verification || verification->admitting || verification->clearing || runtime.now() < verification->until) return;
  background.add("clear_verification", clear_verification());
}

Task<VerificationTicket> Gateway::verify_begin(Caller caller, Lane lane, std::string public_key) {
  if (!impl_->ready) co_return Error(errc::unavailable, "the gateway is starting");
  auto entry = std::find_if(impl_->lanes.begin(), impl_->lanes.end(),
                            [&](const auto& candidate) { return candidate.first == lane; });
  if (entry == impl_->lanes.end()) co_return Error(errc::not_found, "no lane '" + lane.str() + "'");
  if (impl_->verification)
    co_return Error(errc::conflict, "lane " + impl_->verification->lane.str() +
                                        " is being verified; wait for its end, a minute at most");
  TRY(auto key, impl_->acceptable_key(public_key, DeviceId(verifier(lane).str())));
  const LaneConfig& settings = *entry->second;
  impl_->verification.emplace();
  auto& own = *impl_->verification;
  own.token = uuid4();
  own.lane = lane;
  own.key = key;
  own.until = impl_->runtime.now() + verification_time;
  own.mode = impl_->lane_policy(lane, settings).mode;
  // However long that takes, it is there meanwhile.
  own.admitting = true;
  auto admitted = co_await impl_->admit_verifier();
  impl_->verification->admitting = false;
  if (!admitted) {
    auto cleared = co_await impl_->clear_verification();
    if (!cleared)
      impl_->runtime.log().write(LogLevel::warning, "verification_stays", {{"detail", cleared.error().detail()}});
    co_return admitted.error();
  }
  impl_->runtime.log().write(LogLevel::info, "lane_verification", {{"lane", lane.str()}, {"operator", caller.name}});
  VerificationTicket out;
  out.token = impl_->verification->token;
  out.policy = impl_->lane_policy(lane, settings);
  out.address = impl_->verification->addresses.front();
  out.server_key = impl_->lane_keys.at(lane);
  out.port = settings.listen_port;
  out.until = impl_->verification->until;
  co_return out;
}

Task<LaneVerified> Gateway::verify_end(Caller, std::string token, int held, std::vector<std::string> failed) {
  if (!impl_->verification || token.empty() || impl_->verification->token != token)
    co_return Error(errc::not_found, "no such verification; it may have taken too long");
  if (held < 0 || failed.size() > most_failed) co_return Error(errc::invalid_argument, "held, failed");
  LaneVerified out;
  out.lane = impl_->verification->lane;
  out.at = impl_->runtime.now();
  out.held = held;
  out.failed = std::move(failed);
  for (const auto& [lane, settings] : impl_->lanes)
    if (lane == out.lane) out.mode = impl_->lane_policy(lane, *settings).mode;
  out.mode_changed = out.mode != impl_->verification->mode;
  // Its own process waits for no other part of the answer: what cannot be cleared now is cleared by time.
  auto cleared = co_await impl_->clear_verification();
  if (!cleared)
    impl_->runtime.log().write(LogLevel::warning, "verification_stays", {{"detail", cleared.error().detail()}});
  impl_->remember(out);
  co_return out;
}

void Gateway::Impl::remember(const LaneVerified& outcome) {
  // A mode that changed meanwhile makes false alarms, not proof of either.
  if (outcome.mode_changed) return;
  verified[outcome.lane] = outcome;
  std::string name = "lane_" + outcome.lane.str() + "_verified";
  std::string detail = std::to_string(outcome.held) + " probes held";
  for (const auto& probe : outcome.failed) detail += ", " + probe;
  Component component(name, outcome.failed.empty() && outcome.held > 0, detail + " at " + iso8601(outcome.at));
  component.advisory = true;
  components[name] = component;
  json::object fields;
  json::array failed;
  for (const auto& probe : outcome.failed) failed.emplace_back(probe);
  fields["lane"] = outcome.lane.str();
  fields["mode"] = std::string(tornado::name(outcome.mode));
  fields["held"] = outcome.held;
  fields["failed"] = std::move(failed);
  events.publish("lane_verified", to_json(fields));
  auto level = outcome.failed.empty() ? LogLevel::info : LogLevel::error;
  runtime.log().write(level, "lane_verified", {{"lane", outcome.lane.str()}, {"detail", detail}});
}

std::vector<LaneVerified> Gateway::verified() const {
  std::vector<LaneVerified> out;
  for (const auto& [lane, outcome] : impl_->verified) out.push_back(outcome);
  return out;
}

}  // namespace tornado::inline v1
