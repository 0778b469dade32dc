#include "wireguard/own_key.hpp"

#include <openssl/evp.h>

#include <array>
#include <memory>

#include "base/try.hpp"

namespace tornado::inline v1 {

std::optional<PublicKey> public_key_of(std::string_view private_key) {
  if (private_key.size() != PublicKey::size) return std::nullopt;
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, reinterpret_cast<const unsigned char*>(private_key.data()),
                                   private_key.size()),
      EVP_PKEY_free);
  std::array<std::uint8_t, PublicKey::size> bytes{};
  std::size_t size = bytes.size();
  if (!key || EVP_PKEY_get_raw_public_key(key.get(), bytes.data(), &size) != 1) return std::nullopt;
  return PublicKey(bytes);
}

std::optional<Secret> preshared_key_of(std::string_view raw) {
  unsigned bits = 0;
  for (char byte : raw) bits |= static_cast<unsigned char>(byte);
  return bits == 0 ? std::nullopt : std::optional(Secret(std::string(raw)));
}

Result<void> check_keys(const InterfaceChange& change) {
  if (change.private_key && change.private_key->size() != PublicKey::size)
    return Error(errc::invalid_argument, "a private key is 32 bytes");
  for (const Peer& peer : change.peers)
    if (peer.preshared && peer.preshared->size() != PublicKey::size)
      return Error(errc::invalid_argument, "a preshared key is 32 bytes");
  return {};
}

Task<Interface> WireGuard::identity(std::string name) {
  TRY(Interface out, co_await counters(std::move(name)));
  out.peers.clear();
  co_return out;
}

Secret no_preshared_key() {
  return Secret(std::string(PublicKey::size, '\0'));
}

}  // namespace tornado::inline v1
