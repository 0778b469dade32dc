#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// The resolvers a host uses, without loopback ones: a lane cannot reach those (I-23).
class Upstreams {
 public:
  std::optional<Endpoint> v4, v6;
  /// From the text of a resolv.conf(5): the first usable server of each family.
  static Upstreams parse(std::string_view resolv_conf);
  /// /etc/resolv.conf, or the real servers behind systemd-resolved where that names only the local stub. Blocking.
  static Upstreams of_host();
};

}  // namespace tornado::inline v1
