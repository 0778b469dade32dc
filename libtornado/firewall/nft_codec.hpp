#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "firewall/ruleset.hpp"
#include "net/netlink_codec.hpp"

namespace tornado::inline v1 {

/// Messages of nfnetlink's nf_tables subsystem, family inet. Batches begin with BATCH_BEGIN and end with BATCH_END.
namespace nft {

/// The whole table: an old one goes and the new one comes in one transaction.
///
/// The kernel lets rules count a moment before the elements of their sets do, those of ranges last. So what these
/// refuse for want of an element is dropped, which costs a packet; a reset would cost the connection. With all elements
/// there, `refill_access_rules` puts the resets in.
std::vector<std::string> replace_table(const std::string& table, const Ruleset& ruleset);
/// The rules of the chains of one lane. Empty: the ruleset does not know the lane.
std::vector<std::string> refill_lane(const std::string& table, const Ruleset& ruleset, const Lane& lane);
/// The elements of some sets.
std::vector<std::string> refill_sets(const std::string& table, const std::vector<ElementSet>& sets);
/// The sets and chains of `GatewayPolicy::access`; as there, `refill_access_rules` belongs behind it.
std::vector<std::string> refill_access(const std::string& table, const Ruleset& ruleset);
std::vector<std::string> refill_access_rules(const std::string& table, const Ruleset& ruleset);
/// Elements of single devices: `gone` are there exactly so, `fresh` are not there once those have gone.
std::vector<std::string> change_devices(const std::string& table, const std::vector<DeviceAccess>& gone,
                                        const std::vector<DeviceAccess>& fresh);
/// Succeeds also if there is no such table.
std::vector<std::string> remove_table(const std::string& table);

std::string get_generation();
std::string get_table(const std::string& table);

/// The chains of all tables of all families.
std::string get_chains();
/// The rules of one chain, in their order.
std::string get_rules(const ForeignChain& chain);

/// A base chain in a table of family inet, ip or ip6.
class BaseChain {
 public:
  BaseChain() {}
  ForeignChain name;
  bool drops = false;  ///< its policy
};
/// Nothing: another message, a chain without a hook, or of another family. Errors: protocol_error.
Result<std::optional<BaseChain>> decode_base_chain(const NetlinkMessage& message);

/// Whether a rule drops or rejects every packet that comes to it. Nothing: another message. Errors: protocol_error.
Result<std::optional<bool>> decode_drops_all(const NetlinkMessage& message);

/// Number of the ruleset's generation: every transaction of anybody in this network namespace adds one.
/// Nothing: a message of another type. Errors: protocol_error.
Result<std::optional<std::uint32_t>> decode_generation(const NetlinkMessage& message);

/// Handle of a table, which a table of the same name that is made later does not share. Nothing: another message.
Result<std::optional<std::uint64_t>> decode_table(const NetlinkMessage& message, const std::string& table);

/// One notification.
class Event {
 public:
  Event() {}
  bool ours = false;  ///< a transaction of that port
  /// A transaction is complete; its changes came before. Otherwise: something in a table changed.
  std::optional<std::uint32_t> generation;
  std::string table;  ///< only if it is of family inet
};
/// Nothing: not about nf_tables. Errors: protocol_error.
Result<std::optional<Event>> decode_event(const NetlinkMessage& message, std::uint32_t port);

}  // namespace nft
}  // namespace tornado::inline v1
