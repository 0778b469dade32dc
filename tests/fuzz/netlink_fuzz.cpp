#include <cstddef>
#include <cstdint>
#include <string_view>

#include "firewall/nft_codec.hpp"
#include "host/rtnl_codec.hpp"
#include "wireguard/genl_codec.hpp"

/// What the kernel sends, or somebody who can pretend to be it: every decoder sees every message.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tornado;
  auto messages = split_netlink(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!messages) return 0;
  for (const NetlinkMessage& message : *messages) {
    (void)decode_ack(message);
    (void)rtnl::decode_link(message);
    (void)rtnl::decode_address(message);
    (void)rtnl::decode_route(message);
    (void)rtnl::decode_rule(message);
    (void)nft::decode_generation(message);
    (void)nft::decode_table(message, "tornado");
    (void)nft::decode_event(message, 1);
    (void)nft::decode_base_chain(message);
    (void)nft::decode_drops_all(message);
    (void)genl::decode_family(message);
    genl::DeviceReader device(message.type);
    (void)device.take(message);
  }
  return 0;
}
