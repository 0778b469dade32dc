#include "firewall/ruleset.hpp"

#include <algorithm>

namespace tornado::inline v1 {

std::vector<ElementSet> api_sets(std::vector<Endpoint> endpoints) {
  std::sort(endpoints.begin(), endpoints.end());
  endpoints.erase(std::unique(endpoints.begin(), endpoints.end()), endpoints.end());
  ElementSet v4{std::string(api4_set), SetType::endpoint4, {}, {}, 0};
  ElementSet v6{std::string(api6_set), SetType::endpoint6, {}, {}, 0};
  for (const Endpoint& endpoint : endpoints) {
    if (endpoint.port == 0 || endpoint.address.is_unspecified()) continue;
    (endpoint.address.is_v4() ? v4 : v6).endpoints.push_back(endpoint);
  }
  return {std::move(v4), std::move(v6)};
}

void replace_api(Ruleset& ruleset, const std::vector<Endpoint>& endpoints) {
  for (ElementSet& fresh : api_sets(endpoints))
    for (ElementSet& set : ruleset.sets)
      if (set.name == fresh.name) set.endpoints = fresh.endpoints;
}

bool replace_lane(Ruleset& ruleset, const Ruleset& from, const Lane& lane) {
  if (lane.empty()) return false;
  bool found = false;
  for (const Chain& source : from.chains) {
    if (source.lane != lane) continue;
    auto target = std::find_if(ruleset.chains.begin(), ruleset.chains.end(),
                               [&](const Chain& chain) { return chain.name == source.name && chain.lane == lane; });
    if (target == ruleset.chains.end()) return false;
    target->rules = source.rules;
    found = true;
  }
  return found;
}

}  // namespace tornado::inline v1
