// Whether a user reaches a place, rule by rule in the order the ruleset has them.
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "limits/quantity.hpp"

namespace tornado::inline v1 {
namespace {

AccessVerdict verdict(bool allowed, std::string rule, std::string detail) {
  AccessVerdict out;
  out.allowed = allowed;
  out.rule = std::move(rule);
  out.detail = std::move(detail);
  return out;
}

bool is_dns(const AccessTarget& target) {
  constexpr std::uint16_t dns_port = 53;
  return target.protocol != AccessProtocol::icmp && target.port == dns_port;
}

}  // namespace

AccessVerdict Gateway::Impl::dns_verdict(const LanePolicy& lane, const AccessTarget& target) const {
  bool answered = target.protocol == AccessProtocol::udp;
  if (lane.mode == LaneMode::closed) answered = false;
  if (lane.mode == LaneMode::open) answered = target.address.is_v4() || resolves6;
  return verdict(
      answered, "gateway dns",
      answered ? "DNS to any address is answered by the gateway's resolver" : "this lane has no resolver for it now");
}

/// What holds for every device of a lane.
std::optional<AccessVerdict> Gateway::Impl::lane_verdict(const LanePolicy& lane, const AccessTarget& target) const {
  const std::string& where = lane.lane.str();
  const Endpoint endpoint(target.address, target.port);
  const bool own_api = (target.address == lane.gateway || target.address == lane.gateway6) &&
                       target.port == config.listen_endpoint().port;
  if (target.protocol == AccessProtocol::tcp && (own_api || std::find(api.begin(), api.end(), endpoint) != api.end()))
    return verdict(true, "gateway api", "the client API is always in reach");
  if (!target.address.is_v4() && !lane.pool6) return verdict(false, "gateway family", "lane " + where + " has no IPv6");
  if (is_dns(target)) return dns_verdict(lane, target);
  if (target.protocol == AccessProtocol::icmp && (target.address == lane.gateway || target.address == lane.gateway6))
    return verdict(true, "gateway echo", "the gateway answers echo");
  if (target.address.is_loopback()) return verdict(false, "gateway loopback", "loopback is never in reach of a lane");
  if (lane.mode == LaneMode::tor && target.protocol != AccessProtocol::tcp)
    return verdict(false, "gateway tor", "Tor carries TCP and DNS, nothing else");
  if (lane.mode == LaneMode::closed || lane.mode == LaneMode::maintenance)
    return verdict(false, "gateway mode", "lane " + where + " is in mode " + std::string(name(lane.mode)));
  for (const auto& [other, settings] : lanes) {
    const LanePolicy policy = lane_policy(other, *settings);
    if (lane.mode == LaneMode::open &&
        (policy.pool.contains(target.address) || (policy.pool6 && policy.pool6->contains(target.address))))
      return verdict(false, "gateway lanes", "devices do not reach each other, nor other lanes");
  }
  return std::nullopt;
}

Task<AccessVerdict> Gateway::explain_access(Caller, std::string username, AccessTarget target, Lane lane) {
  TRY(auto user, co_await impl_->users.find(username));
  auto settings =
      std::find_if(impl_->lanes.begin(), impl_->lanes.end(), [&](const auto& l) { return l.first == lane; });
  if (settings == impl_->lanes.end()) co_return Error(errc::not_found, "no lane '" + lane.str() + "'");
  if (auto general = impl_->lane_verdict(impl_->lane_policy(lane, *settings->second), target)) co_return *general;
  const AccessPolicy* policy = impl_->access.policy();
  if (policy == nullptr) co_return verdict(true, "default", "no policy is applied");
  if (impl_->policy_closed()) co_return verdict(false, "policy held back", impl_->components.at("policy").detail);
  const auto limit = policy->limit_of(user.username);
  if (limit && limit->action == QuotaAction::block) {
    const QuotaStanding standing = standing_of(*limit, impl_->used(user.id));
    if (standing.exhausted())
      co_return verdict(false, "limit " + limit->name,
                        volume_text(standing.used) + " of " + volume_text(standing.limit) + " are used up in " +
                            impl_->quota.month().str());
  }
  co_return policy->explain(user.username, target);
}

}  // namespace tornado::inline v1
