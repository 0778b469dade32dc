#include "firewall/nft_codec.hpp"

#include <arpa/inet.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "base/try.hpp"
#include "firewall/nft_expression.hpp"
#include "firewall/nft_set.hpp"

namespace tornado::inline v1::nft {
namespace {

// One message holds at most 64 KiB of elements.
constexpr std::size_t elements_per_message = 400;
constexpr std::size_t message_limit = 65536;

using TablePtr = std::unique_ptr<nftnl_table, void (*)(const nftnl_table*)>;
using ChainPtr = std::unique_ptr<nftnl_chain, void (*)(const nftnl_chain*)>;
using RulePtr = std::unique_ptr<nftnl_rule, void (*)(const nftnl_rule*)>;
using SetPtr = std::unique_ptr<nftnl_set, void (*)(const nftnl_set*)>;

std::uint16_t type_of(int message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message);
}

nfgenmsg family_header() {
  nfgenmsg header{};
  header.nfgen_family = NFPROTO_INET;
  header.version = NFNETLINK_V0;
  return header;
}

/// What the rules about rights do with TCP they refuse.
enum class Refusal : std::uint8_t { as_written, silent };

/// Collects the messages of one transaction.
class Batch {
 public:
  explicit Batch(std::string table) : table_(std::move(table)), scratch_(2 * message_limit) {
    nftnl_batch_begin(scratch_.data(), 0);
    keep();
  }

  std::vector<std::string> finish() {
    nftnl_batch_end(scratch_.data(), 0);
    keep();
    return std::move(messages_);
  }

  void table(int message) {
    TablePtr table(nftnl_table_alloc(), nftnl_table_free);
    nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, table_.c_str());
    nftnl_table_nlmsg_build_payload(begin(message), table.get());
    keep();
  }

  void set(const ElementSet& set, std::uint32_t id) {
    SetPtr out = named(set.name);
    if (set.capacity != 0) {
      nftnl_set_set_u32(out.get(), NFTNL_SET_FLAGS, NFT_SET_EVAL);
      nftnl_set_set_u32(out.get(), NFTNL_SET_DESC_SIZE, set.capacity);
    }
    nftnl_set_set_u32(out.get(), NFTNL_SET_ID, id);
    describe_set(*out, set.type);
    nftnl_set_nlmsg_build_payload(begin(NFT_MSG_NEWSET), out.get());
    keep();
  }

  void elements(const ElementSet& set) { elements(set, NFT_MSG_NEWSETELEM); }
  /// By their keys alone. An absent one fails the batch.
  void remove_elements(const ElementSet& set) { elements(set, NFT_MSG_DELSETELEM); }

  void flush_set(const std::string& name) {
    NetlinkWriter out(type_of(NFT_MSG_DELSETELEM), 0);
    out.fixed(family_header());
    out.put_text(NFTA_SET_ELEM_LIST_TABLE, table_).put_text(NFTA_SET_ELEM_LIST_SET, name);
    messages_.push_back(out.take());
  }

  /// No rule refers to it any more.
  void remove_set(const std::string& name) {
    NetlinkWriter out(type_of(NFT_MSG_DELSET), 0);
    out.fixed(family_header());
    out.put_text(NFTA_SET_TABLE, table_).put_text(NFTA_SET_NAME, name);
    messages_.push_back(out.take());
  }

  void chain(const Chain& chain) {
    ChainPtr out(nftnl_chain_alloc(), nftnl_chain_free);
    nftnl_chain_set_str(out.get(), NFTNL_CHAIN_TABLE, table_.c_str());
    nftnl_chain_set_str(out.get(), NFTNL_CHAIN_NAME, chain.name.c_str());
    if (chain.hook) {
      nftnl_chain_set_str(out.get(), NFTNL_CHAIN_TYPE, chain.hook->type == ChainType::filter ? "filter" : "nat");
      nftnl_chain_set_u32(out.get(), NFTNL_CHAIN_HOOKNUM, static_cast<std::uint32_t>(chain.hook->hook));
      nftnl_chain_set_s32(out.get(), NFTNL_CHAIN_PRIO, chain.hook->priority);
      nftnl_chain_set_u32(out.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
    }
    nftnl_chain_nlmsg_build_payload(begin(NFT_MSG_NEWCHAIN), out.get());
    keep();
  }

  void elements(const ElementSet& set, int message) {
    const std::vector<SetElement> all = elements_of(set);
    for (std::size_t at = 0; at < all.size(); at += elements_per_message) {
      SetPtr out = named(set.name);
      for (std::size_t i = at; i < std::min(all.size(), at + elements_per_message); ++i)
        nftnl_set_elem_add(out.get(), to_nftnl(all[i], message == NFT_MSG_NEWSETELEM));
      nftnl_set_elems_nlmsg_build_payload(begin(message), out.get());
      keep();
    }
  }

  void flush_chain(const std::string& name) {
    NetlinkWriter out(type_of(NFT_MSG_DELRULE), 0);
    out.fixed(family_header());
    out.put_text(NFTA_RULE_TABLE, table_).put_text(NFTA_RULE_CHAIN, name);
    messages_.push_back(out.take());
  }

  void rules(const Chain& chain, Refusal refusal = Refusal::as_written) {
    for (const Rule& written : chain.rules) {
      Rule rule = written;
      if (refusal == Refusal::silent && is_access(chain.name))
        for (Expression& expression : rule)
          if (std::holds_alternative<rule::Reset>(expression)) expression = rule::Verdict{};
      RulePtr out(nftnl_rule_alloc(), nftnl_rule_free);
      nftnl_rule_set_str(out.get(), NFTNL_RULE_TABLE, table_.c_str());
      nftnl_rule_set_str(out.get(), NFTNL_RULE_CHAIN, chain.name.c_str());
      append_expressions(*out, rule);
      nftnl_rule_nlmsg_build_payload(begin(NFT_MSG_NEWRULE, NLM_F_APPEND), out.get());
      keep();
    }
  }

 private:
  nlmsghdr* begin(int message, int flags = 0) {
    bool creates = message == NFT_MSG_NEWTABLE || message == NFT_MSG_NEWCHAIN || message == NFT_MSG_NEWRULE ||
                   message == NFT_MSG_NEWSET || message == NFT_MSG_NEWSETELEM;
    return nftnl_nlmsg_build_hdr(scratch_.data(), static_cast<std::uint16_t>(message), NFPROTO_INET,
                                 static_cast<std::uint16_t>(flags | (creates ? NLM_F_CREATE : 0)), 0);
  }

  void keep() {
    nlmsghdr header;
    std::memcpy(&header, scratch_.data(), sizeof header);
    messages_.emplace_back(scratch_.data(), NLMSG_ALIGN(header.nlmsg_len));
  }

  SetPtr named(const std::string& name) {
    SetPtr out(nftnl_set_alloc(), nftnl_set_free);
    nftnl_set_set_str(out.get(), NFTNL_SET_TABLE, table_.c_str());
    nftnl_set_set_str(out.get(), NFTNL_SET_NAME, name.c_str());
    nftnl_set_set_u32(out.get(), NFTNL_SET_FAMILY, NFPROTO_INET);
    return out;
  }

  std::string table_;
  std::vector<char> scratch_;
  std::vector<std::string> messages_;
};

int message_of(const NetlinkMessage& message) {
  return message.type >> 8 == NFNL_SUBSYS_NFTABLES ? message.type & 255 : -1;
}

constexpr std::array<std::pair<std::uint8_t, std::string_view>, 3> families = {
    {{NFPROTO_INET, "inet"}, {NFPROTO_IPV4, "ip"}, {NFPROTO_IPV6, "ip6"}}};

/// Whether an expression ends a rule with a refusal.
Result<bool> drops_all(std::string_view kind, const NetlinkAttributes& details) {
  if (kind == "reject") return true;
  // What iptables-nft has no expression for is a target of xtables.
  if (kind == "target") return details.text(NFTA_TARGET_NAME) == "REJECT";
  auto data = details.find(NFTA_IMMEDIATE_DATA);
  if (kind != "immediate" || details.be32(NFTA_IMMEDIATE_DREG) != std::uint32_t{NFT_REG_VERDICT} || !data) return false;
  TRY_PLAIN(NetlinkAttributes value, NetlinkAttributes::parse(*data));
  auto nested = value.find(NFTA_DATA_VERDICT);
  if (!nested) return false;
  TRY_PLAIN(NetlinkAttributes verdict, NetlinkAttributes::parse(*nested));
  return verdict.be32(NFTA_VERDICT_CODE) == std::uint32_t{NF_DROP};
}

}  // namespace

std::vector<std::string> replace_table(const std::string& table, const Ruleset& ruleset) {
  Batch batch(table);
  for (int message : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE}) batch.table(message);
  std::uint32_t id = 0;
  for (const ElementSet& set : ruleset.sets) batch.set(set, ++id);
  for (const ElementSet& set : ruleset.sets) batch.elements(set);
  for (const Chain& chain : ruleset.chains) batch.chain(chain);
  for (const Chain& chain : ruleset.chains) batch.rules(chain, Refusal::silent);
  return batch.finish();
}

std::vector<std::string> refill_lane(const std::string& table, const Ruleset& ruleset, const Lane& lane) {
  Batch batch(table);
  bool known = false;
  for (const Chain& chain : ruleset.chains) {
    if (lane.empty() || chain.lane != lane) continue;
    known = true;
    batch.flush_chain(chain.name);
    batch.rules(chain);
  }
  return known ? batch.finish() : std::vector<std::string>();
}

std::vector<std::string> refill_sets(const std::string& table, const std::vector<ElementSet>& sets) {
  Batch batch(table);
  for (const ElementSet& set : sets) {
    batch.flush_set(set.name);
    batch.elements(set);
  }
  return batch.finish();
}

std::vector<std::string> refill_access(const std::string& table, const Ruleset& ruleset) {
  Batch batch(table);
  auto each = [](const auto& parts, auto&& act) {
    for (const auto& part : parts)
      if (is_access(part.name)) act(part);
  };
  each(ruleset.chains, [&](const Chain& chain) { batch.flush_chain(chain.name); });
  // Sets made anew: the kernel takes a millisecond for each range that leaves one.
  each(ruleset.sets, [&](const ElementSet& set) { batch.remove_set(set.name); });
  std::uint32_t id = 0;
  each(ruleset.sets, [&](const ElementSet& set) { batch.set(set, ++id); });
  each(ruleset.sets, [&](const ElementSet& set) { batch.elements(set); });
  each(ruleset.chains, [&](const Chain& chain) { batch.rules(chain, Refusal::silent); });
  return batch.finish();
}

std::vector<std::string> refill_access_rules(const std::string& table, const Ruleset& ruleset) {
  Batch batch(table);
  for (const Chain& chain : ruleset.chains) {
    if (!is_access(chain.name)) continue;
    batch.flush_chain(chain.name);
    batch.rules(chain);
  }
  return batch.finish();
}

std::vector<std::string> change_devices(const std::string& table, const std::vector<DeviceAccess>& gone,
                                        const std::vector<DeviceAccess>& fresh) {
  Batch batch(table);
  for (const ElementSet& set : device_sets(gone))
    if (!set.devices.empty()) batch.remove_elements(set);
  for (const ElementSet& set : device_sets(fresh))
    if (!set.devices.empty()) batch.elements(set);
  return batch.finish();
}

std::vector<std::string> remove_table(const std::string& table) {
  Batch batch(table);
  for (int message : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE}) batch.table(message);
  return batch.finish();
}

std::string get_generation() {
  NetlinkWriter out(type_of(NFT_MSG_GETGEN), 0);
  return out.fixed(nfgenmsg{}).take();
}

std::string get_table(const std::string& table) {
  NetlinkWriter out(type_of(NFT_MSG_GETTABLE), 0);
  out.fixed(family_header());
  return out.put_text(NFTA_TABLE_NAME, table).take();
}

std::string get_chains() {
  NetlinkWriter out(type_of(NFT_MSG_GETCHAIN), NLM_F_DUMP);
  return out.fixed(nfgenmsg{}).take();
}

std::string get_rules(const ForeignChain& chain) {
  NetlinkWriter out(type_of(NFT_MSG_GETRULE), NLM_F_DUMP);
  nfgenmsg header = family_header();
  for (const auto& [family, name] : families)
    if (name == chain.family) header.nfgen_family = family;
  out.fixed(header);
  return out.put_text(NFTA_RULE_TABLE, chain.table).put_text(NFTA_RULE_CHAIN, chain.chain).take();
}

Result<std::optional<BaseChain>> decode_base_chain(const NetlinkMessage& message) {
  static constexpr std::string_view hooks[] = {"prerouting", "input", "forward", "output", "postrouting", "ingress"};
  if (message_of(message) != NFT_MSG_NEWCHAIN) return std::optional<BaseChain>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
  auto family = std::find_if(families.begin(), families.end(), [&](const auto& entry) {
    return entry.first == static_cast<std::uint8_t>(message.payload[0]);
  });
  auto hook = attributes.find(NFTA_CHAIN_HOOK);
  if (!hook || family == families.end()) return std::optional<BaseChain>();
  TRY_PLAIN(NetlinkAttributes where, NetlinkAttributes::parse(*hook));
  auto number = where.be32(NFTA_HOOK_HOOKNUM);
  auto table = attributes.text(NFTA_CHAIN_TABLE), name = attributes.text(NFTA_CHAIN_NAME);
  if (!number || *number >= std::size(hooks) || !table || !name)
    return Error(errc::protocol_error, "nftables: base chain without a name or hook");
  BaseChain out;
  out.name = ForeignChain(std::string(family->second), *table, *name, std::string(hooks[*number]));
  out.drops = attributes.be32(NFTA_CHAIN_POLICY) == std::uint32_t{NF_DROP};
  return std::optional(std::move(out));
}

Result<std::optional<bool>> decode_drops_all(const NetlinkMessage& message) {
  if (message_of(message) != NFT_MSG_NEWRULE) return std::optional<bool>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
  auto list = attributes.find(NFTA_RULE_EXPRESSIONS);
  if (!list) return std::optional(false);
  TRY_PLAIN(NetlinkAttributes expressions, NetlinkAttributes::parse(*list));
  bool drops = false;
  for (const auto& [type, bytes] : expressions.all()) {
    TRY_PLAIN(NetlinkAttributes expression, NetlinkAttributes::parse(bytes));
    auto kind = expression.text(NFTA_EXPR_NAME).value_or(std::string());
    if (kind == "counter" || kind == "log") continue;
    auto data = expression.find(NFTA_EXPR_DATA);
    if (!data) return std::optional(false);
    TRY_PLAIN(NetlinkAttributes details, NetlinkAttributes::parse(*data));
    TRY_PLAIN(drops, drops_all(kind, details));
    if (!drops) return std::optional(false);
  }
  return std::optional(drops);
}

Result<std::optional<std::uint32_t>> decode_generation(const NetlinkMessage& message) {
  if (message_of(message) != NFT_MSG_NEWGEN) return std::optional<std::uint32_t>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
  auto id = attributes.be32(NFTA_GEN_ID);
  if (!id) return Error(errc::protocol_error, "nftables: generation without a number");
  return id;
}

Result<std::optional<std::uint64_t>> decode_table(const NetlinkMessage& message, const std::string& table) {
  if (message_of(message) != NFT_MSG_NEWTABLE) return std::optional<std::uint64_t>();
  TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
  if (message.payload[0] != NFPROTO_INET || attributes.text(NFTA_TABLE_NAME) != table)
    return std::optional<std::uint64_t>();
  auto handle = attributes.find(NFTA_TABLE_HANDLE);
  if (!handle || handle->size() != sizeof(std::uint64_t))
    return Error(errc::protocol_error, "nftables: table without a handle");
  std::uint64_t value = 0;
  for (char byte : *handle) value = value << 8 | static_cast<std::uint8_t>(byte);
  return std::optional(value);
}

Result<std::optional<Event>> decode_event(const NetlinkMessage& message, std::uint32_t port) {
  if (message_of(message) < 0) return std::optional<Event>();
  Event out;
  out.ours = message.port == port;
  TRY_PLAIN(out.generation, decode_generation(message));
  if (!out.generation) {
    TRY_PLAIN(NetlinkAttributes attributes, NetlinkAttributes::after(message, sizeof(nfgenmsg)));
    // The table's name is attribute 1 of every object: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, ...
    if (message.payload[0] == NFPROTO_INET) out.table = attributes.text(NFTA_TABLE_NAME).value_or(std::string());
  }
  return std::optional(std::move(out));
}

}  // namespace tornado::inline v1::nft
