#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tornado/auth.hpp"
#include "tornado/key_rotator.hpp"
#include "tornado/log.hpp"
#include "tornado/session_store.hpp"
#include "tornado/tor_controller.hpp"

namespace tornado::inline v1 {

class TORNADO_API LaneConfig {
 public:
  LaneConfig(std::string interface_, std::uint16_t port, std::string pool_)
      : interface(std::move(interface_)), listen_port(port), pool(std::move(pool_)) {}
  std::string interface;      ///< at most 15 characters
  std::uint16_t listen_port;  ///< UDP
  std::string pool;           ///< IPv4, /8 to /30
  std::string pool6;          ///< IPv6, /64 to /126; empty: none
  int mtu = 1420;             ///< 1280 to 9000
};

/// The configuration of a gateway: one tree, defaults as initialisers.
///
/// A JSON file (comments allowed), then `TORNADO_A__B` variables, then `set` calls are merged over the defaults; a key
/// without a default is an error that names its path. Values are checked by `check`, against each other as well.
class TORNADO_API Config {
 public:
  Config() {}

  std::string state_dir = "/var/lib/tornado";  ///< keys, journal, database; mode 0700
  std::string runtime_dir = "/run/tornado";    ///< sockets, pid file

  struct ClientApi {
    ClientApi() {}
    std::string listen = "0.0.0.0:4605";
    std::vector<std::string> publics;  ///< "public": further addresses, or address:port, clients use
    int max_connections = 4096;
    int max_connections_per_address = 1024;
    int idle_timeout = 4;             ///< seconds between two requests; unchanged clients need at most this (I-13)
    int request_timeout = 10;         ///< seconds to send a request; the longer of both until the first one begins
    int max_body = 65536;             ///< bytes
    bool trust_forwarded_for = true;  ///< X-Forwarded-For from 127.0.0.1 only
  } client_api;

  struct EndpointConfig {
    EndpointConfig() {}
    std::string host;  ///< name or IPv4 address in answers; empty: the address of the uplink
  } endpoint;

  struct Lanes {
    Lanes() {}
    LaneConfig vpn{"wg0", 51820, "10.8.0.0/24"};
    LaneConfig tor{"wg1", 51821, "10.9.0.0/24"};
  } lanes;

  struct SessionConfig {
    SessionConfig() {}
    int heartbeat_ttl = 90, hard_ttl = 1296000, idle_ttl = 86400, grace = 90;  ///< seconds
    int quiet_after = 300;    ///< seconds without traffic and heartbeat until a living tunnel counts as idle
    int sample_interval = 5;  ///< seconds between readings of the counters
    int checkpoint_interval = 60;
    int reconcile_interval = 60;
    /// What of a client's outer address history, events and lists have: "full", "network" or "none". The middle one
    /// by default: history outlives accounts, and needs to tell networks apart, not people.
    std::string address_privacy = "network";
  } session;

  struct IpamConfig {
    IpamConfig() {}
    int quarantine = 900;   ///< seconds a freed address rests before another user gets it
    int lease_term = 60;    ///< seconds an address is kept for a session that does not come about
    int warn_percent = 90;  ///< of a pool in use: an event is published
  } ipam;

  struct AuthConfig {
    AuthConfig() {}
    std::string issuer = "tornado-vpn.local", audience = "tornado-vpn-users";
    int access_term = 900, refresh_term = 604800, retry_window = 30, offline_grace = 3600;
    int address_failures = 5, account_failures = 20, failure_window = 300, ban = 900;
    int hash_memory_kib = 65536, hash_passes = 3, hash_lanes = 4;
  } auth;

  struct KeysConfig {
    KeysConfig() {}
    int rotate_every = 86400, lead = 60, login_every = 600;
  } keys;

  struct DatabaseConfig {
    DatabaseConfig() {}
    std::string url;      ///< "sqlite:<path>"; empty: tornado.db in the state directory
    int reserve_mib = 4;  ///< kept free on disk for ending sessions and renewing tokens
  } database;

  struct LiveConfig {
    LiveConfig() {}
    std::string url = "memory:";
  } live;

  struct DnsConfig {
    DnsConfig() {}
    std::string upstream;  ///< address or address:port; empty: from resolv.conf
    std::string upstream6;
  } dns;

  struct FirewallConfig {
    FirewallConfig() {}
    /// Tracked connections a device may have at once on a lane, so that none fills the host's table; 0: no limit.
    int connections_per_device = 4096;
    /// Base chains of other firewalls that were told to let the lanes pass and are not warned of any more, each as
    /// "family table chain": "ip filter FORWARD".
    std::vector<std::string> known_chains;
  } firewall;

  struct PolicyConfig {
    PolicyConfig() {}
    int versions = 100;     ///< former policies that are kept to be looked up, the one in force included
    int usage_months = 13;  ///< calendar months for which it is kept what users have moved, this one included
  } policy;

  struct WireGuardConfig {
    WireGuardConfig() {}
    /// "auto": the kernel's WireGuard where it is there, else "userspace" (see `choose_wireguard`); or one by name:
    /// "kernel", "userspace", "memory" (no tunnel at all, for tests of automation).
    std::string backend = "auto";
    /// Whose the userspace processes are: "supervised", the daemon starts and adopts them; "external", a service
    /// manager runs one per interface (tornado-wg@.service) and the daemon only waits for it and watches it.
    std::string launch = "supervised";
    std::string program = "/usr/bin/wireguard-go";  ///< of supervised processes
    std::string socket_dir = "/var/run/wireguard";
    std::string foreign_peers = "alert";  ///< or "adopt" or "remove": what becomes of peers that nobody here made
    /// Whether clients that ask for a preshared key get one: "offered" or "off".
    std::string preshared_keys = "offered";
  } wireguard;

  struct TorConfig {
    TorConfig() {}
    /// Whose tor it is: "supervised", the daemon starts and adopts it; "external", a service manager runs it
    /// (tornado-tor.service) and the daemon waits for it and tells it what to do; "none", the tor lane stays closed.
    std::string launch = "supervised";
    std::string socket_dir = "/run/tornado-tor";  ///< of an external tor: control socket, cookie, torrc
    std::string program = "/usr/bin/tor";
    /// Tor runs under this account where the daemon is root; else under the daemon's, without its capabilities.
    std::string account = "debian-tor";
    std::uint16_t trans_port = 9040, dns_port = 9053;       ///< on the lane's gateway address
    std::uint16_t page_port = 9041, responder_port = 9054;  ///< the page and the names of a lane without Tor
    std::uint16_t socks_port = 0;                           ///< on 127.0.0.1 for programs of this host; 0: none
    std::vector<std::string> bridges;                       ///< as the Tor Project gives them out
    std::string obfs4 = "/usr/bin/obfs4proxy";
    std::vector<std::string> exit_countries, excluded_countries;  ///< two letters each
    std::string proxy;                                            ///< socks5://host:port or https://host:port
    std::string data_limit;                                       ///< of a month, "500 GBytes"
    std::vector<std::string> options;                             ///< further lines of torrc(5), "Name value"
    std::string probe_name = "www.torproject.org";  ///< must be answered through Tor before it counts as up
    int patience = 120;                             ///< seconds: see TorOptions
  } tor;

  struct MetricsConfig {
    MetricsConfig() {}
    std::string listen = "127.0.0.1:9586";  ///< of the monitor's listener, /metrics; empty: none
  } metrics;

  struct ControlConfig {
    ControlConfig() {}
    std::string group = "tornado";  ///< members may use the control socket
  } control;

  struct LogConfig {
    LogConfig() {}
    std::string level = "info";  ///< debug, info, warning, error
  } log;

  /// Defaults with a file merged over them. Errors: invalid_config naming path and cause, store_unavailable.
  static Result<Config> load(const std::string& path);
  /// Merges one value, written as JSON or as a bare word. Errors: invalid_config.
  Result<void> set(std::string_view key, std::string_view value);
  /// Merges variables named TORNADO_A__B, given as "NAME=value". Others are ignored.
  Result<void> merge_environment(const char* const* environment);
  /// Everything that can be told without touching the system.
  Result<void> check() const;
  /// The whole tree as indented JSON.
  std::string show() const;
  /// Paths whose values differ.
  std::vector<std::string> diff(const Config& other) const;
  /// One value as JSON. Errors: invalid_config (no such key).
  Result<std::string> value(std::string_view key) const;
  /// Whether a running gateway takes another value of this key over (see `Gateway::reload`); what a gateway has of the
  /// other keys holds from its start to its end.
  static bool reloadable(std::string_view key) noexcept;

  std::string database_path() const;
  LogLevel log_level() const noexcept;
  Endpoint listen_endpoint() const;
  Pool pool(const std::string& lane) const;
  SessionOptions session_options() const;
  AuthOptions auth_options() const;
  KeyOptions key_options() const;
  PasswordPolicy password_policy() const;
  TorOptions tor_options() const;
};

}  // namespace tornado::inline v1
