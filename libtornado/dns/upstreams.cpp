#include "dns/upstreams.hpp"

#include "base/file.hpp"

namespace tornado::inline v1 {

Upstreams Upstreams::parse(std::string_view text) {
  Upstreams out;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    constexpr std::string_view keyword = "nameserver";
    if (!line.starts_with(keyword)) continue;
    line.remove_prefix(keyword.size());
    auto begin = line.find_first_not_of(" \t");
    if (begin == line.npos || begin == 0) continue;
    line.remove_prefix(begin);
    auto address = Address::parse(line.substr(0, line.find_first_of(" \t\r#%")));
    if (!address || address->is_loopback() || address->is_unspecified()) continue;
    auto& slot = address->is_v4() ? out.v4 : out.v6;
    if (!slot) slot = Endpoint(*address, 53);
  }
  return out;
}

Upstreams Upstreams::of_host() {
  for (const char* path : {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}) {
    auto text = read_file(path);
    if (!text) continue;
    Upstreams found = parse(*text);
    if (found.v4 || found.v6) return found;
  }
  return Upstreams();
}

}  // namespace tornado::inline v1
