#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cstring>

#include "host/conntrack_codec.hpp"
#include "host/rtnl_codec.hpp"

namespace tornado {
namespace {

std::string link_message() {
  NetlinkWriter out(RTM_NEWLINK, NLM_F_MULTI);
  ifinfomsg header{};
  header.ifi_index = 7;
  header.ifi_flags = IFF_UP;
  out.fixed(header).put_text(IFLA_IFNAME, "wg0").put_u32(IFLA_MTU, 1420);
  std::size_t nest = out.open(IFLA_LINKINFO);
  out.put_text(IFLA_INFO_KIND, "wireguard");
  out.close(nest);
  return out.take();
}

std::string address_message() {
  NetlinkWriter out(RTM_NEWADDR, NLM_F_MULTI);
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = 24;
  header.ifa_index = 7;
  out.fixed(header).put(IFA_ADDRESS, std::string_view("\x0a\x08\x00\x02", 4));
  out.put(IFA_LOCAL, std::string_view("\x0a\x08\x00\x01", 4));
  return out.take();
}

std::string error_message(int error, const std::string& text) {
  NetlinkWriter out(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS);
  nlmsgerr body{};
  body.error = -error;
  body.msg.nlmsg_len = 500;
  out.fixed(body).put_text(NLMSGERR_ATTR_MSG, text);
  return out.take();
}

NetlinkMessage only(const std::string& bytes) {
  auto messages = split_netlink(bytes);
  EXPECT_TRUE(messages);
  EXPECT_EQ(messages->size(), 1U);
  return messages->front();
}

TEST(NetlinkCodec, CutsADatagramIntoMessages) {
  auto messages = split_netlink(link_message() + address_message());
  ASSERT_TRUE(messages);
  ASSERT_EQ(messages->size(), 2U);
  EXPECT_EQ((*messages)[0].type, RTM_NEWLINK);
  EXPECT_EQ((*messages)[1].type, RTM_NEWADDR);
  EXPECT_TRUE(split_netlink("")->empty());
}

TEST(NetlinkCodec, RefusesLengthsThatContradictTheBytes) {
  for (std::uint32_t length : {0U, 1U, 15U, 17000U, 0xffffffffU}) {
    std::string bytes = link_message();
    std::memcpy(bytes.data(), &length, sizeof length);
    auto result = split_netlink(bytes);
    ASSERT_FALSE(result) << length;
    EXPECT_EQ(result.error().code(), errc::protocol_error);
  }
}

TEST(NetlinkCodec, RefusesAttributesThatContradictTheBytes) {
  for (std::uint16_t length : {0, 3, 200, 65535}) {
    std::string bytes = link_message();
    std::memcpy(bytes.data() + NLMSG_HDRLEN + sizeof(ifinfomsg), &length, sizeof length);
    auto result = rtnl::decode_link(only(bytes));
    ASSERT_FALSE(result) << length;
    EXPECT_EQ(result.error().code(), errc::protocol_error);
  }
}

TEST(NetlinkCodec, ReadsAcknowledgements) {
  auto ack = decode_ack(only(error_message(EBUSY, "Device is busy")));
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->error, EBUSY);
  EXPECT_EQ(ack->text, "Device is busy");
  NetlinkReply reply;
  reply.ack = *ack;
  auto checked = reply.check("set link");
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), errc::backend_failed);
  EXPECT_NE(checked.error().detail().find("Device is busy"), std::string::npos);
  EXPECT_TRUE(reply.check("set link", {EBUSY}));
  reply.ack.error = EPERM;
  EXPECT_EQ(reply.check("x").error().code(), errc::permission_denied);
  reply.ack.error = ENODEV;
  EXPECT_EQ(reply.check("x").error().code(), errc::interface_missing);
}

TEST(NetlinkCodec, ReadsAcknowledgementsThatRepeatTheRequest) {
  NetlinkWriter out(NLMSG_ERROR, NLM_F_ACK_TLVS);
  nlmsgerr body{};
  body.error = -EINVAL;
  body.msg.nlmsg_len = NLMSG_HDRLEN + 8;
  out.fixed(body).raw("12345678", 8).put_text(NLMSGERR_ATTR_MSG, "no");
  EXPECT_EQ(decode_ack(only(out.take()))->text, "no");
  // A length that points outside leaves the text away.
  NetlinkWriter hostile(NLMSG_ERROR, NLM_F_ACK_TLVS);
  body.msg.nlmsg_len = 0xfffffff0U;
  hostile.fixed(body).put_text(NLMSGERR_ATTR_MSG, "no");
  EXPECT_EQ(decode_ack(only(hostile.take()))->text, "");
}

TEST(NetlinkCodec, SuccessOfADump) {
  NetlinkWriter done(NLMSG_DONE, NLM_F_MULTI);
  int zero = 0;
  done.fixed(zero);
  EXPECT_EQ(decode_ack(only(done.take()))->error, 0);
  NetlinkWriter odd(NLMSG_ERROR, 0);
  int positive = 5;
  odd.fixed(positive);
  EXPECT_FALSE(decode_ack(only(odd.take())));
}

NetlinkMessage numbered(std::uint16_t type, std::uint32_t sequence, int error = 0, std::uint16_t flags = 0) {
  NetlinkMessage out;
  out.type = type;
  out.flags = flags;
  out.sequence = sequence;
  nlmsgerr body{};
  body.error = -error;
  out.payload.assign(reinterpret_cast<const char*>(&body), sizeof body);
  return out;
}

TEST(NetlinkExchange, IgnoresAnswersToOthers) {
  NetlinkExchange exchange(0xffffffffU, 1);  // numbers wrap
  EXPECT_TRUE(exchange.take(numbered(NLMSG_ERROR, 0xfffffffeU, EPERM)));
  EXPECT_TRUE(exchange.take(numbered(NLMSG_ERROR, 2, EPERM)));
  EXPECT_FALSE(exchange.complete());
  EXPECT_TRUE(exchange.take(numbered(RTM_NEWLINK, 0)));
  EXPECT_TRUE(exchange.take(numbered(NLMSG_ERROR, 1)));
  EXPECT_TRUE(exchange.complete());
  NetlinkReply reply = exchange.take_reply();
  EXPECT_EQ(reply.ack.error, 0);
  EXPECT_EQ(reply.messages.size(), 1U);
}

TEST(NetlinkExchange, KeepsTheFirstErrorOfABatch) {
  NetlinkExchange exchange(10, 20);
  EXPECT_TRUE(exchange.take(numbered(NLMSG_ERROR, 12, ENOENT)));
  EXPECT_FALSE(exchange.complete());
  EXPECT_TRUE(exchange.take(numbered(NLMSG_ERROR, 20, EEXIST)));
  EXPECT_TRUE(exchange.complete());
  EXPECT_EQ(exchange.take_reply().ack.error, ENOENT);
  NetlinkExchange refused(10, 20);
  EXPECT_TRUE(refused.take(numbered(NLMSG_ERROR, 10, EPERM)));
  EXPECT_TRUE(refused.complete());
}

TEST(NetlinkExchange, NoticesADumpThatChangedUnderneath) {
  NetlinkExchange exchange(5, 5);
  EXPECT_TRUE(exchange.take(numbered(RTM_NEWLINK, 5, 0, NLM_F_MULTI | NLM_F_DUMP_INTR)));
  EXPECT_TRUE(exchange.take(numbered(NLMSG_DONE, 5)));
  EXPECT_TRUE(exchange.complete());
  EXPECT_EQ(exchange.take_reply().ack.error, EINTR);
}

TEST(NetlinkExchange, KeepsOnlyTheLastMessageIfAskedTo) {
  NetlinkExchange exchange(5, 5, Keep::last);
  for (int type : {RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR})
    EXPECT_TRUE(exchange.take(numbered(static_cast<std::uint16_t>(type), 5, 0, NLM_F_MULTI)));
  EXPECT_TRUE(exchange.take(numbered(RTM_NEWROUTE, 4, 0, NLM_F_MULTI)));
  EXPECT_TRUE(exchange.take(numbered(NLMSG_DONE, 5)));
  NetlinkReply reply = exchange.take_reply();
  ASSERT_EQ(reply.messages.size(), 1U);
  EXPECT_EQ(reply.messages[0].type, RTM_NEWADDR);
}

TEST(RtnlCodec, ReadsLinksAndAddresses) {
  auto link = rtnl::decode_link(only(link_message()));
  ASSERT_TRUE(link && *link);
  EXPECT_EQ((*link)->name, "wg0");
  EXPECT_EQ((*link)->index, 7);
  EXPECT_TRUE((*link)->up);
  EXPECT_EQ((*link)->mtu, 1420U);
  auto address = rtnl::decode_address(only(address_message()));
  ASSERT_TRUE(address && *address);
  EXPECT_EQ((*address)->index, 7);
  EXPECT_EQ((*address)->address.address.str(), "10.8.0.1");
  EXPECT_EQ((*address)->address.length, 24);
  EXPECT_FALSE(*rtnl::decode_link(only(address_message())));
  EXPECT_FALSE(*rtnl::decode_address(only(link_message())));
}

TEST(RtnlCodec, SkipsAddressesOfTheWrongSize) {
  NetlinkWriter out(RTM_NEWADDR, 0);
  ifaddrmsg header{};
  header.ifa_family = AF_INET6;
  out.fixed(header).put(IFA_ADDRESS, std::string_view("\x0a\x08\x00\x02", 4));
  auto address = rtnl::decode_address(only(out.take()));
  ASSERT_TRUE(address);
  EXPECT_FALSE(*address);
}

/// What we write is what we read, but for the answer's type: requests and answers have one form.
std::string as_listed(std::string request, std::uint16_t type) {
  std::memcpy(request.data() + offsetof(nlmsghdr, nlmsg_type), &type, sizeof type);
  return request;
}

Route route_of(const char* destination, RouteKind kind, std::uint32_t table, std::uint32_t metric = 0) {
  Route out;
  out.destination = Prefix(destination);
  out.kind = kind;
  out.table = table;
  out.metric = metric;
  return out;
}

TEST(RtnlCodec, ReadsTheRoutesItWrites) {
  for (const Route& wanted :
       {route_of("10.9.0.0/24", RouteKind::blackhole, 254, 0x7fffffff),
        route_of("0.0.0.0/0", RouteKind::blackhole, 51901), route_of("::/0", RouteKind::blackhole, 51901),
        route_of("fd00:9::/64", RouteKind::throw_, 200, 7)}) {
    auto got = rtnl::decode_route(only(as_listed(rtnl::put_route(0, wanted), RTM_NEWROUTE)));
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->route, wanted) << wanted.destination.str();
    EXPECT_EQ((*got)->index, 0);
  }
  Route unicast = route_of("10.7.0.0/16", RouteKind::unicast, 254);
  unicast.link = "wg0";
  auto got = rtnl::decode_route(only(as_listed(rtnl::put_route(3, unicast), RTM_NEWROUTE)));
  ASSERT_TRUE(got && *got);
  EXPECT_EQ((*got)->index, 3);
  // What the kernel makes of an IPv6 route without a metric.
  auto metric = route_of("::/0", RouteKind::blackhole, 51901, 1024);
  EXPECT_EQ((*rtnl::decode_route(only(rtnl::put_route(0, metric))))->route.metric, 0U);
}

TEST(RtnlCodec, LeavesOutRoutesItCannotSay) {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_type = RTN_UNICAST;
  auto read = [](NetlinkWriter& out) { return rtnl::decode_route(only(out.take())); };
  NetlinkWriter gateway(RTM_NEWROUTE, 0);
  gateway.fixed(header).put(RTA_GATEWAY, std::string_view("\x0a\x00\x00\x01", 4));
  EXPECT_FALSE(*read(gateway));
  header.rtm_dst_len = 33;
  NetlinkWriter longer(RTM_NEWROUTE, 0);
  longer.fixed(header).put(RTA_DST, std::string_view("\x0a\x00\x00\x01", 4));
  EXPECT_FALSE(*read(longer));
  header.rtm_dst_len = 24;
  NetlinkWriter host_bits(RTM_NEWROUTE, 0);
  host_bits.fixed(header).put(RTA_DST, std::string_view("\x0a\x00\x00\x01", 4));
  EXPECT_FALSE(*read(host_bits));
  header.rtm_type = RTN_LOCAL;
  NetlinkWriter local(RTM_NEWROUTE, 0);
  local.fixed(header);
  EXPECT_FALSE(*read(local));
  EXPECT_FALSE(*rtnl::decode_route(only(link_message())));
}

RoutingRule a_rule(bool v6) {
  RoutingRule out;
  out.v6 = v6;
  out.incoming = "wg1";
  out.source = Prefix(v6 ? "fd00:9::/64" : "10.9.0.0/24");
  out.destination = Prefix(v6 ? "fd00:9::/64" : "10.9.0.0/24");
  out.priority = 101;
  out.table = 51901;
  return out;
}

TEST(RtnlCodec, ReadsTheRulesItWrites) {
  for (bool v6 : {false, true}) {
    RoutingRule bare;
    bare.v6 = v6;
    bare.priority = 100;
    bare.table = 254;
    for (const RoutingRule& wanted : {a_rule(v6), bare}) {
      auto got = rtnl::decode_rule(only(as_listed(rtnl::add_rule(wanted), RTM_NEWRULE)));
      ASSERT_TRUE(got && *got);
      EXPECT_EQ(**got, wanted);
    }
  }
}

TEST(RtnlCodec, LeavesOutRulesItCannotSay) {
  fib_rule_hdr header{};
  header.family = AF_INET;
  header.action = FR_ACT_TO_TBL;
  header.table = RT_TABLE_MAIN;
  auto with = [&](std::uint16_t type, std::uint32_t value) {
    NetlinkWriter out(RTM_NEWRULE, 0);
    out.fixed(header).put_u32(type, value);
    return rtnl::decode_rule(only(out.take())).value().has_value();
  };
  EXPECT_TRUE(with(FRA_PRIORITY, 5));
  EXPECT_TRUE(with(FRA_SUPPRESS_PREFIXLEN, ~0U)) << "as the kernel says that nothing is suppressed";
  for (std::uint16_t condition : {FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_OIFNAME, FRA_GOTO, FRA_IP_PROTO})
    EXPECT_FALSE(with(condition, 1)) << condition;
  header.flags = FIB_RULE_INVERT;
  EXPECT_FALSE(with(FRA_PRIORITY, 5));
  header.flags = 0;
  header.src_len = 24;
  EXPECT_FALSE(with(FRA_PRIORITY, 5)) << "a length without a prefix";
}

/// Truncated at every length: an error, nothing, or a shorter truth; never a read beyond the end.
TEST(RtnlCodec, SurvivesTruncation) {
  Route route = route_of("10.9.0.0/24", RouteKind::blackhole, 254, 7);
  for (const std::string& whole : {link_message(), address_message(), error_message(EBUSY, "busy"),
                                   rtnl::put_route(0, route), rtnl::add_rule(a_rule(true))})
    for (std::size_t size = NLMSG_HDRLEN; size < whole.size(); ++size) {
      std::string bytes = whole.substr(0, size);
      auto length = static_cast<std::uint32_t>(size);
      std::memcpy(bytes.data(), &length, sizeof length);
      bytes.shrink_to_fit();
      auto messages = split_netlink(bytes);
      ASSERT_TRUE(messages);
      for (const NetlinkMessage& message : *messages) {
        (void)rtnl::decode_link(message);
        (void)rtnl::decode_address(message);
        (void)rtnl::decode_route(message);
        (void)rtnl::decode_rule(message);
        (void)decode_ack(message);
      }
    }
}

constexpr std::uint16_t connection_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;

std::string connection_message(std::uint16_t type, const std::string& source) {
  NetlinkWriter out(type, NLM_F_MULTI);
  Address address = *Address::parse(source);
  nfgenmsg header{};
  header.nfgen_family = address.is_v4() ? AF_INET : AF_INET6;
  out.fixed(header);
  std::size_t tuple = out.open(CTA_TUPLE_ORIG), ip = out.open(CTA_TUPLE_IP);
  out.put(address.is_v4() ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, address.bytes());
  out.close(ip);
  out.close(tuple);
  return out.put_be32(CTA_ID, 77).take();
}

TEST(ConntrackCodec, ReadsTheSourceOfAConnectionAndDeletesThatOne) {
  for (const std::string source : {"10.9.0.2", "fd00:9::2"}) {
    NetlinkMessage listed = only(connection_message(connection_type, source));
    auto connection = decode_connection(listed);
    ASSERT_TRUE(connection && *connection);
    EXPECT_EQ((*connection)->source.str(), source);
    NetlinkMessage request = only(delete_connection(**connection));
    EXPECT_EQ(request.type, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE);
    EXPECT_EQ(request.payload.front(), listed.payload.front());
    auto attributes = NetlinkAttributes::after(request, sizeof(nfgenmsg));
    ASSERT_TRUE(attributes);
    EXPECT_EQ(attributes->find(CTA_TUPLE_ORIG), (*connection)->tuple);
    EXPECT_EQ(attributes->be32(CTA_ID), 77U);
    EXPECT_FALSE(attributes->find(CTA_ZONE));
  }
  EXPECT_FALSE(*decode_connection(only(link_message())));
}

TEST(ConntrackCodec, NoTwoAddressesOfAFamilyShareAMark) {
  const Lane vpn("vpn"), tor("tor");
  EXPECT_NE(lane_mark(vpn), lane_mark(tor));
  auto mark = [](const char* address, const Lane& lane) { return connection_mark(*Address::parse(address), lane); };
  EXPECT_NE(mark("fd00:8::3", vpn), mark("fd00:9::3", tor));
  EXPECT_NE(mark("fd00:8::3", vpn), mark("fd00:8::1:3", vpn));
  EXPECT_NE(mark("fd00:8::1:3", vpn), mark("fd00:9::3", tor));
  EXPECT_NE(mark("10.8.0.3", vpn), mark("10.9.0.3", tor));
  EXPECT_NE(mark("fd00:8::", vpn), 0U);
  for (bool v6 : {false, true}) {
    NetlinkMessage request = only(delete_connections(5, v6));
    EXPECT_EQ(request.payload[0], v6 ? AF_INET6 : AF_INET);
    EXPECT_EQ(request.payload[1], 1) << "or the kernel looks at no family";
  }
}

/// A request without one would delete everything.
TEST(ConntrackCodec, EveryDeletionNamesATuple) {
  auto attributes = NetlinkAttributes::after(only(delete_connection(TrackedConnection())), sizeof(nfgenmsg));
  ASSERT_TRUE(attributes);
  EXPECT_TRUE(attributes->find(CTA_TUPLE_ORIG));
}

TEST(ConntrackCodec, APoolIsTheMarksOfItsAddresses) {
  for (const char* text : {"10.9.0.0/24", "10.9.0.0/16", "172.16.0.0/12", "192.0.2.7/32"}) {
    Prefix pool(text);
    NetlinkMessage request = only(delete_connections(pool));
    auto attributes = NetlinkAttributes::after(request, sizeof(nfgenmsg));
    ASSERT_TRUE(attributes);
    std::uint32_t mark = *attributes->be32(CTA_MARK), mask = *attributes->be32(CTA_MARK_MASK);
    EXPECT_EQ(request.payload[0], AF_INET);
    EXPECT_EQ(request.payload[1], 1);
    for (const char* address :
         {"10.9.0.2", "10.9.0.255", "10.9.1.0", "10.8.0.2", "172.31.255.255", "172.32.0.0", "192.0.2.7", "192.0.2.6"})
      EXPECT_EQ((connection_mark(*Address::parse(address), Lane("tor")) & mask) == mark,
                pool.contains(*Address::parse(address)))
          << text << " " << address;
    EXPECT_NE(mark & mask, 0U);
  }
}

TEST(ConntrackCodec, SurvivesTruncationAndRefusesConnectionsWithoutASource) {
  std::string whole = connection_message(connection_type, "fd00:9::2");
  for (std::size_t size = NLMSG_HDRLEN; size < whole.size() - 8; ++size) {
    std::string bytes = whole.substr(0, size);
    auto length = static_cast<std::uint32_t>(size);
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes.shrink_to_fit();
    EXPECT_FALSE(decode_connection(only(bytes)));
  }
}

TEST(RtnlCodec, RequestsAreWellFormed) {
  LinkAddress address("wg0", *Address::parse("fd00:8::1"), 64);
  Route route;
  route.destination = Prefix("10.9.0.0/24");
  route.kind = RouteKind::throw_;
  route.table = 4609;
  RoutingRule rule;
  rule.incoming = "wg0";
  rule.priority = 1;
  rule.table = 4609;
  for (const std::string& bytes :
       {rtnl::list_links(), rtnl::get_link("wg0"), rtnl::set_link(3, true, 1420), rtnl::rename_link(3, "wg0"),
        rtnl::remove_link(3), rtnl::list_addresses(), rtnl::add_address(3, address), rtnl::remove_address(3, address),
        rtnl::put_route(0, route), rtnl::remove_route(0, route), rtnl::add_rule(rule), rtnl::remove_rule(rule),
        rtnl::list_routes(true, 51901, RouteKind::blackhole), rtnl::list_rules(false), delete_connections(5, false),
        delete_connections(5, true), delete_connections(Prefix("10.9.0.0/24")), list_connections(true)}) {
    auto messages = split_netlink(bytes);
    ASSERT_TRUE(messages);
    EXPECT_EQ(messages->size(), 1U);
    EXPECT_TRUE((messages->front().flags & NLM_F_REQUEST) != 0);
  }
}

}  // namespace
}  // namespace tornado
