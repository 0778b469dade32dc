// Other firewalls of this host that may drop what the lanes carry (I-24).
#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

std::string described(const ForeignChain& chain) {
  return chain.str() + " (hook " + chain.hook + (chain.by_rule ? ", last rule drops or rejects)" : ", policy drop)");
}

/// What has to pass such a chain depends on where it is.
std::string next_step(const ForeignChain& chain, const Config& config) {
  std::string lanes = config.lanes.vpn.interface + " and " + config.lanes.tor.interface;
  if (chain.hook == "forward") return "let " + lanes + " pass in it";
  std::string ports = std::to_string(config.listen_endpoint().port) + "/tcp, " +
                      std::to_string(config.lanes.vpn.listen_port) + "/udp, " +
                      std::to_string(config.lanes.tor.listen_port) + "/udp";
  if (chain.hook == "input") return "let " + ports + " and what comes from " + lanes + " pass in it";
  return "let " + ports + " and " + lanes + " pass in it";
}

}  // namespace

void Gateway::Impl::report_foreign_chain(const ForeignChain& chain) {
  json::object event;
  event["family"] = chain.family;
  event["table"] = chain.table;
  event["chain"] = chain.chain;
  event["hook"] = chain.hook;
  events.publish("foreign_chain_drops", to_json(json::value(std::move(event))));
  runtime.log().write(LogLevel::warning, "foreign_chain_drops",
                      {{"family", chain.family},
                       {"table", chain.table},
                       {"chain", chain.chain},
                       {"hook", chain.hook},
                       {"detail", described(chain) + ": " + next_step(chain, config)}});
}

/// Nobody can tell from outside what such a chain lets through before it drops: it is reported until somebody names it
/// in `firewall.known_chains`. Never an error: without an answer the last one stays.
Task<void> Gateway::Impl::check_foreign_chains() {
  TRY(auto found, co_await parts.firewall->foreign_drops());
  const bool v6 = config.pool("vpn").v6.has_value();
  const auto& known = config.firewall.known_chains;
  std::vector<ForeignChain> drops;
  for (auto& chain : found) {
    bool settled = std::find(known.begin(), known.end(), chain.str()) != known.end();
    if (!settled && (v6 || chain.family != "ip6")) drops.push_back(std::move(chain));
  }
  std::string detail;
  for (const auto& chain : drops) {
    bool told = std::find(foreign_chains.begin(), foreign_chains.end(), chain) != foreign_chains.end();
    if (!told) report_foreign_chain(chain);
    detail += described(chain) + ": " + next_step(chain, config) + "; ";
  }
  if (!drops.empty()) detail += "then name it in firewall.known_chains (docs/operations/firewall.md)";
  Component component("foreign_chains", drops.empty(), drops.empty() ? "none drops what it does not know" : detail);
  component.advisory = true;
  components["foreign_chains"] = std::move(component);
  foreign_chains = std::move(drops);
  co_return Result<void>();
}

}  // namespace tornado::inline v1
