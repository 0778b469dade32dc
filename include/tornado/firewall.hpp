#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"

namespace tornado::inline v1 {

/// What a lane may do. In every mode the client API comes first, the gateway address answers echo, and whatever the
/// mode does not name is dropped, in both families, by rules that need no redirect to be there.
enum class LaneMode : std::uint8_t {
  open,    ///< straight out: forwarded and masqueraded, DNS to the upstream
  closed,  ///< nothing else
  /// TCP to any address goes to `trans_port`, UDP 53 to any address to `dns_port`, TCP 53 is reset. Nothing is
  /// forwarded. A device cannot speak to these ports directly: only what was redirected is let in, so that Tor never
  /// sees its own address as a destination.
  tor,
  /// TCP 80 to any address goes to `page_port`, UDP 53 to any address to `responder_port`, every other TCP is reset.
  maintenance,
};
/// Stable name of a mode, for example "maintenance".
TORNADO_API std::string_view name(LaneMode mode) noexcept;
TORNADO_API std::optional<LaneMode> lane_mode_from_name(std::string_view name) noexcept;

/// The policy of one lane.
class LanePolicy {
 public:
  LanePolicy() {}
  Lane lane;
  std::string interface;
  Prefix pool;
  std::optional<Prefix> pool6;
  Address gateway;
  std::optional<Address> gateway6;
  LaneMode mode = LaneMode::closed;

  // Local ports the modes `tor` and `maintenance` redirect to, at `gateway`, and at `gateway6` if there is one. Without
  // it IPv6 is dropped.
  std::uint16_t trans_port = 9040;      ///< TCP: Tor's TransPort
  std::uint16_t dns_port = 9053;        ///< UDP: Tor's DNSPort
  std::uint16_t page_port = 9041;       ///< TCP: the maintenance page
  std::uint16_t responder_port = 9054;  ///< UDP: the DNS responder of the gateway
};

enum class AccessProtocol : std::uint8_t { tcp, udp, icmp };  ///< icmp: echo, in the family of the prefix
TORNADO_API std::string_view name(AccessProtocol protocol) noexcept;

/// Devices with the same rights are of one class, a number up to 65,535 that means nothing outside of one
/// `AccessRules`.
inline constexpr std::uint32_t open_class = 1;     ///< reaches whatever its lane reaches
inline constexpr std::uint32_t blocked_class = 2;  ///< reaches the client API and DNS only
inline constexpr std::uint32_t first_class = 3;    ///< reaches what `AccessGrant`s name

/// What one class of devices may reach. A prefix is of one family: nothing granted in IPv4 opens anything in IPv6.
class AccessGrant {
 public:
  AccessGrant(std::uint32_t access_class_, Prefix to_, AccessProtocol protocol_, std::uint16_t first_port_,
              std::uint16_t last_port_)
      : access_class(access_class_), to(to_), protocol(protocol_), first_port(first_port_), last_port(last_port_) {}
  std::uint32_t access_class;
  Prefix to;
  AccessProtocol protocol;
  std::uint16_t first_port, last_port;  ///< both included; of no meaning for icmp
  auto operator<=>(const AccessGrant&) const = default;
};

/// The rights of one address of a lane.
class DeviceAccess {
 public:
  DeviceAccess() {}
  explicit DeviceAccess(Address address_, std::uint32_t access_class_ = open_class)
      : address(address_), access_class(access_class_) {}
  bool operator==(const DeviceAccess&) const = default;
  Address address;
  std::uint32_t access_class = open_class;
  std::uint64_t up = 0, down = 0;  ///< bytes a second from and to the device; 0: as fast as it goes
};

/// Who may reach what, and how fast. An address that `devices` does not name reaches what `blocked_class` reaches, and
/// is not told of refusals.
class AccessRules {
 public:
  AccessRules() {}
  std::vector<AccessGrant> grants;
  std::vector<DeviceAccess> devices;
};

/// Everything the firewall is computed from.
class GatewayPolicy {
 public:
  GatewayPolicy() {}
  std::vector<LanePolicy> lanes;
  /// Where clients believe the API to be (login address and port); reached from inside every lane (I-22).
  std::vector<Endpoint> api;
  /// Local TCP port of the client API that these are redirected to.
  std::uint16_t api_port = 4605;
  /// Resolver that answers port 53 of every open lane, per family; never loopback (I-23).
  std::optional<Endpoint> dns;
  std::optional<Endpoint> dns6;
  /// Tracked connections one source address of a lane may have at once through the gateway, or redirected by its mode,
  /// and as many again to the gateway itself, so that the API stays in reach of a device that has used up the first;
  /// 0: no limit (I-25).
  std::uint32_t connections_per_device = 0;
  /// Null: every device reaches whatever its lane reaches.
  std::shared_ptr<const AccessRules> access;
};

struct Ruleset;  // libtornado/firewall/ruleset.hpp: the complete content of the table, a value

/// The complete ruleset for a policy. Pure. `std::shared_ptr` because Ruleset is an implementation type.
TORNADO_API std::shared_ptr<const Ruleset> compile(const GatewayPolicy& policy);

/// The ruleset in nft(8) syntax, for `tornadoctl firewall show` and for reviews.
TORNADO_API std::string to_text(const Ruleset& ruleset);

/// A base chain of another table that drops what it does not know. An accept in our table ends our table only, so what
/// a lane may do, such a chain can still forbid (I-24).
class TORNADO_API ForeignChain {
 public:
  ForeignChain() {}
  ForeignChain(std::string family_, std::string table_, std::string chain_, std::string hook_)
      : family(std::move(family_)), table(std::move(table_)), chain(std::move(chain_)), hook(std::move(hook_)) {}
  std::string family;  ///< "inet", "ip" or "ip6"
  std::string table;
  std::string chain;
  std::string hook;  ///< "ingress", "prerouting", "input", "forward", "output" or "postrouting"
  /// Its policy is accept, but its last rule drops or rejects everything that is left, as firewalld's do.
  bool by_rule = false;
  /// "ip filter FORWARD"
  std::string str() const { return family + " " + table + " " + chain; }
  auto operator<=>(const ForeignChain&) const = default;
};

/// Seam: one nftables table, replaced as a whole at start, changed in small batches afterwards (I-26).
///
/// Loop thread. Errors: permission_denied, backend_failed (nothing was changed: a batch is all or nothing),
/// deadline_exceeded.
class TORNADO_API Firewall {
 public:
  virtual ~Firewall() = default;
  /// Replaces the whole table in one transaction.
  virtual Task<void> apply(std::shared_ptr<const Ruleset> ruleset) = 0;
  /// Refills the chains of one lane for a mode; everything else, sets included, stays.
  virtual Task<void> mode(std::shared_ptr<const Ruleset> ruleset, Lane lane) = 0;
  /// Replaces the elements of the `api` sets.
  virtual Task<void> api(std::vector<Endpoint> endpoints) = 0;
  /// Replaces who may reach what and how fast, all of it in one transaction; the lanes stay as they are.
  virtual Task<void> access(std::shared_ptr<const Ruleset> ruleset) = 0;
  /// Sets the rights of some addresses and forgets others, on top of the last `apply`, `access` or `devices`. An
  /// address without a change costs nothing. The class must be one the rules were compiled with.
  virtual Task<void> devices(std::vector<DeviceAccess> changed, std::vector<Address> gone) = 0;
  /// Removes the table; absent: success.
  virtual Task<void> remove() = 0;
  /// The table is there and nobody else has changed it since we did.
  virtual Task<bool> intact() = 0;
  /// Waits until somebody else changes the table (nftables notification), since the revision the caller has seen;
  /// returns the new revision. Starts at 1, so that `changed(0)` returns at once. Errors: cancelled.
  virtual Task<std::uint64_t> changed(std::uint64_t since) = 0;
  /// The base chains of others, families inet, ip and ip6, that drop what they do not know; sorted. What they let
  /// through before is not looked at, and tables of the older xtables (`iptables-legacy`) are not seen. Asking again
  /// is cheap as long as nobody has changed any table. Default: unimplemented.
  virtual Task<std::vector<ForeignChain>> foreign_drops();
};

/// In memory, for simulations and dry runs.
class TORNADO_API MemoryFirewall final : public Firewall {
 public:
  explicit MemoryFirewall(Runtime& runtime);
  ~MemoryFirewall() override;
  Task<void> apply(std::shared_ptr<const Ruleset> ruleset) override;
  Task<void> mode(std::shared_ptr<const Ruleset> ruleset, Lane lane) override;
  Task<void> api(std::vector<Endpoint> endpoints) override;
  Task<void> access(std::shared_ptr<const Ruleset> ruleset) override;
  Task<void> devices(std::vector<DeviceAccess> changed, std::vector<Address> gone) override;
  Task<void> remove() override;
  Task<bool> intact() override;
  Task<std::uint64_t> changed(std::uint64_t since) override;
  Task<std::vector<ForeignChain>> foreign_drops() override;

  std::shared_ptr<const Ruleset> applied() const;
  /// What an address may do now. Nothing: the rules do not name it.
  std::optional<DeviceAccess> access_of(const Address& address) const;
  void set_foreign_drops(std::vector<ForeignChain> chains);
  void fail_next(int count, errc code);
  void tamper();  ///< somebody else flushed the table
  void damage();  ///< somebody else took a rule out of it

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The table `inet tornado` through nfnetlink, in the network namespace the process lives in.
TORNADO_API std::unique_ptr<Firewall> nft_firewall(Runtime& runtime, std::string table = "tornado");

}  // namespace tornado::inline v1
