#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "dns/dns_codec.hpp"

/// What a device of a lane sends to the responder, and what somebody sends as an answer to a probe. What we answer must
/// be readable, and small.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tornado;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)dns::parse_answer(bytes);
  auto query = dns::parse_query(bytes);
  if (!query) return 0;
  static const std::vector<Address> addresses{Address::from_v4(0x0a090001), Address::from_v6({0xfd, 1})};
  std::string refused = dns::refuse(*query, query->problem), answered = dns::answer(*query, addresses, 1);
  for (const std::string& out : {refused, answered}) {
    auto read = dns::parse_answer(out);
    bool right = read && read->id == query->id && read->name == query->name && read->addresses.size() <= 1;
    if (!right || out.size() > size + 28) std::abort();
  }
  return 0;
}
