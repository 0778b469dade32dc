#include "host/conntrack_codec.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>

#include "net/netlink_codec.hpp"

namespace tornado::inline v1 {

std::string delete_connections(std::uint32_t mark) {
  NetlinkWriter out(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0);
  nfgenmsg header{};
  header.nfgen_family = AF_UNSPEC;  // without a tuple: every family
  header.version = NFNETLINK_V0;
  out.fixed(header);
  out.put_be32(CTA_MARK, mark);
  out.put_be32(CTA_MARK_MASK, 0xffffffff);
  return out.take();
}

}  // namespace tornado::inline v1
