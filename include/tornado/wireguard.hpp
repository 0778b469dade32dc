#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"
#include "tornado/secret.hpp"

namespace tornado::inline v1 {

/// A WireGuard peer: one value type for reading and for writing, as in the kernel's own interface.
class Peer {
 public:
  Peer() {}

  PublicKey key;
  std::vector<Prefix> allowed;       ///< reading: all of them; writing: replaces the peer's allowed IPs
  std::optional<Endpoint> endpoint;  ///< reading only: where the last authenticated packet came from
  std::uint64_t received = 0;        ///< reading only: bytes from the peer, since the peer was added
  std::uint64_t sent = 0;            ///< reading only: bytes to the peer
  Instant handshake;                 ///< reading only: last completed handshake; default: none yet
  /// 32 raw bytes. Reading: empty if the peer has none. Writing: empty leaves it as it is, 32 zero bytes take it away.
  std::optional<Secret> preshared;
  bool remove = false;       ///< writing only: the peer goes; an absent one is no error
  bool update_only = false;  ///< writing only: nothing happens if the peer is not there
};

/// A WireGuard interface as it is. The private key is never read.
class Interface {
 public:
  Interface() {}

  std::string name;
  std::uint32_t index = 0;  ///< of the network interface; 0: unknown. Another index: made anew, counters with it
  PublicKey public_key;
  std::uint16_t listen_port = 0;
  std::vector<Peer> peers;
};

/// A change of one interface. What is left empty stays as it is.
class InterfaceChange {
 public:
  InterfaceChange() {}
  explicit InterfaceChange(std::string name_) : name(std::move(name_)) {}

  std::string name;
  std::optional<Secret> private_key;  ///< 32 raw bytes
  std::optional<std::uint16_t> listen_port;
  bool replace_peers = false;  ///< every peer goes first; those in `peers` begin anew, counters and handshake included
  std::vector<Peer> peers;
};

/// Seam: WireGuard interfaces and their peers. Interfaces are made elsewhere (Host, or a userspace process).
///
/// Loop thread. Operations on one interface are carried out in the order in which they were begun. Each carries its
/// own deadline (5 s for each chunk; 5 s for a reading, from the kernel after each part of it and 30 s in all; the time
/// in the queue apart). Errors of all verbs: interface_missing, backend_failed (refused; nothing or a part of the batch
/// was applied), permission_denied, deadline_exceeded, cancelled and protocol_error (outcome unknown: read back before
/// relying on anything, see I-27), overloaded (the queue is full or stands still; nothing was done), invalid_argument
/// (a key that is not 32 bytes; nothing was done). The interface's own public key as a peer is accepted and ignored, by
/// every implementation (I-28).
class TORNADO_API WireGuard {
 public:
  virtual ~WireGuard() = default;
  /// Names of the interfaces that answer now.
  virtual Task<std::vector<std::string>> list() = 0;
  virtual Task<Interface> get(std::string name) = 0;
  /// The same for whoever wants no more than keys, counters, handshakes and endpoints: allowed IPs may be left out.
  virtual Task<Interface> counters(std::string name) { return get(std::move(name)); }
  /// The same without peers: index, public key and listen port. From the kernel without reading the peers.
  virtual Task<Interface> identity(std::string name);
  /// Applies a change in chunks of at most 32 peers; not atomic across peers.
  virtual Task<void> set(InterfaceChange change) = 0;
  /// A hint for the first reading of an interface: about so many peers are there.
  virtual void expect(const std::string& /*name*/, std::size_t /*peers*/) {}
  /// How many peers an interface can hold. Default: what wireguard-go takes.
  virtual std::size_t most_peers() const noexcept { return 65'536; }
  /// Operations that wait for another one on the same interface. Default: 0.
  virtual std::size_t waiting() const noexcept { return 0; }
};

/// What takes a preshared key away: 32 zero bytes.
TORNADO_API Secret no_preshared_key();

/// An in-memory implementation with the semantics of the kernel: allowed IPs move to the peer that claims them last,
/// counters start at zero with each peer. For tests, simulations and dry runs.
class TORNADO_API MemoryWireGuard final : public WireGuard {
 public:
  MemoryWireGuard(Runtime& runtime, std::vector<std::string> interfaces);
  ~MemoryWireGuard() override;
  Task<std::vector<std::string>> list() override;
  Task<Interface> get(std::string name) override;
  Task<void> set(InterfaceChange change) override;
  std::size_t most_peers() const noexcept override;

  /// From now on interfaces refuse more peers than that.
  void hold_at_most(std::size_t peers);
  /// Simulates traffic and a handshake of a peer. False: no such peer.
  bool traffic(const std::string& name, const PublicKey& key, std::uint64_t received, std::uint64_t sent,
               Instant handshake);
  /// Interfaces come and go under us: drops one with its peers, or makes an empty one.
  void drop(const std::string& name);
  void create(const std::string& name);
  /// The same interface by another name, which nobody has.
  void rename(const std::string& name, const std::string& becomes);
  /// The next `count` calls of `set` fail with `code`; `applied`: the change is made all the same (a lost answer).
  void fail_next(int count, errc code, bool applied = false);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The cross-platform userspace protocol of wireguard-go: UNIX stream sockets `<directory>/<interface>.sock`.
/// An interface holds at most 65,536 peers.
TORNADO_API std::unique_ptr<WireGuard> uapi_wireguard(Runtime& runtime, std::string directory = "/var/run/wireguard");

/// WireGuard of the Linux kernel over generic netlink, in the network namespace of the thread that makes it; interfaces
/// are links of kind "wireguard" (`Host::ensure_link`). An interface holds at most 1,048,576 peers.
///
/// The kernel executes a change while it is sent. Peers therefore go out in chunks of at most 32, fewer where that
/// takes longer than 2 ms, down to one, and others run in between; a private key and `replace_peers`, which cost in
/// proportion to the peers that are there, are sent on the blocking pool. A dump is read message by message; one that
/// was interrupted by a change or did not fit is read again. Buffers that held a private key are wiped.
///
/// Errors beside those of the seam: permission_denied (CAP_NET_ADMIN is missing, for reading too); interface_missing
/// also stands for a link of another kind and for a kernel without WireGuard.
TORNADO_API std::unique_ptr<WireGuard> kernel_wireguard(Runtime& runtime);

enum class WireGuardBackend : std::uint8_t { kernel, userspace, memory };

/// "kernel", "userspace", "memory".
TORNADO_API std::string_view name(WireGuardBackend backend) noexcept;

/// Which implementation a gateway uses, and why.
class WireGuardChoice {
 public:
  WireGuardChoice(WireGuardBackend backend_, std::string reason_) : backend(backend_), reason(std::move(reason_)) {}
  WireGuardBackend backend;
  std::string reason;
};

/// Decides for `wireguard.backend`. What is named is taken; "auto" is the kernel if it has the module, which is loaded
/// if need be, else userspace. It is userspace too if one of the interfaces is there as a link of another kind: a
/// userspace process has it, and an upgrade must not cut its tunnels.
///
/// A plain call: asks the kernel in the network namespace of the calling thread, which answers at once, but for the
/// moment in which it loads the module.
TORNADO_API WireGuardChoice choose_wireguard(std::string_view wanted, const std::vector<std::string>& interfaces);

}  // namespace tornado::inline v1
