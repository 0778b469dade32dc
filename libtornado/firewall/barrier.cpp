#include "firewall/barrier.hpp"

#include "base/try.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::uint32_t main_table = 254;

Route route(const Prefix& destination, RouteKind kind, std::uint32_t table) {
  Route out;
  out.destination = destination;
  out.kind = kind;
  out.table = table;
  return out;
}

RoutingRule rule(bool v6, std::uint32_t priority, std::uint32_t table) {
  RoutingRule out;
  out.v6 = v6;
  out.priority = priority;
  out.table = table;
  return out;
}

}  // namespace

Barrier pool_end(const LanePolicy& lane) {
  Barrier out;
  for (const auto& pool : {std::optional(lane.pool), lane.pool6}) {
    if (!pool) continue;
    Route end = route(*pool, RouteKind::blackhole, main_table);
    end.metric = pool_end_metric;
    out.routes.push_back(end);
  }
  return out;
}

Barrier barrier(const LanePolicy& lane, std::uint32_t table) {
  static const Prefix everything4("0.0.0.0/0"), everything6("::/0");
  Barrier out = pool_end(lane);
  for (bool v6 : {false, true}) {
    std::optional<Prefix> pool;
    if (v6)
      pool = lane.pool6;
    else
      pool = lane.pool;
    out.routes.push_back(route(v6 ? everything6 : everything4, RouteKind::blackhole, table));
    RoutingRule by_link = rule(v6, barrier_link_priority, table);
    by_link.incoming = lane.interface;
    out.rules.push_back(std::move(by_link));
    if (!pool) continue;
    RoutingRule own = rule(v6, barrier_own_priority, main_table);
    own.incoming = "lo";
    own.source = pool;
    own.destination = pool;
    out.rules.push_back(std::move(own));
    RoutingRule by_source = rule(v6, barrier_source_priority, table);
    by_source.source = pool;
    out.rules.push_back(std::move(by_source));
  }
  return out;
}

Task<void> raise(Host& host, const Barrier& barrier) {
  for (const Route& route : barrier.routes) TRY_VOID(co_await host.ensure_route(route));
  for (const RoutingRule& rule : barrier.rules) TRY_VOID(co_await host.ensure_rule(rule));
  co_return Result<void>();
}

Task<void> lower(Host& host, const Barrier& barrier) {
  for (const RoutingRule& rule : barrier.rules) TRY_VOID(co_await host.remove_rule(rule));
  for (const Route& route : barrier.routes) TRY_VOID(co_await host.remove_route(route));
  co_return Result<void>();
}

}  // namespace tornado::inline v1
