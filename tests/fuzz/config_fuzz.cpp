// A configuration in text: what is taken shows as it was meant, what is refused changes nothing. Lines of KEY=VALUE.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "dns/upstreams.hpp"
#include "tornado/config.hpp"

using namespace tornado;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)Upstreams::parse(text);
  Config config;
  for (int lines = 0; lines < 16 && !text.empty(); ++lines) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    std::size_t equals = std::min(line.find('='), line.size());
    auto done = config.set(line.substr(0, equals), line.substr(std::min(line.size(), equals + 1)));
    if (!done && (done.error().code() != errc::invalid_config || done.error().detail().empty())) std::abort();
  }
  std::string shown = config.show();
  auto checked = config.check();
  if (!checked) {
    if (checked.error().code() != errc::invalid_config) std::abort();
    return 0;
  }
  // Whatever passes the check can be used.
  (void)config.listen_endpoint();
  (void)config.pool("vpn");
  (void)config.pool("tor");
  (void)config.database_path();
  (void)config.key_options();
  Config again;
  if (!again.set("", shown) || !again.diff(config).empty()) std::abort();
  return 0;
}
