#pragma once

#include <string>
#include <vector>

#include "firewall/ruleset.hpp"

struct nftnl_set;
struct nftnl_set_elem;

namespace tornado::inline v1::nft {

/// An element as the kernel takes it.
struct SetElement {
  std::string key;
  std::string key_end;     ///< of ranges: the last key
  std::string data;        ///< of maps
  std::uint64_t rate = 0;  ///< bytes a second, of sets of limits
};

/// Types, lengths and flags of a set, with what nft(8) needs to list it.
void describe_set(nftnl_set& out, SetType type);
std::vector<SetElement> elements_of(const ElementSet& set);
/// `whole`: with its data and limit; otherwise its key only. The set it is added to frees it.
nftnl_set_elem* to_nftnl(const SetElement& element, bool whole);

}  // namespace tornado::inline v1::nft
