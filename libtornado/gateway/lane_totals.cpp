// What the lanes have moved: the history's totals and what the live sessions add to them.
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "session/history_repo.hpp"

namespace tornado::inline v1 {

Task<std::vector<LaneSummary>> Gateway::lanes() {
  TRY_VOID(co_await impl_->drain_history());
  std::vector<LaneTraffic> recorded;
  Database::Body body = [&](Tx& tx) -> Result<void> {
    TRY_PLAIN(recorded, history_repo::lane_traffic(tx));
    return {};
  };
  TRY_VOID(co_await impl_->parts.database->transact(Scope::system(), body));
  std::vector<LaneSummary> out;
  for (const auto& [lane, settings] : impl_->lanes) {
    LaneSummary& summary = out.emplace_back();
    summary.lane = lane;
    summary.interface = settings->interface;
    summary.mode = impl_->lane_policy(lane, *settings).mode;
    summary.pool = impl_->ipam.usage(lane);
    for (const auto& traffic : recorded)
      if (traffic.lane == lane) {
        summary.received = traffic.received;
        summary.sent = traffic.sent;
      }
  }
  std::string after;
  do {
    auto page = impl_->sessions.list(after, 10'000);
    for (const auto& session : page.sessions)
      for (auto& summary : out) summary.add(session);
    after = page.next;
  } while (!after.empty());
  co_return out;
}

void LaneSummary::add(const Session& session) {
  if (session.lane == lane && session.presence != Presence::offline) ++devices;
  const LaneCounters* account = session.counters_on(lane);
  if (account == nullptr) return;
  received += account->total_received();
  sent += account->total_sent();
  receive_rate += account->receive_rate;
  send_rate += account->send_rate;
}

}  // namespace tornado::inline v1
