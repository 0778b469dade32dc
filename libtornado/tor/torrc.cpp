#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/encoding.hpp"
#include "base/try.hpp"
#include "crypto/seal.hpp"
#include "tornado/tor_controller.hpp"

namespace tornado::inline v1 {
namespace {

constexpr std::string_view dirtiness_name = "MaxCircuitDirtiness";
constexpr Seconds default_dirtiness{600};
// Tor takes the nearest of these for what lies beyond.
constexpr Seconds least_dirtiness{10}, most_dirtiness{30 * 86'400};

// Options that shape how tor reaches its network. What is missing here belongs to the gateway, opens a port, runs a
// program, or makes a relay of us.
constexpr std::array allowed{"AlternateDirAuthority",
                             "AssumeReachable",
                             "AvoidDiskWrites",
                             "BandwidthBurst",
                             "BandwidthRate",
                             "CircuitBuildTimeout",
                             "CircuitStreamTimeout",
                             "CircuitsAvailableTimeout",
                             "ClientBootstrapConsensusMaxDownloadTries",
                             "ClientPreferIPv6ORPort",
                             "ClientRejectInternalAddresses",
                             "ClientUseIPv4",
                             "ClientUseIPv6",
                             "ConfluxEnabled",
                             "ConfluxClientUX",
                             "ConnLimit",
                             "ConnectionPadding",
                             "ReducedConnectionPadding",
                             "CircuitPadding",
                             "ReducedCircuitPadding",
                             "DirAuthority",
                             "FallbackDir",
                             "EnforceDistinctSubnets",
                             "EntryNodes",
                             "ExcludeExitNodes",
                             "ExcludeNodes",
                             "ExitNodes",
                             "FascistFirewall",
                             "FetchUselessDescriptors",
                             "GuardLifetime",
                             "KeepalivePeriod",
                             "LearnCircuitBuildTimeout",
                             "LongLivedPorts",
                             "MaxCircuitDirtiness",
                             "MaxClientCircuitsPending",
                             "MaxMemInQueues",
                             "MiddleNodes",
                             "NewCircuitPeriod",
                             "NodeFamily",
                             "NumDirectoryGuards",
                             "NumEntryGuards",
                             "NumPrimaryGuards",
                             "OptimisticData",
                             "OutboundBindAddress",
                             "OutboundBindAddressOR",
                             "PathBiasCircThreshold",
                             "PathsNeededToBuildCircuits",
                             "ReachableAddresses",
                             "ReachableDirAddresses",
                             "ReachableORAddresses",
                             "SocksTimeout",
                             "StrictNodes",
                             "TokenBucketRefillInterval",
                             "TrackHostExits",
                             "TrackHostExitsExpire",
                             "UseEntryGuards",
                             "UseMicrodescriptors",
                             "VanguardsLiteEnabled",
                             "WarnPlaintextPorts"};

bool same(std::string_view a, std::string_view b) {
  auto equal = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

bool is_allowed(std::string_view name) {
  // Networks of their own, for tests and closed groups.
  if (name.size() > 7 && same(name.substr(0, 7), "Testing")) return true;
  return std::any_of(allowed.begin(), allowed.end(), [&](std::string_view known) { return same(known, name); });
}

Error refused(std::string_view option, std::string_view why) {
  return Error(errc::invalid_config, "tor." + std::string(option) + ": " + std::string(why));
}

bool one_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

/// Tor reads it as it stands: no other line is joined to it, nothing of it is a comment or a quoted string.
bool plain(std::string_view text) {
  return one_line(text) && text.find_first_of("\"#\\") == std::string_view::npos;
}

std::pair<std::string_view, std::string_view> split(std::string_view line) {
  std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return {line, {}};
  std::string_view rest = line.substr(space);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return {line.substr(0, space), rest};
}

/// A time as torrc(5) has it, in tor's units. Parts of a second count as a whole one. Nothing: tor would refuse it, or
/// might read it otherwise.
std::optional<Seconds> interval(std::string_view text) {
  struct Unit {
    std::string_view name;
    double seconds;
  };
  constexpr std::array units{Unit{"", 1},         Unit{"second", 1},     Unit{"minute", 60},      Unit{"hour", 3600},
                             Unit{"day", 86'400}, Unit{"week", 604'800}, Unit{"month", 2'629'728}};
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !(number >= 0 && number < 1e9)) return std::nullopt;
  std::string_view name(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (name.starts_with(' ')) name.remove_prefix(1);
  while (name.ends_with(' ')) name.remove_suffix(1);
  if (name.size() > 1 && (name.ends_with('s') || name.ends_with('S'))) name.remove_suffix(1);
  for (const Unit& unit : units)
    if (same(name, unit.name)) return Seconds(static_cast<std::int64_t>(std::ceil(number * unit.seconds)));
  return std::nullopt;
}

Result<std::string> countries(std::string_view option, const std::vector<std::string>& codes) {
  std::string out;
  for (const std::string& code : codes) {
    bool letters = code.size() == 2 && std::all_of(code.begin(), code.end(), [](char c) {
                     return std::isalpha(static_cast<unsigned char>(c)) != 0;
                   });
    if (!letters) return refused(option, "\"" + code + "\" is not a country code of two letters");
    out += out.empty() ? "{" : ",{";
    out += code + "}";
  }
  return out;
}

/// "obfs4 192.0.2.1:443 FINGERPRINT cert=..." or "192.0.2.1:443 FINGERPRINT".
Result<void> bridge_lines(const TorOptions& options, std::string& out) {
  if (options.bridges.empty()) return {};
  out += "UseBridges 1\n";
  bool transport = false;
  for (std::string_view line : options.bridges) {
    if (!plain(line)) return refused("bridges", "a bridge is one line without \", # and \\");
    if (line.starts_with("Bridge ")) line.remove_prefix(7);
    auto [first, rest] = split(line);
    bool plain = Endpoint::parse(first).has_value();
    if (!plain && !Endpoint::parse(split(rest).first))
      return refused("bridges", "\"" + std::string(line) + "\" has no address and port");
    if (!plain && first != "obfs4" && first != "meek_lite")
      return refused("bridges", "the transport " + std::string(first) + " is not known; obfs4 and meek_lite are");
    transport = transport || !plain;
    out += "Bridge " + std::string(line) + "\n";
  }
  if (!transport) return {};
  if (!options.obfs4.starts_with('/') || options.obfs4.find(' ') != std::string::npos || !plain(options.obfs4))
    return refused("obfs4", "not an absolute path");
  out += "ClientTransportPlugin obfs4,meek_lite exec " + options.obfs4 + "\n";
  return {};
}

/// A name or an address, an IPv6 one in brackets, and a port.
bool is_place(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view host = text.substr(0, colon), digits = text.substr(colon + 1);
  unsigned port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0 || port > 65535) return false;
  if (host.starts_with('[')) return Endpoint::parse(text).has_value();
  auto of_a_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
  };
  return !host.empty() && std::all_of(host.begin(), host.end(), of_a_name);
}

Result<void> proxy_line(const TorOptions& options, std::string& out) {
  if (options.proxy.empty()) return {};
  std::string_view text = options.proxy;
  bool socks = text.starts_with("socks5://"), https = text.starts_with("https://");
  std::string_view place = socks ? text.substr(9) : https ? text.substr(8) : std::string_view();
  if (!is_place(place)) return refused("proxy", "write socks5://host:port or https://host:port");
  out += (socks ? "Socks5Proxy " : "HTTPSProxy ") + std::string(place) + "\n";
  return {};
}

Result<void> limit_lines(const TorOptions& options, std::string& out) {
  if (options.data_limit.empty()) return {};
  auto [amount, unit] = split(options.data_limit);
  bool digits = !amount.empty() && amount.size() < 10 &&
                std::all_of(amount.begin(), amount.end(), [](char c) { return c >= '0' && c <= '9'; });
  bool known = unit == "MBytes" || unit == "GBytes" || unit == "TBytes";
  if (!digits || !known) return refused("data_limit", "write a number and MBytes, GBytes or TBytes: \"500 GBytes\"");
  out += "AccountingStart month 1 00:00\nAccountingMax " + options.data_limit + "\n";
  return {};
}

Result<void> extra_lines(const TorOptions& options, std::string& out) {
  for (const std::string& line : options.extra) {
    auto [name, value] = split(line);
    if (name.empty() || value.empty() || !plain(line))
      return refused("options", "\"" + line + "\" is not \"Name value\" without \", # and \\");
    if (!is_allowed(name))
      return refused("options", std::string(name) + " may not be set here: it belongs to the gateway, opens a port, " +
                                    "runs a program, or is not known");
    out += line + "\n";
  }
  return {};
}

Result<std::string> path_of(std::string_view option, const std::string& path) {
  if (!path.starts_with('/') || !one_line(path) || path.find_first_of("\"\\") != std::string::npos)
    return refused(option, "not an absolute path");
  return "\"" + path + "\"";
}

void ports(const TorOptions& options, std::string& out) {
  for (const Endpoint& at : options.trans) out += "TransPort " + at.str() + " IsolateClientAddr\n";
  for (const Endpoint& at : options.dns) out += "DNSPort " + at.str() + " IsolateClientAddr\n";
  out += options.socks ? "SocksPort " + options.socks->str() + " IsolateClientAddr\n" : std::string("SocksPort 0\n");
  out += "VirtualAddrNetworkIPv4 10.192.0.0/10\nVirtualAddrNetworkIPv6 [FC00::]/7\nAutomapHostsOnResolve 1\n";
}

}  // namespace

Result<Seconds> circuit_dirtiness(const TorOptions& options) {
  Seconds out = default_dirtiness;
  for (const std::string& line : options.extra) {
    auto [name, value] = split(line);
    if (!same(name, dirtiness_name)) continue;
    auto time = interval(value);
    if (!time) return refused("options", "\"" + line + "\" is no time that is understood: write \"20 minutes\"");
    out = std::clamp(*time, least_dirtiness, most_dirtiness);
  }
  return out;
}

Result<std::string> torrc(const TorOptions& options) {
  TRY_PLAIN(std::string data, path_of("directory", options.directory + "/data"));
  TRY_PLAIN(std::string socket, path_of("directory", options.directory + "/data/control"));
  TRY_PLAIN(std::string cookie, path_of("directory", options.directory + "/data/cookie"));
  std::string out;
  // What concerns the process and its control socket is the unit's where there is one.
  if (options.service.empty())
    out += "DataDirectory " + data + "\nControlSocket " + socket + "\nCookieAuthentication 1\nCookieAuthFile " +
           cookie + "\nRunAsDaemon 0\nLog notice stdout\n";
  out += "DisableNetwork 1\nDormantCanceledByStartup 1\nClientOnly 1\nSafeLogging 1\n";
  ports(options, out);
  TRY_PLAIN(std::string exits, countries("exit_countries", options.exit_countries));
  TRY_PLAIN(std::string excluded, countries("excluded_countries", options.excluded_countries));
  if (!exits.empty()) out += "ExitNodes " + exits + "\nStrictNodes 1\n";
  if (!excluded.empty()) out += "ExcludeNodes " + excluded + "\n";
  TRY_VOID_PLAIN(bridge_lines(options, out));
  TRY_VOID_PLAIN(proxy_line(options, out));
  TRY_VOID_PLAIN(limit_lines(options, out));
  for (const auto& [name, address] : options.names) {
    if (name.find(' ') != std::string::npos || !plain(name)) return refused("names", name + " is not a host name");
    out += "MapAddress " + name + " " + address.str() + "\n";
  }
  TRY_VOID_PLAIN(extra_lines(options, out));
  if (auto time = circuit_dirtiness(options); !time) return time.error();
  // Nothing in a client uses it: by it a tor that runs tells which configuration it has taken.
  if (!options.service.empty()) out += "ContactInfo tornado-" + hex(sha256(out)).substr(0, 32) + "\n";
  return out;
}

}  // namespace tornado::inline v1
