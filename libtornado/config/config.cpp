#include "tornado/config.hpp"

#include <cstring>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/try.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

Error invalid(std::string_view path, std::string_view why) {
  return Error(errc::invalid_config, std::string(path) + ": " + std::string(why));
}

/// The one table of keys: every field with its path. Used by load, set, show and diff.
template <class C, class Visit>
void each_field(C& c, Visit&& visit) {
  visit("state_dir", c.state_dir);
  visit("runtime_dir", c.runtime_dir);
  visit("client_api.listen", c.client_api.listen);
  visit("client_api.public", c.client_api.publics);
  visit("client_api.max_connections", c.client_api.max_connections);
  visit("client_api.max_connections_per_address", c.client_api.max_connections_per_address);
  visit("client_api.idle_timeout", c.client_api.idle_timeout);
  visit("client_api.request_timeout", c.client_api.request_timeout);
  visit("client_api.max_body", c.client_api.max_body);
  visit("client_api.trust_forwarded_for", c.client_api.trust_forwarded_for);
  visit("endpoint.host", c.endpoint.host);
  auto lane = [&](const std::string& name, auto& l) {
    visit("lanes." + name + ".interface", l.interface);
    visit("lanes." + name + ".listen_port", l.listen_port);
    visit("lanes." + name + ".pool", l.pool);
    visit("lanes." + name + ".pool6", l.pool6);
    visit("lanes." + name + ".mtu", l.mtu);
  };
  lane("vpn", c.lanes.vpn);
  lane("tor", c.lanes.tor);
  visit("session.heartbeat_ttl", c.session.heartbeat_ttl);
  visit("session.hard_ttl", c.session.hard_ttl);
  visit("session.idle_ttl", c.session.idle_ttl);
  visit("session.grace", c.session.grace);
  visit("session.quiet_after", c.session.quiet_after);
  visit("session.sample_interval", c.session.sample_interval);
  visit("session.checkpoint_interval", c.session.checkpoint_interval);
  visit("session.reconcile_interval", c.session.reconcile_interval);
  visit("session.address_privacy", c.session.address_privacy);
  visit("ipam.quarantine", c.ipam.quarantine);
  visit("ipam.lease_term", c.ipam.lease_term);
  visit("ipam.warn_percent", c.ipam.warn_percent);
  visit("auth.issuer", c.auth.issuer);
  visit("auth.audience", c.auth.audience);
  visit("auth.access_term", c.auth.access_term);
  visit("auth.refresh_term", c.auth.refresh_term);
  visit("auth.retry_window", c.auth.retry_window);
  visit("auth.offline_grace", c.auth.offline_grace);
  visit("auth.address_failures", c.auth.address_failures);
  visit("auth.account_failures", c.auth.account_failures);
  visit("auth.failure_window", c.auth.failure_window);
  visit("auth.ban", c.auth.ban);
  visit("auth.hash_memory_kib", c.auth.hash_memory_kib);
  visit("auth.hash_passes", c.auth.hash_passes);
  visit("auth.hash_lanes", c.auth.hash_lanes);
  visit("keys.rotate_every", c.keys.rotate_every);
  visit("keys.lead", c.keys.lead);
  visit("keys.login_every", c.keys.login_every);
  visit("database.url", c.database.url);
  visit("database.reserve_mib", c.database.reserve_mib);
  visit("live.url", c.live.url);
  visit("dns.upstream", c.dns.upstream);
  visit("dns.upstream6", c.dns.upstream6);
  visit("firewall.connections_per_device", c.firewall.connections_per_device);
  visit("firewall.known_chains", c.firewall.known_chains);
  visit("policy.versions", c.policy.versions);
  visit("policy.usage_months", c.policy.usage_months);
  visit("wireguard.backend", c.wireguard.backend);
  visit("wireguard.launch", c.wireguard.launch);
  visit("wireguard.program", c.wireguard.program);
  visit("wireguard.socket_dir", c.wireguard.socket_dir);
  visit("wireguard.foreign_peers", c.wireguard.foreign_peers);
  visit("wireguard.preshared_keys", c.wireguard.preshared_keys);
  visit("tor.launch", c.tor.launch);
  visit("tor.socket_dir", c.tor.socket_dir);
  visit("tor.program", c.tor.program);
  visit("tor.account", c.tor.account);
  visit("tor.trans_port", c.tor.trans_port);
  visit("tor.dns_port", c.tor.dns_port);
  visit("tor.page_port", c.tor.page_port);
  visit("tor.responder_port", c.tor.responder_port);
  visit("tor.socks_port", c.tor.socks_port);
  visit("tor.bridges", c.tor.bridges);
  visit("tor.obfs4", c.tor.obfs4);
  visit("tor.exit_countries", c.tor.exit_countries);
  visit("tor.excluded_countries", c.tor.excluded_countries);
  visit("tor.proxy", c.tor.proxy);
  visit("tor.data_limit", c.tor.data_limit);
  visit("tor.options", c.tor.options);
  visit("tor.probe_name", c.tor.probe_name);
  visit("tor.patience", c.tor.patience);
  visit("metrics.listen", c.metrics.listen);
  visit("control.group", c.control.group);
  visit("log.level", c.log.level);
}

json::value to_value(const std::string& field) {
  return json::value(field);
}
json::value to_value(bool field) {
  return json::value(field);
}
json::value to_value(int field) {
  return json::value(field);
}
json::value to_value(std::uint16_t field) {
  return json::value(field);
}
json::value to_value(const std::vector<std::string>& field) {
  json::array out;
  for (const auto& entry : field) out.emplace_back(entry);
  return out;
}

Result<void> assign(std::string& field, const json::value& value, std::string_view path) {
  if (!value.is_string()) return invalid(path, "a text is expected");
  field = std::string(value.get_string());
  return {};
}

Result<void> assign(bool& field, const json::value& value, std::string_view path) {
  if (!value.is_bool()) return invalid(path, "true or false is expected");
  field = value.get_bool();
  return {};
}

template <class Integer>
Result<void> assign_integer(Integer& field, const json::value& value, std::string_view path) {
  const auto* number = value.if_int64();
  if (number == nullptr || *number < 0 || *number > std::numeric_limits<Integer>::max())
    return invalid(path,
                   "a whole number from 0 to " + std::to_string(std::numeric_limits<Integer>::max()) + " is expected");
  field = static_cast<Integer>(*number);
  return {};
}
Result<void> assign(int& field, const json::value& value, std::string_view path) {
  return assign_integer(field, value, path);
}
Result<void> assign(std::uint16_t& field, const json::value& value, std::string_view path) {
  return assign_integer(field, value, path);
}

Result<void> assign(std::vector<std::string>& field, const json::value& value, std::string_view path) {
  std::vector<std::string> entries;
  if (value.is_string())
    entries.emplace_back(value.get_string());
  else if (!value.is_array())
    return invalid(path, "a list of texts is expected");
  if (value.is_array())
    for (const auto& entry : value.get_array()) {
      if (!entry.is_string()) return invalid(path, "a list of texts is expected");
      entries.emplace_back(entry.get_string());
    }
  field = std::move(entries);
  return {};
}

Result<void> assign_path(Config& config, std::string_view path, const json::value& value) {
  std::optional<Result<void>> outcome;
  each_field(config, [&](std::string_view key, auto& field) {
    if (key == path) outcome = assign(field, value, path);
  });
  if (!outcome) return invalid(path, "no such key");
  return *outcome;
}

/// Objects are walked down; everything else is a value of a key.
Result<void> merge(Config& config, const std::string& path, const json::value& value) {
  if (!value.is_object()) return assign_path(config, path, value);
  bool known = path.empty();
  each_field(config, [&](std::string_view key, auto&) { known = known || key.starts_with(path + "."); });
  if (!known) return invalid(path, "no such key");
  for (const auto& [key, inner] : value.get_object())
    TRY_VOID_PLAIN(merge(config, path.empty() ? std::string(key) : path + "." + std::string(key), inner));
  return {};
}

Result<void> check_lane(const LaneConfig& lane, const std::string& path) {
  auto name_ok = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  };
  if (lane.interface.empty() || lane.interface.size() > 15 ||
      !std::all_of(lane.interface.begin(), lane.interface.end(), name_ok))
    return invalid(path + ".interface", "an interface name has 1 to 15 letters, digits, '-', '_' or '.'");
  if (lane.listen_port == 0) return invalid(path + ".listen_port", "a UDP port from 1 to 65535 is expected");
  auto pool = Prefix::parse(lane.pool);
  if (!pool) return invalid(path + ".pool", pool.error().detail());
  if (!pool->base().is_v4() || pool->length() < 8 || pool->length() > 30)
    return invalid(path + ".pool", "an IPv4 block of /8 to /30 is expected");
  if (!lane.pool6.empty()) {
    auto pool6 = Prefix::parse(lane.pool6);
    if (!pool6) return invalid(path + ".pool6", pool6.error().detail());
    if (pool6->base().is_v4() || pool6->length() < 64 || pool6->length() > 126)
      return invalid(path + ".pool6", "an IPv6 block of /64 to /126 is expected");
  }
  if (lane.mtu < 1280 || lane.mtu > 9000) return invalid(path + ".mtu", "1280 to 9000");
  return {};
}

Result<void> check_range(std::string_view path, int value, int low, int high) {
  if (value >= low && value <= high) return {};
  return invalid(path,
                 "from " + std::to_string(low) + " to " + std::to_string(high) + ", not " + std::to_string(value));
}

Result<void> check_dns(std::string_view path, const std::string& text, bool v4) {
  if (text.empty()) return {};
  auto endpoint = Endpoint::parse(text);
  auto address = endpoint ? Result<Address>(endpoint->address) : Address::parse(text);
  if (!address || address->is_v4() != v4)
    return invalid(path, "an address of the right family is expected, not '" + text + "'");
  if (address->is_loopback())
    return invalid(path, "a loopback address cannot be reached from a lane: name the real resolver");
  return {};
}

bool one_of(std::string_view value, std::initializer_list<std::string_view> allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

/// "ip filter FORWARD"
bool names_chain(std::string_view text) {
  auto first = text.find(' '), second = text.rfind(' ');
  return first != text.npos && second > first + 1 && second + 1 < text.size() && text.find(' ', first + 1) == second &&
         one_of(text.substr(0, first), {"inet", "ip", "ip6"});
}

}  // namespace

Result<Config> Config::load(const std::string& path) {
  auto text = read_file(path);
  if (!text)
    return Error(text.error().code() == errc::not_found ? errc::invalid_config : text.error().code(),
                 text.error().detail());
  auto parsed = parse_json(*text, true);
  if (!parsed) return invalid(path, parsed.error().detail());
  if (!parsed->is_object()) return invalid(path, "an object is expected");
  Config config;
  auto merged = merge(config, "", *parsed);
  if (!merged) return invalid(path, merged.error().detail());
  return config;
}

Result<void> Config::set(std::string_view key, std::string_view value) {
  auto parsed = parse_json(value);
  // A bare word, if it is text at all: what is shown must be readable again, and so must tokens that name an issuer.
  if (!parsed) parsed = parse_json(to_json(json::value(value)));
  if (!parsed) return invalid(key, "not UTF-8");
  return merge(*this, std::string(key), *parsed);
}

Result<void> Config::merge_environment(const char* const* environment) {
  constexpr std::string_view prefix = "TORNADO_";
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    std::string_view entry = *environment;
    auto equals = entry.find('=');
    if (!entry.starts_with(prefix) || equals == entry.npos) continue;
    std::string_view name = entry.substr(prefix.size(), equals - prefix.size());
    // Only nested keys: a bare TORNADO_X may be somebody else's.
    if (name.find("__") == name.npos) continue;
    std::string key;
    for (std::size_t i = 0; i < name.size(); ++i) {
      bool separator = name.substr(i, 2) == "__";
      key += separator ? '.' : static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      i += separator ? 1 : 0;
    }
    TRY_VOID_PLAIN(set(key, entry.substr(equals + 1)));
  }
  return {};
}

namespace {

Result<void> check_api(const Config& c) {
  if (c.state_dir.empty() || c.state_dir[0] != '/') return invalid("state_dir", "an absolute path is expected");
  if (c.runtime_dir.empty() || c.runtime_dir[0] != '/') return invalid("runtime_dir", "an absolute path is expected");
  if (!Endpoint::parse(c.client_api.listen))
    return invalid("client_api.listen", "address:port is expected, not '" + c.client_api.listen + "'");
  for (const auto& entry : c.client_api.publics)
    if (!Endpoint::parse(entry) && !Address::parse(entry))
      return invalid("client_api.public", "an address or address:port is expected, not '" + entry + "'");
  TRY_VOID_PLAIN(check_range("client_api.max_connections", c.client_api.max_connections, 1, 1'000'000));
  TRY_VOID_PLAIN(
      check_range("client_api.max_connections_per_address", c.client_api.max_connections_per_address, 1, 1'000'000));
  TRY_VOID_PLAIN(check_range("client_api.idle_timeout", c.client_api.idle_timeout, 1, 300));
  TRY_VOID_PLAIN(check_range("client_api.request_timeout", c.client_api.request_timeout, 1, 300));
  TRY_VOID_PLAIN(check_range("client_api.max_body", c.client_api.max_body, 1024, 1 << 20));
  if (c.endpoint.host.find(':') != c.endpoint.host.npos)
    return invalid("endpoint.host", "an IPv4 address or a name is expected: clients cut at the first colon (K-04)");
  return {};
}

Result<void> check_lanes(const Config& c) {
  TRY_VOID_PLAIN(check_lane(c.lanes.vpn, "lanes.vpn"));
  TRY_VOID_PLAIN(check_lane(c.lanes.tor, "lanes.tor"));
  Pool vpn = c.pool("vpn"), tor = c.pool("tor");
  if (vpn.v4.overlaps(tor.v4)) return invalid("lanes.tor.pool", "overlaps lanes.vpn.pool");
  if (vpn.v6.has_value() != tor.v6.has_value())
    return invalid("lanes.tor.pool6", "both lanes have an IPv6 pool, or none has");
  if (vpn.v6 && vpn.v6->overlaps(*tor.v6)) return invalid("lanes.tor.pool6", "overlaps lanes.vpn.pool6");
  if (c.lanes.vpn.interface == c.lanes.tor.interface)
    return invalid("lanes.tor.interface", "is the interface of lanes.vpn");
  if (c.lanes.vpn.listen_port == c.lanes.tor.listen_port)
    return invalid("lanes.tor.listen_port", "is the port of lanes.vpn");
  return {};
}

Result<void> check_sessions(const Config& c) {
  TRY_VOID_PLAIN(check_range("session.heartbeat_ttl", c.session.heartbeat_ttl, 10, 3600));
  TRY_VOID_PLAIN(check_range("session.hard_ttl", c.session.hard_ttl, 60, 100'000'000));
  TRY_VOID_PLAIN(check_range("session.idle_ttl", c.session.idle_ttl, c.session.heartbeat_ttl, 100'000'000));
  TRY_VOID_PLAIN(check_range("session.grace", c.session.grace, 0, 3600));
  TRY_VOID_PLAIN(check_range("session.quiet_after", c.session.quiet_after, 10, 86'400));
  TRY_VOID_PLAIN(check_range("session.sample_interval", c.session.sample_interval, 1, 300));
  TRY_VOID_PLAIN(check_range("session.checkpoint_interval", c.session.checkpoint_interval, 1, 3600));
  TRY_VOID_PLAIN(check_range("session.reconcile_interval", c.session.reconcile_interval, 1, 3600));
  // An address must rest longer than a stale peer or a Tor circuit of its former holder can c.live (I-08).
  TRY_VOID_PLAIN(
      check_range("ipam.quarantine", c.ipam.quarantine, std::max(660, c.session.reconcile_interval * 2), 1'000'000));
  TRY_VOID_PLAIN(check_range("ipam.lease_term", c.ipam.lease_term, 10, 3600));
  TRY_VOID_PLAIN(check_range("ipam.warn_percent", c.ipam.warn_percent, 1, 100));
  return {};
}

Result<void> check_auth(const Config& c) {
  if (c.auth.issuer.empty()) return invalid("auth.issuer", "must not be empty");
  if (c.auth.audience.empty()) return invalid("auth.audience", "must not be empty");
  TRY_VOID_PLAIN(check_range("auth.access_term", c.auth.access_term, 120, 86400));
  TRY_VOID_PLAIN(check_range("auth.refresh_term", c.auth.refresh_term, c.auth.access_term, 31'536'000));
  TRY_VOID_PLAIN(check_range("auth.retry_window", c.auth.retry_window, 0, 300));
  TRY_VOID_PLAIN(check_range("auth.address_failures", c.auth.address_failures, 1, 1'000'000));
  TRY_VOID_PLAIN(check_range("auth.account_failures", c.auth.account_failures, 1, 1'000'000));
  TRY_VOID_PLAIN(check_range("auth.failure_window", c.auth.failure_window, 1, 86400));
  TRY_VOID_PLAIN(check_range("auth.ban", c.auth.ban, 1, 86400));
  TRY_VOID_PLAIN(check_range("auth.hash_lanes", c.auth.hash_lanes, 1, 16));
  TRY_VOID_PLAIN(check_range("auth.hash_passes", c.auth.hash_passes, 1, 10));
  TRY_VOID_PLAIN(check_range("auth.hash_memory_kib", c.auth.hash_memory_kib, 8 * c.auth.hash_lanes, 262144));
  TRY_VOID_PLAIN(check_range("keys.lead", c.keys.lead, 0, 3600));
  TRY_VOID_PLAIN(check_range("keys.rotate_every", c.keys.rotate_every, std::max(60, c.keys.lead + 1), 100'000'000));
  TRY_VOID_PLAIN(check_range("keys.login_every", c.keys.login_every, 60, 86400));
  return {};
}

Result<void> check_backends(const Config& c) {
  TRY_VOID_PLAIN(check_range("database.reserve_mib", c.database.reserve_mib, 0, 1024));
  if (!c.database.url.empty() && !c.database.url.starts_with("sqlite:"))
    return invalid("database.url", "sqlite:<path> is expected");
  if (c.live.url != "memory:") return invalid("live.url", "memory: is expected");
  TRY_VOID_PLAIN(check_dns("dns.upstream", c.dns.upstream, true));
  TRY_VOID_PLAIN(check_dns("dns.upstream6", c.dns.upstream6, false));
  TRY_VOID_PLAIN(check_range("firewall.connections_per_device", c.firewall.connections_per_device, 0, 65'535));
  for (const auto& chain : c.firewall.known_chains)
    if (!names_chain(chain))
      return invalid("firewall.known_chains", "\"family table chain\" is expected, not '" + chain + "'");
  TRY_VOID_PLAIN(check_range("policy.versions", c.policy.versions, 1, 10'000));
  TRY_VOID_PLAIN(check_range("policy.usage_months", c.policy.usage_months, 1, 120));
  if (!one_of(c.wireguard.backend, {"auto", "kernel", "userspace", "memory"}))
    return invalid("wireguard.backend", "auto, kernel, userspace or memory is expected");
  if (!one_of(c.wireguard.launch, {"supervised", "external"}))
    return invalid("wireguard.launch", "supervised or external is expected");
  if (!one_of(c.wireguard.foreign_peers, {"alert", "adopt", "remove"}))
    return invalid("wireguard.foreign_peers", "alert, adopt or remove is expected");
  if (!one_of(c.wireguard.preshared_keys, {"offered", "off"}))
    return invalid("wireguard.preshared_keys", "offered or off is expected");
  if (!one_of(c.session.address_privacy, {"full", "network", "none"}))
    return invalid("session.address_privacy", "full, network or none is expected");
  if (!c.metrics.listen.empty() && !Endpoint::parse(c.metrics.listen))
    return invalid("metrics.listen", "address:port is expected, or nothing");
  if (!one_of(c.log.level, {"debug", "info", "warning", "error"}))
    return invalid("log.level", "debug, info, warning or error is expected");
  return {};
}

/// What a circuit can outlive its last stream by, beside its dirtiness (I-08).
constexpr int circuit_margin = 60;

Result<void> check_tor(const Config& c) {
  if (!one_of(c.tor.launch, {"supervised", "external", "none"}))
    return invalid("tor.launch", "supervised, external or none is expected");
  if (!c.tor.socket_dir.starts_with('/')) return invalid("tor.socket_dir", "an absolute path is expected");
  if (!c.tor.program.starts_with('/')) return invalid("tor.program", "an absolute path is expected");
  std::vector<std::pair<std::string_view, std::uint16_t>> ports{{"tor.trans_port", c.tor.trans_port},
                                                                {"tor.dns_port", c.tor.dns_port},
                                                                {"tor.page_port", c.tor.page_port},
                                                                {"tor.responder_port", c.tor.responder_port}};
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (ports[i].second == 0) return invalid(ports[i].first, "a port from 1 to 65535 is expected");
    if (ports[i].second == c.listen_endpoint().port) return invalid(ports[i].first, "is the port of client_api.listen");
    for (std::size_t j = 0; j < i; ++j)
      if (ports[i].second == ports[j].second)
        return invalid(ports[i].first, "is the port of " + std::string(ports[j].first));
  }
  TRY_VOID_PLAIN(check_range("tor.patience", c.tor.patience, 10, 3600));
  TorOptions options = c.tor_options();
  TRY_VOID_PLAIN(torrc(options));
  TRY_PLAIN(const Seconds longest_use, circuit_dirtiness(options));
  auto dirtiness = static_cast<int>(longest_use.count());
  if (c.ipam.quarantine < dirtiness + circuit_margin)
    return invalid("ipam.quarantine", "must exceed MaxCircuitDirtiness of tor.options (" + std::to_string(dirtiness) +
                                          " s) by " + std::to_string(circuit_margin) + " s");
  return {};
}

}  // namespace

Result<void> Config::check() const {
  for (auto* part : {check_api, check_lanes, check_sessions, check_auth, check_backends, check_tor})
    TRY_VOID_PLAIN(part(*this));
  return {};
}

namespace {

void print(const json::value& value, const std::string& indent, std::string& out) {
  if (!value.is_object()) {
    out += to_json(value);
    return;
  }
  out += "{\n";
  std::size_t left = value.get_object().size();
  for (const auto& [key, inner] : value.get_object()) {
    out += indent + "  " + to_json(json::value(key)) + ": ";
    print(inner, indent + "  ", out);
    out += --left > 0 ? ",\n" : "\n";
  }
  out += indent + "}";
}

}  // namespace

std::string Config::show() const {
  json::value root(json::object_kind);
  each_field(*this, [&](std::string_view path, const auto& field) {
    json::object* at = &root.get_object();
    for (auto dot = path.find('.'); dot != path.npos; dot = path.find('.')) {
      auto& inner = (*at)[path.substr(0, dot)];
      if (!inner.is_object()) inner = json::object();
      at = &inner.get_object();
      path.remove_prefix(dot + 1);
    }
    (*at)[path] = to_value(field);
  });
  std::string out;
  print(root, "", out);
  return out + "\n";
}

std::vector<std::string> Config::diff(const Config& other) const {
  std::map<std::string, json::value> mine;
  std::vector<std::string> out;
  each_field(*this, [&](std::string_view path, const auto& field) { mine[std::string(path)] = to_value(field); });
  each_field(other, [&](std::string_view path, const auto& field) {
    if (mine[std::string(path)] != to_value(field)) out.emplace_back(path);
  });
  return out;
}

Result<std::string> Config::value(std::string_view key) const {
  Result<std::string> out = invalid(key, "no such key");
  each_field(*this, [&](std::string_view path, const auto& field) {
    if (path == key) out = to_json(to_value(field));
  });
  return out;
}

bool Config::reloadable(std::string_view key) noexcept {
  return one_of(
      key, {"session.sample_interval", "session.checkpoint_interval", "session.reconcile_interval", "ipam.lease_term",
            "ipam.warn_percent", "dns.upstream", "dns.upstream6", "firewall.connections_per_device",
            "firewall.known_chains", "policy.versions", "policy.usage_months", "log.level"});
}

LogLevel Config::log_level() const noexcept {
  if (log.level == "debug") return LogLevel::debug;
  if (log.level == "warning") return LogLevel::warning;
  return log.level == "error" ? LogLevel::error : LogLevel::info;
}

std::string Config::database_path() const {
  return database.url.empty() ? state_dir + "/tornado.db" : database.url.substr(std::strlen("sqlite:"));
}

Endpoint Config::listen_endpoint() const {
  return Endpoint::parse(client_api.listen).value();
}

Pool Config::pool(const std::string& lane) const {
  const LaneConfig& config = lane == "vpn" ? lanes.vpn : lanes.tor;
  return Pool(Lane(lane), Prefix(config.pool),
              config.pool6.empty() ? std::nullopt : std::optional(Prefix(config.pool6)));
}

SessionOptions Config::session_options() const {
  SessionOptions options(database_path());
  options.heartbeat_ttl = Seconds(session.heartbeat_ttl);
  options.hard_ttl = Seconds(session.hard_ttl);
  options.idle_ttl = Seconds(session.idle_ttl);
  options.grace = Seconds(session.grace);
  options.quiet_after = Seconds(session.quiet_after);
  options.address_privacy = session.address_privacy == "full"   ? AddressPrivacy::full
                            : session.address_privacy == "none" ? AddressPrivacy::none
                                                                : AddressPrivacy::network;
  return options;
}

AuthOptions Config::auth_options() const {
  AuthOptions options;
  options.issuer = auth.issuer;
  options.audience = auth.audience;
  options.access_term = Seconds(auth.access_term);
  options.refresh_term = Seconds(auth.refresh_term);
  options.retry_window = Seconds(auth.retry_window);
  options.offline_grace = Seconds(auth.offline_grace);
  for (ThrottleRule* rule : {&options.address_throttle, &options.account_throttle}) {
    rule->window = Seconds(auth.failure_window);
    rule->ban = Seconds(auth.ban);
  }
  options.address_throttle.limit = auth.address_failures;
  options.account_throttle.limit = auth.account_failures;
  return options;
}

KeyOptions Config::key_options() const {
  KeyOptions options(state_dir + "/keys");
  options.every = Seconds(keys.rotate_every);
  options.lead = Seconds(keys.lead);
  options.login_every = Seconds(keys.login_every);
  options.access_term = Seconds(auth.access_term);
  options.refresh_term = Seconds(auth.refresh_term);
  return options;
}

TorOptions Config::tor_options() const {
  TorOptions options;
  options.program = tor.program;
  options.account = tor.account;
  options.directory = state_dir + "/tor";
  options.children = state_dir + "/children";
  if (tor.launch == "external") options.service = tor.socket_dir;
  Pool own = pool("tor");
  options.trans = {Endpoint(own.gateway(), tor.trans_port)};
  options.dns = {Endpoint(own.gateway(), tor.dns_port)};
  if (own.gateway6()) {
    options.trans.emplace_back(*own.gateway6(), tor.trans_port);
    options.dns.emplace_back(*own.gateway6(), tor.dns_port);
  }
  if (tor.socks_port != 0) options.socks = Endpoint(Address::from_v4(0x7f000001), tor.socks_port);
  options.bridges = tor.bridges;
  options.obfs4 = tor.obfs4;
  options.exit_countries = tor.exit_countries;
  options.excluded_countries = tor.excluded_countries;
  options.proxy = tor.proxy;
  options.data_limit = tor.data_limit;
  options.extra = tor.options;
  options.probe_name = tor.probe_name;
  options.patience = Seconds(tor.patience);
  if (!endpoint.host.empty() && !Address::parse(endpoint.host))
    options.names.emplace_back(endpoint.host, own.gateway());
  return options;
}

PasswordPolicy Config::password_policy() const {
  PasswordPolicy policy;
  policy.memory_kib = static_cast<std::uint32_t>(auth.hash_memory_kib);
  policy.passes = static_cast<std::uint32_t>(auth.hash_passes);
  policy.lanes = static_cast<std::uint32_t>(auth.hash_lanes);
  return policy;
}

}  // namespace tornado::inline v1
