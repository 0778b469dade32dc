#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>

#include "base/try.hpp"
#include "tornado/wireguard.hpp"
#include "wireguard/own_key.hpp"

namespace tornado::inline v1 {
namespace {

class Device {
 public:
  std::uint32_t index = 0;
  PublicKey own;
  std::uint16_t listen_port = 0;
  std::map<PublicKey, Peer> peers;
  std::map<Prefix, PublicKey> routes;  // which peer an allowed IP belongs to

  void remove(const PublicKey& key) {
    auto it = peers.find(key);
    if (it == peers.end()) return;
    for (const Prefix& prefix : it->second.allowed) routes.erase(prefix);
    peers.erase(it);
  }

  void apply(const Peer& wish) {
    if (wish.remove) return remove(wish.key);
    auto it = peers.find(wish.key);
    if (it == peers.end()) {
      if (wish.update_only || wish.key == own) return;
      it = peers.emplace(wish.key, Peer()).first;
      it->second.key = wish.key;
    }
    for (const Prefix& prefix : it->second.allowed) routes.erase(prefix);
    it->second.allowed.clear();
    for (const Prefix& prefix : wish.allowed) claim(it->second, prefix);
    if (wish.preshared) it->second.preshared = preshared_key_of(wish.preshared->reveal());
  }

  void apply(const InterfaceChange& change) {
    if (change.private_key) {
      if (auto derived = public_key_of(change.private_key->reveal())) own = *derived;
      remove(own);
    }
    if (change.listen_port) listen_port = *change.listen_port;
    if (change.replace_peers) {
      peers.clear();
      routes.clear();
    }
    for (const Peer& peer : change.peers) apply(peer);
  }

 private:
  void claim(Peer& peer, const Prefix& prefix) {
    auto [route, fresh] = routes.try_emplace(prefix, peer.key);
    if (!fresh && route->second == peer.key) return;
    if (!fresh) std::erase(peers.at(route->second).allowed, prefix);
    route->second = peer.key;
    peer.allowed.push_back(prefix);
  }
};

}  // namespace

struct MemoryWireGuard::Impl {
  explicit Impl(Runtime& runtime_) : runtime(runtime_) {}

  Device* find(const std::string& name) {
    auto it = devices.find(name);
    return it == devices.end() ? nullptr : &it->second;
  }

  /// A driver never answers at once: simulations see the interleavings that a real one allows.
  boost::asio::awaitable<void> yield() { co_await boost::asio::post(runtime.loop(), boost::asio::use_awaitable); }

  Runtime& runtime;
  std::map<std::string, Device> devices;
  std::uint32_t last_index = 1;
  std::size_t most = 65'536;
  int failures = 0;
  errc failure = errc::backend_failed;
  bool applied = false;
};

MemoryWireGuard::MemoryWireGuard(Runtime& runtime, std::vector<std::string> interfaces)
    : impl_(std::make_unique<Impl>(runtime)) {
  for (const std::string& name : interfaces) create(name);
}

MemoryWireGuard::~MemoryWireGuard() = default;

Task<std::vector<std::string>> MemoryWireGuard::list() {
  co_await impl_->yield();
  std::vector<std::string> names;
  for (const auto& [name, device] : impl_->devices) names.push_back(name);
  co_return names;
}

Task<Interface> MemoryWireGuard::get(std::string name) {
  co_await impl_->yield();
  Device* device = impl_->find(name);
  if (device == nullptr) co_return Error(errc::interface_missing, name);
  Interface out;
  out.name = name;
  out.index = device->index;
  out.public_key = device->own;
  out.listen_port = device->listen_port;
  out.peers.reserve(device->peers.size());
  for (const auto& [key, peer] : device->peers) out.peers.push_back(peer);
  co_return out;
}

Task<void> MemoryWireGuard::set(InterfaceChange change) {
  co_await impl_->yield();
  Device* device = impl_->find(change.name);
  if (device == nullptr) co_return Error(errc::interface_missing, change.name);
  TRY_VOID(check_keys(change));
  bool fails = impl_->failures > 0;
  if (fails) --impl_->failures;
  if (!fails || impl_->applied) device->apply(change);
  if (device->peers.size() > impl_->most) co_return Error(errc::backend_failed, "too many peers");
  if (fails) co_return Error(impl_->failure, "injected");
  co_return Result<void>();
}

bool MemoryWireGuard::traffic(const std::string& name, const PublicKey& key, std::uint64_t received, std::uint64_t sent,
                              Instant handshake) {
  Device* device = impl_->find(name);
  if (device == nullptr) return false;
  auto it = device->peers.find(key);
  if (it == device->peers.end()) return false;
  it->second.received += received;
  it->second.sent += sent;
  it->second.handshake = handshake;
  return true;
}

std::size_t MemoryWireGuard::most_peers() const noexcept {
  return impl_->most;
}

void MemoryWireGuard::hold_at_most(std::size_t peers) {
  impl_->most = peers;
}

void MemoryWireGuard::drop(const std::string& name) {
  impl_->devices.erase(name);
}

void MemoryWireGuard::create(const std::string& name) {
  auto [device, fresh] = impl_->devices.try_emplace(name);
  if (fresh) device->second.index = ++impl_->last_index;
}

void MemoryWireGuard::rename(const std::string& name, const std::string& becomes) {
  auto node = impl_->devices.extract(name);
  if (node.empty()) return;
  node.key() = becomes;
  impl_->devices.insert(std::move(node));
}

void MemoryWireGuard::fail_next(int count, errc code, bool applied) {
  impl_->failures = count;
  impl_->failure = code;
  impl_->applied = applied;
}

}  // namespace tornado::inline v1
