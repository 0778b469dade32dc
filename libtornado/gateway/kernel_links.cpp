// The links of the kernel's own WireGuard: made, found again under another name, taken back.
#include "base/json.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"
#include "gateway/host_wish.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {

/// Made at the start, and again if somebody has removed it; its peers follow. One that somebody has renamed is still
/// ours and holds the port: its key tells, and it gets its name back.
Task<void> Gateway::Impl::ensure_kernel_link(const LaneConfig& lane, const Lane& name) {
  TRY(auto names, co_await parts.wireguard->list());
  TRY(auto links, co_await parts.host->links());
  const bool there = std::find(names.begin(), names.end(), lane.interface) != names.end();
  const Link* link = link_named(links, lane.interface);
  // Others are read for it: only when there is a reason.
  if (started && there && link != nullptr && link->up && link_failures[name].empty()) co_return Result<void>();
  const PublicKey key = lane_keys[name];
  TRY(auto other, co_await find_by_key(std::move(names), key));
  if (other) co_return co_await take_back_link(lane, std::move(*other), there);
  if (there) co_return Result<void>();
  if (started)
    runtime.log().write(LogLevel::error, "interface_lost",
                        {{"interface", lane.interface}, {"reason", "the link is gone; it is made again"}});
  co_return co_await parts.host->ensure_link(lane.interface, "wireguard");
}

/// One that is no lane's by its name and has the key.
Task<std::optional<std::string>> Gateway::Impl::find_by_key(std::vector<std::string> names, PublicKey key) {
  for (const auto& name : names) {
    const bool own =
        std::any_of(lanes.begin(), lanes.end(), [&](const auto& lane) { return lane.second->interface == name; });
    if (own) continue;
    auto interface = co_await parts.wireguard->identity(name);
    // It may have gone meanwhile.
    if (!interface && interface.error().code() == errc::interface_missing) continue;
    if (!interface) co_return interface.error();
    if (interface->public_key == key) co_return std::optional<std::string>(name);
  }
  co_return std::optional<std::string>();
}

/// Where another link has its name by now, that one takes its place, and ours makes room with the port.
Task<void> Gateway::Impl::take_back_link(const LaneConfig& lane, std::string name, bool replaced) {
  Result<void> done;
  if (replaced)
    done = co_await parts.host->remove_link(name);
  else
    done = co_await parts.host->rename_link(name, lane.interface);
  json::object fields;
  fields["interface"] = lane.interface;
  fields["found_as"] = name;
  fields["outcome"] = !done ? "failed" : replaced ? "removed" : "renamed";
  events.publish("interface_renamed", to_json(fields));
  runtime.log().write(LogLevel::error, "interface_renamed",
                      {{"interface", lane.interface},
                       {"found_as", name},
                       {"outcome", !done      ? done.error().detail()
                                   : replaced ? "removed"
                                              : "renamed"}});
  co_return done;
}

}  // namespace tornado::inline v1
