#include "firewall/nft_set.hpp"

#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <linux/netfilter/nf_tables.h>

#include <cstring>

#include "firewall/nft_expression.hpp"

namespace tornado::inline v1::nft {
namespace {

// Data types of nft(8), for those who list our sets with it.
constexpr std::uint32_t type_ipv4_addr = 7, type_ipv6_addr = 8, type_inet_protocol = 12, type_inet_service = 13,
                        type_classid = 23, type_ifname = 41;
constexpr std::uint32_t type_bits = 6;

/// A part of a key.
struct Field {
  std::uint32_t type;
  std::uint8_t length;
};

std::vector<Field> fields_of(SetType type) {
  const Field v4{type_ipv4_addr, 4}, v6{type_ipv6_addr, 16}, of_class{type_classid, 4};
  const Field protocol{type_inet_protocol, 1}, port{type_inet_service, 2};
  switch (type) {
    case SetType::interface:
      return {{type_ifname, 16}};
    case SetType::endpoint4:
      return {v4, port};
    case SetType::endpoint6:
      return {v6, port};
    case SetType::source4:
    case SetType::class4:
    case SetType::rate4:
      return {v4};
    case SetType::source6:
    case SetType::class6:
    case SetType::rate6:
      return {v6};
    case SetType::port:
      return {of_class, protocol, port};
    case SetType::place4:
      return {of_class, v4, protocol, port};
    case SetType::place6:
      return {of_class, v6, protocol, port};
    case SetType::echo4:
      return {of_class, v4};
    case SetType::echo6:
      return {of_class, v6};
  }
  return {};
}

bool is_map(SetType type) {
  return type == SetType::class4 || type == SetType::class6;
}
bool is_rate(SetType type) {
  return type == SetType::rate4 || type == SetType::rate6;
}

/// NFTNL_UDATA_SET_KEYBYTEORDER and, of maps, NFTNL_UDATA_SET_DATABYTEORDER; 1 host, 2 network: nft(8) prints names
/// and numbers backwards without it.
std::string byte_order(SetType type) {
  std::string out{0, 4, static_cast<char>(type == SetType::interface ? 1 : 2), 0, 0, 0};
  if (is_map(type)) out += std::string{1, 4, 1, 0, 0, 0};
  return out;
}

/// Parts of a concatenation fill whole registers of four bytes.
void append(std::string& key, std::string_view part) {
  key += part;
  key.resize((key.size() + 3) / 4 * 4, '\0');
}

std::string network16(std::uint16_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value & 255)};
}
std::string host32(std::uint32_t value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
std::string network32(std::uint32_t value) {
  return network16(static_cast<std::uint16_t>(value >> 16)) + network16(static_cast<std::uint16_t>(value & 0xffff));
}

std::string last_of(const Prefix& prefix) {
  std::string bytes(prefix.base().bytes());
  for (std::size_t bit = static_cast<std::size_t>(prefix.length()); bit < bytes.size() * 8; ++bit)
    bytes[bit / 8] = static_cast<char>(static_cast<std::uint8_t>(bytes[bit / 8]) | 128U >> bit % 8);
  return bytes;
}

std::string protocol_byte(AccessProtocol protocol) {
  return std::string(1, static_cast<char>(protocol == AccessProtocol::udp ? rule::Protocol::udp : rule::Protocol::tcp));
}

SetElement element(const Endpoint& endpoint) {
  SetElement out;
  append(out.key, endpoint.address.bytes());
  append(out.key, network16(endpoint.port));
  return out;
}

SetElement element(const DeviceAccess& device, SetType type) {
  SetElement out;
  out.key = device.address.bytes();
  if (is_map(type)) out.data = host32(device.access_class);
  if (is_rate(type)) out.rate = device.up;
  return out;
}

std::string key_of(const AccessGrant& grant, SetType type, bool last) {
  std::string key = type == SetType::port ? host32(grant.access_class) : network32(grant.access_class);
  if (type != SetType::port) append(key, last ? last_of(grant.to) : grant.to.base().bytes());
  if (type == SetType::echo4 || type == SetType::echo6) return key;
  append(key, protocol_byte(grant.protocol));
  append(key, network16(last ? grant.last_port : grant.first_port));
  return key;
}

}  // namespace

void describe_set(nftnl_set& out, SetType type) {
  std::uint32_t key_type = 0, length = 0;
  std::vector<std::uint8_t> lengths;
  for (const Field& field : fields_of(type)) {
    key_type = key_type << type_bits | field.type;
    length += (field.length + 3U) / 4 * 4;
    lengths.push_back(field.length);
  }
  nftnl_set_set_u32(&out, NFTNL_SET_KEY_TYPE, key_type);
  nftnl_set_set_u32(&out, NFTNL_SET_KEY_LEN, length);
  if (has_intervals(type)) {
    nftnl_set_set_u32(&out, NFTNL_SET_FLAGS, NFT_SET_INTERVAL | NFT_SET_CONCAT);
    nftnl_set_set_data(&out, NFTNL_SET_DESC_CONCAT, lengths.data(), static_cast<std::uint32_t>(lengths.size()));
  }
  if (is_map(type)) {
    nftnl_set_set_u32(&out, NFTNL_SET_FLAGS, NFT_SET_MAP);
    nftnl_set_set_u32(&out, NFTNL_SET_DATA_TYPE, type_classid);
    nftnl_set_set_u32(&out, NFTNL_SET_DATA_LEN, 4);
  }
  if (is_rate(type)) nftnl_set_add_expr(&out, rate_limit(declared_rate));
  if (lengths.size() > 1) return;
  const std::string order = byte_order(type);
  nftnl_set_set_data(&out, NFTNL_SET_USERDATA, order.data(), static_cast<std::uint32_t>(order.size()));
}

std::vector<SetElement> elements_of(const ElementSet& set) {
  std::vector<SetElement> out;
  for (const std::string& interface : set.interfaces) out.emplace_back().key = interface_key(interface);
  for (const Endpoint& endpoint : set.endpoints) out.push_back(element(endpoint));
  for (const DeviceAccess& device : set.devices) out.push_back(element(device, set.type));
  for (const AccessGrant& grant : set.grants) {
    SetElement& one = out.emplace_back();
    one.key = key_of(grant, set.type, false);
    if (has_intervals(set.type)) one.key_end = key_of(grant, set.type, true);
  }
  return out;
}

nftnl_set_elem* to_nftnl(const SetElement& element, bool whole) {
  nftnl_set_elem* out = nftnl_set_elem_alloc();
  auto put = [out](std::uint16_t attribute, const std::string& value) {
    if (!value.empty()) nftnl_set_elem_set(out, attribute, value.data(), static_cast<std::uint32_t>(value.size()));
  };
  put(NFTNL_SET_ELEM_KEY, element.key);
  put(NFTNL_SET_ELEM_KEY_END, element.key_end);
  if (!whole) return out;
  put(NFTNL_SET_ELEM_DATA, element.data);
  if (element.rate != 0) nftnl_set_elem_add_expr(out, rate_limit(element.rate));
  return out;
}

}  // namespace tornado::inline v1::nft
