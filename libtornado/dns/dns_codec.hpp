#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tornado/error.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// Response codes (RFC 1035 4.1.1, RFC 6891 9). An answer may carry any other value up to 15.
enum class DnsCode : std::uint8_t {
  no_error = 0,
  form_error = 1,
  server_failure = 2,
  name_error = 3,
  not_implemented = 4,
  refused = 5,
  bad_version = 16,  ///< of EDNS
};

/// A question somebody asked.
class DnsQuery {
 public:
  DnsQuery() {}
  std::uint16_t id = 0;
  std::uint8_t opcode = 0;
  bool recursion_desired = false;
  /// `no_error`: it can be answered. Otherwise why not, and all of the following but `edns` may be empty.
  DnsCode problem = DnsCode::no_error;
  /// Lower case, labels separated by dots, none at the end; empty is the root. Octets of a label other than letters,
  /// digits, '-' and '_' are written as \DDD (RFC 1035 5.1), so that different names never look the same.
  std::string name;
  std::uint16_t type = 0, klass = 0;
  bool edns = false;
  /// The question's bytes as they came: an answer repeats them, upper and lower case included.
  std::string question;
};

/// An answer somebody gave.
class DnsAnswer {
 public:
  DnsAnswer() {}
  std::uint16_t id = 0;
  DnsCode code = DnsCode::no_error;
  bool truncated = false;
  /// What was asked, in the form of DnsQuery::name.
  std::string name;
  /// A and AAAA records of class IN, in their order, whatever name they belong to (aliases are not followed).
  std::vector<Address> addresses;
};

/// The wire format of the DNS (RFC 1035, EDNS 0 of RFC 6891). Pure; no input makes it read beyond its bytes or loop.
namespace dns {

constexpr std::uint16_t type_a = 1, type_aaaa = 28, type_opt = 41, class_in = 1;
/// An answer has no more addresses than this: it is at most 8 times as long as the query, with one address 3 times.
constexpr std::size_t most_addresses = 4;

/// Reads a query. Errors: protocol_error for what must not be answered at all: a response, or less than a header.
/// Everything else wrong with it stands in `problem`.
Result<DnsQuery> parse_query(std::string_view bytes);

/// The answer with those of the addresses that the type asks for, for `ttl` seconds; without any it says that the name
/// exists and has no such record. Of an address of the wrong family nothing is said.
std::string answer(const DnsQuery& query, const std::vector<Address>& addresses, std::uint32_t ttl);
/// The answer without records.
std::string refuse(const DnsQuery& query, DnsCode code);

/// A recursive query, 19 to 271 bytes. Empty if `name` is no name: labels of 1 to 63 octets, at most 253 in all; a dot
/// at the end is allowed, \DDD is not understood.
std::string query(std::uint16_t id, std::string_view name, std::uint16_t type = type_a);
/// Errors: protocol_error (a query, cut off, more than one question, a length or pointer that leads nowhere). Compare
/// `id` and `name` with what was asked.
Result<DnsAnswer> parse_answer(std::string_view bytes);

}  // namespace dns

}  // namespace tornado::inline v1
