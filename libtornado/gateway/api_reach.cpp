// The addresses at which clients reach the API, which are never sent into Tor (I-22): those of the host, of the lanes,
// of the configuration, and of endpoint.host.
#include "base/file.hpp"
#include "base/try.hpp"
#include "gateway/gateway_impl.hpp"

namespace tornado::inline v1 {
namespace {

/// Of a start that knows no address of the name. One that is found later is put in then.
constexpr Seconds resolver_patience{2};
/// Nobody waits for it: a lookup goes on for as long as the resolver's own timeouts are.
constexpr Seconds longest_lookup{3600};
constexpr std::chrono::milliseconds between_changes{200}, between_lookups{1000};
constexpr std::chrono::milliseconds first_retry{1000}, longest_retry{30000};

/// The name in the first line, then its addresses. Empty: not of this name, or not there.
std::vector<Address> read_known(const std::string& path, const std::string& name) {
  std::vector<Address> out;
  auto text = read_file(path, 65536);
  if (!text || !text->starts_with(name + "\n")) return out;
  for (std::size_t at = name.size() + 1; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    if (auto address = Address::parse(text->substr(at, end - at))) out.push_back(*address);
    at = end + 1;
  }
  return out;
}

std::string written(const std::string& name, const std::vector<Address>& addresses) {
  std::string out = name + "\n";
  for (const auto& address : addresses) out += address.str() + "\n";
  return out;
}

}  // namespace

bool Gateway::Impl::endpoint_is_name() const {
  return !config.endpoint.host.empty() && !Address::parse(config.endpoint.host);
}

std::string Gateway::Impl::endpoint_file() const {
  return config.state_dir + "/endpoint.known";
}

/// A restart knows what the name meant before, and does not wait for the resolver.
Task<void> Gateway::Impl::begin_endpoint_lookup() {
  if (auto literal = Address::parse(config.endpoint.host)) endpoint_known = {*literal};
  if (!endpoint_is_name()) co_return Result<void>();
  // Should there be no thread, the next lookup says so.
  (void)endpoint_name.begin();
  auto read = [this]() -> Result<std::vector<Address>> { return read_known(endpoint_file(), endpoint_name.name()); };
  TRY(endpoint_known, co_await runtime.offload(Blocking::file, read));
  endpoint_recorded = endpoint_known;
  co_return Result<void>();
}

/// Once, until it resolves or there is another reason.
void Gateway::Impl::tell_unresolved(const Error& error) {
  if (error.code() == errc::cancelled || endpoint_told == error.detail()) return;
  endpoint_told = error.detail();
  runtime.log().write(LogLevel::warning, "endpoint_unresolved", {{"detail", endpoint_told}});
}

Task<void> Gateway::Impl::await_endpoint() {
  const bool enough = !endpoint_known.empty() && !endpoint_name.answered();
  if (!endpoint_is_name() || enough) co_return Result<void>();
  auto task = look_up_endpoint(resolver_patience);
  co_await std::move(task);
  co_return Result<void>();
}

/// What a resolver that does not answer said before still holds: it knows nothing else.
boost::asio::awaitable<void> Gateway::Impl::look_up_endpoint(Seconds patience) {
  auto found = co_await endpoint_name.addresses(patience);
  if (!found) co_return tell_unresolved(found.error());
  endpoint_told.clear();
  // Resolvers give them in turns.
  std::sort(found->begin(), found->end());
  if (*found == endpoint_known) co_return;
  endpoint_known = std::move(*found);
  api_wanted.notify();
}

Task<void> Gateway::Impl::record_endpoint() {
  const auto addresses = endpoint_known;
  if (addresses == endpoint_recorded) co_return Result<void>();
  const std::string text = written(endpoint_name.name(), addresses);
  auto write = [&]() -> Result<void> { return replace_file(endpoint_file(), text, 0600); };
  TRY_VOID(co_await runtime.offload(Blocking::file, write));
  endpoint_recorded = addresses;
  co_return Result<void>();
}

Task<std::vector<Endpoint>> Gateway::Impl::api_endpoints() {
  const std::uint16_t port = config.listen_endpoint().port;
  std::vector<Endpoint> out;
  auto add = [&](Endpoint endpoint) {
    if (std::find(out.begin(), out.end(), endpoint) == out.end()) out.push_back(endpoint);
  };
  for (const auto& lane : lane_names) {
    Pool pool = config.pool(lane.str());
    add(Endpoint(pool.gateway(), port));
    if (pool.gateway6()) add(Endpoint(*pool.gateway6(), port));
  }
  TRY(auto addresses, co_await parts.host->addresses());
  for (const auto& local : addresses)
    if (!local.address.is_loopback()) add(Endpoint(local.address, port));
  for (const auto& entry : config.client_api.publics) {
    if (auto endpoint = Endpoint::parse(entry))
      add(*endpoint);
    else if (auto address = Address::parse(entry))
      add(Endpoint(*address, port));
  }
  for (const auto& address : endpoint_known) add(Endpoint(address, port));
  std::sort(out.begin(), out.end());
  co_return out;
}

/// Puts the addresses of the API into the ruleset as they are now.
Task<void> Gateway::Impl::catch_up_api() {
  TRY(auto endpoints, co_await api_endpoints());
  if (endpoints == api && !api_in_doubt) co_return Result<void>();
  TRY_VOID(co_await parts.firewall->api(endpoints));
  api = std::move(endpoints);
  api_in_doubt = false;
  co_return Result<void>();
}

/// What fails is told once, and tried again with backoff.
Task<void> Gateway::Impl::run_api_watch() {
  std::string told_last;
  std::chrono::milliseconds backoff = first_retry;
  for (std::uint64_t seen = 0;;) {
    bool told = co_await api_wanted.wait(seen);
    if (!told) co_return Error(errc::cancelled);
    seen = api_wanted.revision();
    auto caught_up = co_await catch_up_api();
    std::chrono::milliseconds rest = between_changes;
    if (caught_up) {
      told_last.clear();
      backoff = first_retry;
    } else {
      const std::string detail = caught_up.error().detail();
      const bool stopping_now = caught_up.error().code() == errc::cancelled;
      if (!stopping_now && told_last != detail)
        runtime.log().write(LogLevel::warning, "api_addresses_not_set", {{"detail", detail}});
      told_last = detail;
      api_wanted.notify();
      rest = std::exchange(backoff, std::min(backoff * 2, longest_retry));
    }
    bool slept = co_await runtime.sleep_until(runtime.now() + rest);
    if (!slept) co_return Error(errc::cancelled);
  }
}

/// Looks endpoint.host up again now and then, and when the host's addresses change, beside everything else.
Task<void> Gateway::Impl::run_endpoint_watch() {
  bool unrecorded = false;
  for (std::uint64_t seen = 0;;) {
    bool told = co_await lookup_wanted.wait(seen);
    if (!told) co_return Error(errc::cancelled);
    seen = lookup_wanted.revision();
    auto task = look_up_endpoint(longest_lookup);
    co_await std::move(task);
    auto recorded = co_await record_endpoint();
    const bool failed = !recorded && recorded.error().code() != errc::cancelled;
    if (failed && !unrecorded)
      runtime.log().write(LogLevel::warning, "endpoint_not_recorded", {{"detail", recorded.error().detail()}});
    unrecorded = failed;
    bool slept = co_await runtime.sleep_until(runtime.now() + between_lookups);
    if (!slept) co_return Error(errc::cancelled);
  }
}

}  // namespace tornado::inline v1
