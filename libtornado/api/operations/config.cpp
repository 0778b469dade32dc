// config ...: what the gateway runs with, and another configuration while it runs.
#include "api/operations.hpp"
#include "base/json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Task<json::value> show(Gateway& gateway, Caller, Arguments) {
  TRY(auto tree, parse_json(gateway.config().show()));
  co_return tree;
}

/// `now`: when the ones that are reloadable take effect.
json::value shown(const std::vector<ConfigChange>& changes, std::string_view now) {
  json::array out;
  for (const ConfigChange& change : changes) {
    json::object entry;
    entry["key"] = change.key;
    entry["running"] = parse_json(change.running).value();
    entry["wanted"] = parse_json(change.wanted).value();
    entry["takes_effect"] = change.reloadable ? now : "with a restart";
    out.push_back(std::move(entry));
  }
  return out;
}

Task<json::value> diff(Gateway& gateway, Caller, Arguments) {
  TRY(auto changes, co_await gateway.config_changes());
  co_return shown(changes, "with a reload");
}

Task<json::value> reload(Gateway& gateway, Caller, Arguments) {
  TRY(auto changes, co_await gateway.reload());
  co_return shown(changes, "now");
}

}  // namespace

void add_config_operations(std::vector<Operation>& table) {
  table.push_back({"config.show",
                   Permission::read,
                   "Show the configuration the daemon runs with",
                   "tornadoctl config show",
                   {},
                   {},
                   false,
                   show});
  table.push_back({"config.diff",
                   Permission::read,
                   "Show what the configuration file has otherwise than the daemon that runs",
                   "tornadoctl config diff",
                   {},
                   {"key", "running", "wanted", "takes_effect"},
                   false,
                   diff});
  table.push_back({"config.reload",
                   Permission::write,
                   "Read the configuration file again and take over what can change while the daemon runs",
                   "tornadoctl config reload",
                   {},
                   {"key", "running", "wanted", "takes_effect"},
                   false,
                   reload});
}

}  // namespace tornado::inline v1
