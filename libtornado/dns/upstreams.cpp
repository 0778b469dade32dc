#include "dns/upstreams.hpp"

#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <memory>

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

Result<std::vector<Address>> resolve_host(const std::string& name) {
  if (auto literal = Address::parse(name)) return std::vector<Address>(1, *literal);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  int rc = ::getaddrinfo(name.c_str(), nullptr, &hints, &raw);
  if (rc != 0) return Error(errc::not_found, name + ": " + ::gai_strerror(rc));
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(raw, ::freeaddrinfo);
  std::vector<Address> out;
  for (const addrinfo* entry = raw; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET) {
      out.push_back(Address::from_v4(ntohl(reinterpret_cast<sockaddr_in*>(entry->ai_addr)->sin_addr.s_addr)));
    } else if (entry->ai_family == AF_INET6) {
      std::array<std::uint8_t, 16> raw6{};
      std::memcpy(raw6.data(), &reinterpret_cast<sockaddr_in6*>(entry->ai_addr)->sin6_addr, raw6.size());
      out.push_back(Address::from_v6(raw6));
    }
  }
  return out;
}

}  // namespace tornado::inline v1
