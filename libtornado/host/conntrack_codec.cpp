#include "host/conntrack_codec.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>

#include <array>
#include <cstring>

#include "base/try.hpp"
#include "tornado/host.hpp"

namespace tornado::inline v1 {
namespace {

// nfgenmsg.version: the kernel looks at the family of a deletion only from 1 on.
constexpr std::uint8_t families_count = 1;

NetlinkWriter request(int message, std::uint16_t flags, std::uint8_t family, std::uint8_t version) {
  NetlinkWriter out(static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message), flags);
  nfgenmsg header{};
  header.nfgen_family = family;
  header.version = version;
  out.fixed(header);
  return out;
}

Result<Address> source_of(std::string_view tuple) {
  TRY_PLAIN(NetlinkAttributes parts, NetlinkAttributes::parse(tuple));
  TRY_PLAIN(NetlinkAttributes ip, NetlinkAttributes::parse(parts.find(CTA_TUPLE_IP).value_or(std::string_view())));
  if (auto v4 = ip.be32(CTA_IP_V4_SRC)) return Address::from_v4(*v4);
  std::array<std::uint8_t, 16> raw{};
  auto v6 = ip.find(CTA_IP_V6_SRC);
  if (!v6 || v6->size() != raw.size()) return Error(errc::protocol_error, "conntrack: tuple without a source");
  std::memcpy(raw.data(), v6->data(), raw.size());
  return Address::from_v6(raw);
}

/// The first `length` bits of the bytes of an IPv4 address, as `connection_mark` reads them.
std::uint32_t mark_mask(int length) {
  return htonl(length == 0 ? 0 : ~std::uint32_t{0} << (32 - length));
}

std::uint32_t mark_of(const Address& v4) {
  return connection_mark(v4, Lane());
}

}  // namespace

std::string delete_connections(std::uint32_t mark, bool v6) {
  NetlinkWriter out = request(IPCTNL_MSG_CT_DELETE, 0, v6 ? AF_INET6 : AF_INET, families_count);
  out.put_be32(CTA_MARK, mark);
  out.put_be32(CTA_MARK_MASK, 0xffffffff);
  return out.take();
}

std::string delete_connections(const Prefix& pool) {
  NetlinkWriter out = request(IPCTNL_MSG_CT_DELETE, 0, AF_INET, families_count);
  std::uint32_t mask = mark_mask(pool.length());
  out.put_be32(CTA_MARK, mark_of(pool.base()) & mask);
  out.put_be32(CTA_MARK_MASK, mask);
  return out.take();
}

std::string list_connections(bool v6) {
  return request(IPCTNL_MSG_CT_GET, NLM_F_DUMP, v6 ? AF_INET6 : AF_INET, NFNETLINK_V0).take();
}

Result<std::optional<TrackedConnection>> decode_connection(const NetlinkMessage& message) {
  if (message.type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW)) return std::optional<TrackedConnection>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
  TrackedConnection out;
  out.family = static_cast<std::uint8_t>(message.payload.front());
  out.tuple = attributes.find(CTA_TUPLE_ORIG).value_or(std::string_view());
  out.zone = attributes.find(CTA_ZONE).value_or(std::string_view());
  out.id = attributes.find(CTA_ID).value_or(std::string_view());
  TRY_PLAIN(out.source, source_of(out.tuple));
  return std::optional(out);
}

std::string delete_connection(const TrackedConnection& connection) {
  NetlinkWriter out = request(IPCTNL_MSG_CT_DELETE, 0, connection.family, NFNETLINK_V0);
  // Always there, for without a tuple the kernel deletes everything.
  out.put(CTA_TUPLE_ORIG | NLA_F_NESTED, connection.tuple);
  // A zone is a table of its own; the number tells a connection from a later one with the same tuple.
  if (!connection.zone.empty()) out.put(CTA_ZONE, connection.zone);
  if (!connection.id.empty()) out.put(CTA_ID, connection.id);
  return out.take();
}

}  // namespace tornado::inline v1
