#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <cstring>

#include "firewall/nft_codec.hpp"

namespace tornado {
namespace {

constexpr std::uint16_t message_type(int message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

nfgenmsg header(std::uint8_t family) {
  nfgenmsg out{};
  out.nfgen_family = family;
  return out;
}

NetlinkMessage only(const std::string& bytes) {
  auto messages = split_netlink(bytes);
  EXPECT_TRUE(messages && messages->size() == 1);
  return messages->front();
}

std::string generation_message(std::uint32_t id) {
  NetlinkWriter out(message_type(NFT_MSG_NEWGEN), 0);
  return out.fixed(header(0)).put_be32(NFTA_GEN_ID, id).put_text(NFTA_GEN_PROC_NAME, "nft").take();
}

std::string table_message(const std::string& name, std::uint8_t family = NFPROTO_INET) {
  NetlinkWriter out(message_type(NFT_MSG_NEWTABLE), 0);
  out.fixed(header(family)).put_text(NFTA_TABLE_NAME, name);
  return out.put(NFTA_TABLE_HANDLE, std::string_view("\0\0\0\0\0\0\1\2", 8)).take();
}

std::shared_ptr<const Ruleset> example() {
  GatewayPolicy policy;
  LanePolicy lane;
  lane.lane = Lane("vpn");
  lane.interface = "wg0";
  lane.pool = Prefix("10.8.0.0/24");
  lane.gateway = *Address::parse("10.8.0.1");
  lane.mode = LaneMode::open;
  policy.lanes.push_back(lane);
  for (std::uint32_t i = 0; i < 1000; ++i) policy.api.push_back(Endpoint(Address::from_v4(0xc0000201U + i), 4605));
  return compile(policy);
}

int type_of(const std::string& message) {
  return only(message).type;
}

TEST(NftCodec, ReplacingIsOneBatchThatDeletesTheOldTable) {
  auto batch = nft::replace_table("tornado", *example());
  ASSERT_GT(batch.size(), 10U);
  EXPECT_EQ(type_of(batch.front()), NFNL_MSG_BATCH_BEGIN);
  EXPECT_EQ(type_of(batch[1]), message_type(NFT_MSG_NEWTABLE));
  EXPECT_EQ(type_of(batch[2]), message_type(NFT_MSG_DELTABLE));
  EXPECT_EQ(type_of(batch[3]), message_type(NFT_MSG_NEWTABLE));
  EXPECT_EQ(type_of(batch.back()), NFNL_MSG_BATCH_END);
  int elements = 0, rules = 0;
  for (const std::string& message : batch) {
    EXPECT_EQ(message.size() % 4, 0U);
    elements += type_of(message) == message_type(NFT_MSG_NEWSETELEM);
    rules += type_of(message) == message_type(NFT_MSG_NEWRULE);
  }
  EXPECT_EQ(elements, 4);  // @lanes, and @api4 in three parts of at most 64 KiB
  std::size_t expected = 0;
  auto ruleset = example();
  for (const Chain& chain : ruleset->chains) expected += chain.rules.size();
  EXPECT_EQ(static_cast<std::size_t>(rules), expected);
}

TEST(NftCodec, RefillingALaneTouchesItsChainsOnly) {
  auto batch = nft::refill_lane("tornado", *example(), Lane("vpn"));
  ASSERT_GT(batch.size(), 3U);
  for (std::size_t i = 1; i + 1 < batch.size(); ++i) {
    NetlinkMessage message = only(batch[i]);
    EXPECT_TRUE(message.type == message_type(NFT_MSG_DELRULE) || message.type == message_type(NFT_MSG_NEWRULE));
    auto attributes = NetlinkAttributes::after(message, sizeof(nfgenmsg));
    ASSERT_TRUE(attributes);
    EXPECT_EQ(attributes->text(NFTA_RULE_CHAIN)->substr(0, 9), "lane_vpn_");
  }
  EXPECT_TRUE(nft::refill_lane("tornado", *example(), Lane("tor")).empty());
  EXPECT_TRUE(nft::refill_lane("tornado", *example(), Lane()).empty());
}

TEST(NftCodec, ReadsGenerationsAndTables) {
  EXPECT_EQ(*nft::decode_generation(only(generation_message(77))), 77U);
  EXPECT_FALSE(*nft::decode_generation(only(table_message("tornado"))));
  EXPECT_EQ(*nft::decode_table(only(table_message("tornado")), "tornado"), 0x102U);
  EXPECT_FALSE(*nft::decode_table(only(table_message("other")), "tornado"));
  EXPECT_FALSE(*nft::decode_table(only(table_message("tornado", NFPROTO_IPV4)), "tornado"));
}

TEST(NftCodec, ReadsEvents) {
  NetlinkMessage message = only(generation_message(5));
  message.port = 42;
  auto event = nft::decode_event(message, 42);
  ASSERT_TRUE(event && *event);
  EXPECT_TRUE((*event)->ours);
  EXPECT_EQ((*event)->generation, 5U);
  event = nft::decode_event(only(table_message("tornado")), 42);
  ASSERT_TRUE(event && *event);
  EXPECT_FALSE((*event)->ours);
  EXPECT_EQ((*event)->table, "tornado");
  EXPECT_EQ((*nft::decode_event(only(table_message("tornado", NFPROTO_IPV4)), 42))->table, "");
  NetlinkWriter other(16, 0);
  EXPECT_FALSE(*nft::decode_event(only(other.take()), 42));
}

std::string chain_message(std::uint8_t family, std::uint32_t hook, std::optional<std::uint32_t> policy) {
  NetlinkWriter out(message_type(NFT_MSG_NEWCHAIN), 0);
  out.fixed(header(family)).put_text(NFTA_CHAIN_TABLE, "filter").put_text(NFTA_CHAIN_NAME, "FORWARD");
  std::size_t nest = out.open(NFTA_CHAIN_HOOK);
  out.put_be32(NFTA_HOOK_HOOKNUM, hook);
  out.close(nest);
  if (policy) out.put_be32(NFTA_CHAIN_POLICY, *policy);
  return out.take();
}

TEST(NftCodec, ReadsBaseChains) {
  auto drops = nft::decode_base_chain(only(chain_message(NFPROTO_IPV4, 2, NF_DROP)));
  ASSERT_TRUE(drops && *drops);
  EXPECT_TRUE((*drops)->drops);
  EXPECT_EQ((*drops)->name, ForeignChain("ip", "filter", "FORWARD", "forward"));
  auto accepts = nft::decode_base_chain(only(chain_message(NFPROTO_INET, 5, NF_ACCEPT)));
  ASSERT_TRUE(accepts && *accepts);
  EXPECT_FALSE((*accepts)->drops);
  EXPECT_EQ((*accepts)->name.hook, "ingress");
  EXPECT_FALSE((*nft::decode_base_chain(only(chain_message(NFPROTO_IPV6, 0, std::nullopt))))->drops);
  EXPECT_FALSE(*nft::decode_base_chain(only(chain_message(NFPROTO_BRIDGE, 2, NF_DROP))));
  EXPECT_FALSE(*nft::decode_base_chain(only(table_message("tornado"))));
  EXPECT_FALSE(nft::decode_base_chain(only(chain_message(NFPROTO_IPV4, 6, NF_DROP))));
  NetlinkWriter plain(message_type(NFT_MSG_NEWCHAIN), 0);
  plain.fixed(header(NFPROTO_INET)).put_text(NFTA_CHAIN_TABLE, "filter").put_text(NFTA_CHAIN_NAME, "x");
  EXPECT_FALSE(*nft::decode_base_chain(only(plain.take())));
}

/// What would be listed of a rule is what would be sent to make it.
bool drops_all(const Rule& rule) {
  Ruleset ruleset;
  ruleset.chains.emplace_back();
  ruleset.chains.back().name = "c";
  ruleset.chains.back().rules.push_back(rule);
  auto batch = nft::replace_table("t", ruleset);
  return nft::decode_drops_all(only(batch[batch.size() - 2])).value().value();
}

TEST(NftCodec, TellsRulesThatDropEverything) {
  using namespace rule;
  Verdict drop{VerdictKind::drop, {}}, accept{VerdictKind::accept, {}}, go{VerdictKind::go, "c"};
  EXPECT_TRUE(drops_all({drop}));
  EXPECT_TRUE(drops_all({Counter{}, drop}));
  EXPECT_TRUE(drops_all({Reset{}}));
  EXPECT_FALSE(drops_all({Transport{Protocol::tcp}, Reset{}}));
  EXPECT_FALSE(drops_all({Translated{}, drop}));
  EXPECT_FALSE(drops_all({accept}));
  EXPECT_FALSE(drops_all({go}));
  EXPECT_FALSE(drops_all({Counter{}}));
  EXPECT_FALSE(drops_all({}));
  EXPECT_FALSE(drops_all({Interface{Path::in, "eth0", false}, drop}));
  EXPECT_FALSE(*nft::decode_drops_all(only(table_message("tornado"))));
}

TEST(NftCodec, HostileAnswersAreErrors) {
  NetlinkWriter no_number(message_type(NFT_MSG_NEWGEN), 0);
  EXPECT_FALSE(nft::decode_generation(only(no_number.fixed(header(0)).take())));
  NetlinkWriter empty(message_type(NFT_MSG_NEWRULE), 0);
  EXPECT_FALSE(nft::decode_event(only(empty.take()), 1));
  NetlinkWriter no_handle(message_type(NFT_MSG_NEWTABLE), 0);
  no_handle.fixed(header(NFPROTO_INET)).put_text(NFTA_TABLE_NAME, "tornado");
  EXPECT_FALSE(nft::decode_table(only(no_handle.take()), "tornado"));
}

TEST(NftCodec, SurvivesTruncation) {
  for (const std::string& whole : {generation_message(1), table_message("tornado")})
    for (std::size_t size = NLMSG_HDRLEN; size < whole.size(); ++size) {
      std::string bytes = whole.substr(0, size);
      auto length = static_cast<std::uint32_t>(size);
      std::memcpy(bytes.data(), &length, sizeof length);
      bytes.shrink_to_fit();
      NetlinkMessage message = only(bytes);
      (void)nft::decode_generation(message);
      (void)nft::decode_table(message, "tornado");
      (void)nft::decode_event(message, 1);
    }
}

}  // namespace
}  // namespace tornado
