#include "wireguard/genl_codec.hpp"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/wireguard.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/try.hpp"
#include "wireguard/own_key.hpp"

namespace tornado::inline v1::genl {
namespace {

// The year 9999; later instants would not fit the formats that show them.
constexpr std::int64_t last_second = 253'402'300'799;

/// What the length of an attribute can say, with room for the attributes around the peers.
constexpr std::size_t nest_limit = 60'000;
/// Of a peer without allowed IPs: its nest, both keys, flags and the nest of the allowed IPs.
constexpr std::size_t peer_size = 4 + 36 + 36 + 8 + 4;
/// Of an allowed IP: its nest, family, IPv6 address and length.
constexpr std::size_t allowed_size = 4 + 8 + 20 + 8;
constexpr std::size_t head_room = 256;

Error malformed(const char* what) {
  return Error(errc::protocol_error, std::string("WireGuard: ") + what);
}

template <class T>
std::optional<T> value_of(std::optional<std::string_view> bytes) {
  if (!bytes || bytes->size() != sizeof(T)) return std::nullopt;
  T out;
  std::memcpy(&out, bytes->data(), sizeof out);
  return out;
}

NetlinkWriter request(std::uint16_t family, std::uint16_t flags, std::uint8_t command, std::uint8_t version,
                      std::size_t room = 0) {
  NetlinkWriter out(family, flags, room);
  genlmsghdr header{};
  header.cmd = command;
  header.version = version;
  out.fixed(header);
  return out;
}

std::string_view bytes_of(const PublicKey& key) {
  return std::string_view(reinterpret_cast<const char*>(key.bytes().data()), PublicKey::size);
}

std::optional<PublicKey> key_from(std::optional<std::string_view> bytes) {
  auto raw = value_of<std::array<std::uint8_t, PublicKey::size>>(bytes);
  return raw ? std::optional(PublicKey(*raw)) : std::nullopt;
}

std::optional<Address> address_from(std::uint16_t family, std::string_view bytes) {
  if (family == AF_INET) {
    auto raw = value_of<std::uint32_t>(bytes);
    return raw ? std::optional(Address::from_v4(ntohl(*raw))) : std::nullopt;
  }
  auto raw = value_of<std::array<std::uint8_t, 16>>(bytes);
  return raw && family == AF_INET6 ? std::optional(Address::from_v6(*raw)) : std::nullopt;
}

/// Nothing if a host bit is set: the kernel gives them out masked.
std::optional<Prefix> prefix_from(const Address& address, std::uint8_t length) {
  std::string_view raw = address.bytes();
  if (length > raw.size() * 8) return std::nullopt;
  for (std::size_t at = length / 8; at < raw.size(); ++at) {
    unsigned mask = at == length / 8 ? 0xffU >> (length % 8) : 0xffU;
    if ((static_cast<std::uint8_t>(raw[at]) & mask) != 0) return std::nullopt;
  }
  return Prefix(address, length);
}

std::optional<Endpoint> endpoint_from(std::string_view bytes) {
  if (auto v4 = value_of<sockaddr_in>(bytes); v4 && v4->sin_family == AF_INET)
    return Endpoint(Address::from_v4(ntohl(v4->sin_addr.s_addr)), ntohs(v4->sin_port));
  auto v6 = value_of<sockaddr_in6>(bytes);
  if (!v6 || v6->sin6_family != AF_INET6) return std::nullopt;
  std::array<std::uint8_t, 16> raw;
  std::memcpy(raw.data(), &v6->sin6_addr, raw.size());
  return Endpoint(Address::from_v6(raw), ntohs(v6->sin6_port));
}

std::optional<Instant> instant_from(std::string_view bytes) {
  auto parts = value_of<std::array<std::int64_t, 2>>(bytes);
  if (!parts || (*parts)[0] < 0 || (*parts)[0] > last_second) return std::nullopt;
  if ((*parts)[1] < 0 || (*parts)[1] > 999'999'999) return std::nullopt;
  return Instant(Seconds((*parts)[0]) + std::chrono::milliseconds((*parts)[1] / 1'000'000));
}

void append_allowed(NetlinkWriter& out, const Prefix& prefix) {
  std::size_t nest = out.open(0);
  out.put_u16(WGALLOWEDIP_A_FAMILY, prefix.base().is_v4() ? AF_INET : AF_INET6);
  out.put(WGALLOWEDIP_A_IPADDR, prefix.base().bytes());
  out.put_u8(WGALLOWEDIP_A_CIDR_MASK, static_cast<std::uint8_t>(prefix.length()));
  out.close(nest);
}

/// `goes_on`: the peer is in the message before. It is there, or it was ignored, and must not be made now.
std::uint32_t flags_of(const Peer& peer, bool goes_on) {
  if (peer.remove) return WGPEER_F_REMOVE_ME;
  if (goes_on) return WGPEER_F_UPDATE_ONLY;
  return WGPEER_F_REPLACE_ALLOWEDIPS | (peer.update_only ? std::uint32_t(WGPEER_F_UPDATE_ONLY) : 0);
}

}  // namespace

std::string get_family(const std::string& name) {
  return request(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1).put_text(CTRL_ATTR_FAMILY_NAME, name).take();
}

Result<std::optional<std::uint16_t>> decode_family(const NetlinkMessage& message) {
  if (message.type != GENL_ID_CTRL) return std::optional<std::uint16_t>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, GENL_HDRLEN));
  return attributes.u16(CTRL_ATTR_FAMILY_ID);
}

std::string get_device(std::uint16_t family, const std::string& name) {
  return request(family, NLM_F_DUMP, WG_CMD_GET_DEVICE, WG_GENL_VERSION).put_text(WGDEVICE_A_IFNAME, name).take();
}

ChangeWriter::ChangeWriter(std::uint16_t family, const InterfaceChange& change)
    : family_(family),
      change_(change),
      head_(change.private_key || change.listen_port || change.replace_peers || change.peers.empty()) {}

NetlinkWriter ChangeWriter::begin() const {
  NetlinkWriter out = request(family_, 0, WG_CMD_SET_DEVICE, WG_GENL_VERSION, head_room);
  out.put_text(WGDEVICE_A_IFNAME, change_.name);
  return out;
}

std::string ChangeWriter::head() const {
  NetlinkWriter out = begin();
  if (change_.private_key) out.put(WGDEVICE_A_PRIVATE_KEY, change_.private_key->reveal());
  if (change_.listen_port) out.put_u16(WGDEVICE_A_LISTEN_PORT, *change_.listen_port);
  if (change_.replace_peers) out.put_u32(WGDEVICE_A_FLAGS, WGDEVICE_F_REPLACE_PEERS);
  return out.take();
}

/// False: the message is full, and the peer is not complete.
bool ChangeWriter::append(NetlinkWriter& out) {
  const Peer& peer = change_.peers[peer_];
  std::size_t nest = out.open(0);
  out.put(WGPEER_A_PUBLIC_KEY, bytes_of(peer.key));
  out.put_u32(WGPEER_A_FLAGS, flags_of(peer, allowed_ > 0));
  if (peer.preshared && !peer.remove && allowed_ == 0) out.put(WGPEER_A_PRESHARED_KEY, peer.preshared->reveal());
  bool complete = true;
  if (!peer.remove && !peer.allowed.empty()) {
    std::size_t list = out.open(WGPEER_A_ALLOWEDIPS);
    while (allowed_ < peer.allowed.size() && out.size() + allowed_size <= nest_limit)
      append_allowed(out, peer.allowed[allowed_++]);
    out.close(list);
    complete = allowed_ == peer.allowed.size();
  }
  out.close(nest);
  ++written_;
  if (!complete) return false;
  ++peer_;
  allowed_ = 0;
  return true;
}

std::string ChangeWriter::next(std::size_t most) {
  written_ = 0;
  bool is_head = std::exchange(head_, false);
  if (is_head) {
    done_ = change_.peers.empty();
    return head();
  }
  NetlinkWriter out = begin();
  std::size_t nest = out.open(WGDEVICE_A_PEERS);
  bool room = true;
  while (room && peer_ < change_.peers.size() && written_ < std::max<std::size_t>(most, 1))
    room = out.size() + peer_size + allowed_size <= nest_limit && append(out);
  out.close(nest);
  done_ = peer_ == change_.peers.size();
  return out.take();
}

Result<void> DeviceReader::take(const NetlinkMessage& message) {
  if (message.type != family_) return {};
  if (message.payload.size() < GENL_HDRLEN) return malformed("a truncated message");
  AttributeWalk walk(std::string_view(message.payload).substr(GENL_HDRLEN));
  while (walk.next()) TRY_VOID_PLAIN(attribute(walk.type(), walk.value()));
  return walk.outcome();
}

Result<void> DeviceReader::attribute(std::uint16_t type, std::string_view value) {
  if (type == WGDEVICE_A_PEERS) return peers(value);
  if (type == WGDEVICE_A_IFNAME) {
    interface_.name = std::string(value.substr(0, value.find('\0')));
  } else if (type == WGDEVICE_A_IFINDEX) {
    auto index = value_of<std::uint32_t>(value);
    if (!index) return malformed("an interface index of the wrong size");
    interface_.index = *index;
  } else if (type == WGDEVICE_A_PUBLIC_KEY) {
    auto key = key_from(value);
    if (!key) return malformed("a public key of the wrong size");
    interface_.public_key = *key;
  } else if (type == WGDEVICE_A_LISTEN_PORT) {
    auto port = value_of<std::uint16_t>(value);
    if (!port) return malformed("a port of the wrong size");
    interface_.listen_port = *port;
  }
  return {};
}

Result<void> DeviceReader::peers(std::string_view bytes) {
  AttributeWalk walk(bytes);
  while (walk.next()) TRY_VOID_PLAIN(peer(walk.value()));
  return walk.outcome();
}

Result<Peer*> DeviceReader::peer_with(const PublicKey& key) {
  auto& all = interface_.peers;
  if (!all.empty() && all.back().key == key) return &all.back();
  if (all.size() == max_peers) return malformed("too many peers");
  all.emplace_back().key = key;
  return &all.back();
}

/// A peer that goes on brings its key and more allowed IPs, and nothing else.
Result<void> DeviceReader::peer(std::string_view bytes) {
  std::optional<PublicKey> key;
  AttributeWalk search(bytes);
  while (!key && search.next())
    if (search.type() == WGPEER_A_PUBLIC_KEY) key = key_from(search.value());
  TRY_VOID_PLAIN(search.outcome());
  if (!key) return malformed("a peer without a key");
  TRY_PLAIN(Peer * peer, peer_with(*key));
  AttributeWalk walk(bytes);
  while (walk.next()) TRY_VOID_PLAIN(attribute(*peer, walk.type(), walk.value()));
  return walk.outcome();
}

Result<void> DeviceReader::attribute(Peer& peer, std::uint16_t type, std::string_view value) {
  if (type == WGPEER_A_ENDPOINT) {
    peer.endpoint = endpoint_from(value);
    if (!peer.endpoint) return malformed("an endpoint of another form");
  } else if (type == WGPEER_A_LAST_HANDSHAKE_TIME) {
    auto handshake = instant_from(value);
    if (!handshake) return malformed("an impossible time of a handshake");
    peer.handshake = *handshake;
  } else if (type == WGPEER_A_RX_BYTES || type == WGPEER_A_TX_BYTES) {
    auto count = value_of<std::uint64_t>(value);
    if (!count) return malformed("a counter of the wrong size");
    (type == WGPEER_A_RX_BYTES ? peer.received : peer.sent) = *count;
  } else if (want_ == Want::counters) {
    return {};
  } else if (type == WGPEER_A_PRESHARED_KEY) {
    if (value.size() != PublicKey::size) return malformed("a preshared key of the wrong size");
    peer.preshared = preshared_key_of(value);
  } else if (type == WGPEER_A_ALLOWEDIPS) {
    return allowed(value, peer);
  }
  return {};
}

Result<void> DeviceReader::allowed(std::string_view bytes, Peer& peer) {
  AttributeWalk list(bytes);
  while (list.next()) {
    std::optional<std::uint16_t> family;
    std::optional<std::uint8_t> length;
    std::string_view raw;
    AttributeWalk parts(list.value());
    while (parts.next()) {
      if (parts.type() == WGALLOWEDIP_A_FAMILY) family = value_of<std::uint16_t>(parts.value());
      if (parts.type() == WGALLOWEDIP_A_CIDR_MASK) length = value_of<std::uint8_t>(parts.value());
      if (parts.type() == WGALLOWEDIP_A_IPADDR) raw = parts.value();
    }
    TRY_VOID_PLAIN(parts.outcome());
    auto address = family ? address_from(*family, raw) : std::nullopt;
    auto prefix = address && length ? prefix_from(*address, *length) : std::nullopt;
    if (!prefix) return malformed("an allowed IP");
    if (++count_ > max_allowed) return malformed("too many allowed IPs");
    peer.allowed.push_back(*prefix);
  }
  return list.outcome();
}

}  // namespace tornado::inline v1::genl
