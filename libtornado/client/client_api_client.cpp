#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <stdexcept>

#include "auth/sealed_login.hpp"
#include "base/descriptor.hpp"
#include "base/encoding.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "client/response_codec.hpp"
#include "tornado/client.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {
namespace {

using Deadline = std::chrono::steady_clock::time_point;
constexpr std::size_t most_answer = 1 << 20;

Result<void> wait_for(int fd, short what, Deadline deadline) {
  for (;;) {
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return Error(errc::deadline_exceeded, "no answer in time");
    pollfd waiting{fd, what, 0};
    int ready = ::poll(&waiting, 1, static_cast<int>(left) + 1);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return Error(errc::unavailable, std::strerror(errno));
  }
}

Result<Descriptor> connect_one(const addrinfo& target, Deadline deadline) {
  Descriptor fd(::socket(target.ai_family, target.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, target.ai_protocol));
  if (fd.get() < 0) return Error(errc::unavailable, std::strerror(errno));
  int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd.get(), target.ai_addr, target.ai_addrlen) == 0) return fd;
  if (errno != EINPROGRESS) return Error(errc::unavailable, std::strerror(errno));
  TRY_VOID_PLAIN(wait_for(fd.get(), POLLOUT, deadline));
  int cause = 0;
  socklen_t size = sizeof cause;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &cause, &size);
  if (cause != 0) return Error(errc::unavailable, std::strerror(cause));
  return fd;
}

Result<Descriptor> connect_to(const std::string& host, const std::string& port, Deadline deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int failed = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); failed != 0)
    return Error(errc::unavailable, host + ": " + ::gai_strerror(failed));
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> targets(found, &::freeaddrinfo);
  Error last(errc::unavailable, "no address");
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    auto fd = connect_one(*target, deadline);
    if (fd) return fd;
    last = fd.error();
  }
  return Error(last.code(), "no gateway answers at " + host + ":" + port + " (" + last.detail() + ")");
}

Result<void> send_all(int fd, std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return Error(errc::unavailable, std::string("the connection broke: ") + std::strerror(errno));
    TRY_VOID_PLAIN(wait_for(fd, POLLOUT, deadline));
  }
  return {};
}

Result<void> receive_answer(int fd, HttpResponseParser& parser, Deadline deadline) {
  char block[16384];
  while (!parser.done()) {
    ssize_t got = ::recv(fd, block, sizeof block, 0);
    if (got > 0) TRY_VOID_PLAIN(parser.feed(std::string_view(block, static_cast<std::size_t>(got))));
    if (got == 0) return parser.end();
    if (got >= 0 || errno == EINTR) continue;
    if (errno != EAGAIN) return Error(errc::unavailable, std::string("the connection broke: ") + std::strerror(errno));
    TRY_VOID_PLAIN(wait_for(fd, POLLIN, deadline));
  }
  return {};
}

class Refusal {
 public:
  std::string_view detail;
  errc code;
};

/// Contract 1.4, read backwards. A detail that is the name of a code is not listed.
constexpr Refusal refusals[] = {
    {"invalid_encrypted_payload", errc::invalid_envelope},
    {"max_devices_exceeded", errc::device_limit},
    {"ip_banned", errc::throttled},
    {"refresh_token_expired", errc::token_expired},
    {"invalid_refresh_token", errc::token_invalid},
    {"missing_refresh_token", errc::missing_fields},
    {"token_revoked_reuse_detected", errc::token_reused},
    {"user_invalid", errc::revoked},
    {"internal_error", errc::internal},
    {"Not authenticated", errc::token_missing},
    {"VPN Manager Error: ipam_failed", errc::pool_exhausted},
    {"VPN Manager Error: wg_update_failed", errc::backend_failed},
    {"VPN Manager Error: connection_timeout", errc::deadline_exceeded},
    {"VPN Manager Error: invalid_public_key", errc::key_invalid},
    {"VPN Manager Error: public_key_in_use", errc::key_in_use},
    {"VPN Manager Error: superseded", errc::superseded},
    {"VPN Manager Error: missing_fields", errc::missing_fields},
    {"Authentication failed: token_expired", errc::token_expired},
    {"Authentication failed: wrong_token_type", errc::token_type},
    {"Authentication failed: missing_token", errc::token_missing},
    {"Authentication failed: token_revoked", errc::revoked},
};

errc code_of(int status, std::string_view detail) {
  for (const Refusal& refusal : refusals)
    if (refusal.detail == detail) return refusal.code;
  if (auto code = errc_from_name(detail)) return *code;
  switch (status) {
    case 400:
    case 422:
      return errc::invalid_argument;
    case 401:
      return errc::token_invalid;
    case 403:
      return errc::permission_denied;
    case 404:
      return errc::not_found;
    case 409:
      return errc::conflict;
    case 413:
      return errc::too_large;
    case 429:
      return errc::throttled;
    case 502:
    case 503:
      return errc::unavailable;
    case 504:
      return errc::deadline_exceeded;
    default:
      return errc::internal;
  }
}

Error refusal_of(int status, const std::string& body) {
  std::string detail = body.substr(0, 200);
  auto parsed = parse_json(body);
  if (parsed && parsed->is_object()) {
    const auto* told = parsed->get_object().if_contains("detail");
    // Validation errors are a list (contract 1.1).
    if (told != nullptr) detail = told->is_string() ? std::string(told->get_string()) : to_json(*told);
  }
  return Error(code_of(status, detail), detail);
}

Error malformed(std::string_view what) {
  return Error(errc::protocol_error, "the answer has no good " + std::string(what));
}

Result<const json::object*> object_in(const json::object& object, std::string_view key) {
  const auto* found = object.if_contains(key);
  if (found == nullptr || !found->is_object()) return malformed(key);
  return &found->get_object();
}

Result<DeviceLane> read_lane(std::string_view name, const json::object& fields) {
  DeviceLane out;
  out.lane = Lane(std::string(name));
  TRY_PLAIN(out.address, Address::parse(text_at(fields, "ip").value_or("")));
  if (auto text = text_at(fields, "ip6")) {
    TRY_PLAIN(auto address6, Address::parse(*text));
    out.address6 = address6;
  }
  out.endpoint = text_at(fields, "endpoint").value_or("");
  TRY_PLAIN(out.server_key, PublicKey::parse(text_at(fields, "server_pubkey").value_or("")));
  return out;
}

bool digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

struct DeviceClient::Impl {
  Impl(std::string_view url, int timeout_seconds) : timeout(timeout_seconds) {
    constexpr std::string_view scheme = "http://";
    if (url.starts_with(scheme)) url.remove_prefix(scheme.size());
    if (url.ends_with('/')) url.remove_suffix(1);
    auto colon = url.rfind(':');
    bool bracketed = url.starts_with('[');
    if (colon != url.npos && (!bracketed || url[colon - 1] == ']')) {
      port = std::string(url.substr(colon + 1));
      url = url.substr(0, colon);
    }
    host_header = std::string(url) + ":" + port;
    if (bracketed && url.ends_with(']')) url = url.substr(1, url.size() - 2);
    host = std::string(url);
    if (host.empty() || host.find_first_of("/@ \r\n") != host.npos || !digits(port) || port.size() > 5)
      throw std::invalid_argument("DeviceClient: host, host:port or http://host:port is expected");
    if (timeout_seconds < 1 || timeout_seconds > 3600)
      throw std::invalid_argument("DeviceClient: the timeout is 1 to 3600 seconds");
  }

  /// The body of a 200 answer.
  Result<std::string> exchange(std::string_view method, std::string_view path, std::string_view token,
                               std::string_view body) {
    status = 0;
    Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout);
    TRY_PLAIN(auto fd, connect_to(host, port, deadline));
    TRY_VOID_PLAIN(send_all(fd.get(), http_request(method, path, host_header, token, body), deadline));
    HttpResponseParser parser(most_answer);
    TRY_VOID_PLAIN(receive_answer(fd.get(), parser, deadline));
    status = parser.status();
    if (status != 200) return refusal_of(status, parser.body());
    return parser.body();
  }

  Result<json::object> ask(std::string_view method, std::string_view path, std::string_view token = {},
                           std::string_view body = {}) {
    TRY_PLAIN(auto text, exchange(method, path, token, body));
    auto parsed = parse_json(text);
    if (!parsed || !parsed->is_object()) return malformed("JSON object");
    return std::move(parsed->get_object());
  }

  Result<std::string_view> bearer() {
    status = 0;
    if (access.empty()) return Error(errc::token_missing, "not signed in");
    return access.reveal();
  }

  Result<void> take_tokens(const json::object& answer) {
    TRY_PLAIN(const json::object* tokens, object_in(answer, "tokens"));
    auto new_access = text_at(*tokens, "access_token");
    auto new_refresh = text_at(*tokens, "refresh_token");
    if (!new_access || !new_refresh) return malformed("tokens");
    access = Secret(std::move(*new_access));
    refresh = Secret(std::move(*new_refresh));
    return {};
  }

  std::string refresh_body() const {
    json::object out;
    out["refresh_token"] = refresh.reveal();
    return to_json(out);
  }

  std::string host, port = "4605", host_header;
  int timeout;
  int status = 0;
  Secret access, refresh;
};

DeviceClient::DeviceClient(std::string_view base_url, int timeout_seconds)
    : impl_(std::make_unique<Impl>(base_url, timeout_seconds)) {}
DeviceClient::~DeviceClient() = default;
DeviceClient::DeviceClient(DeviceClient&&) noexcept = default;

Result<PublicKey> DeviceClient::pubkey() {
  TRY_PLAIN(auto answer, impl_->ask("GET", "/auth/pubkey"));
  return PublicKey::parse(text_at(answer, "pubkey").value_or(""));
}

Result<DeviceLogin> DeviceClient::login(std::string_view username_or_email, const Secret& password) {
  TRY_PLAIN(auto key, pubkey());
  auto envelope = seal_login(key, username_or_email, password);
  if (!envelope) return Error(errc::protocol_error, "the gateway's login key: " + envelope.error().detail());
  const Sealed& sealed = *envelope;
  json::object body;
  body["ephemeral_pubkey"] = sealed.ephemeral_pubkey;
  body["iv"] = sealed.iv;
  body["ciphertext"] = sealed.ciphertext;
  TRY_PLAIN(auto answer, impl_->ask("POST", "/auth/login", {}, to_json(body)));
  TRY_VOID_PLAIN(impl_->take_tokens(answer));
  TRY_PLAIN(const json::object* user, object_in(answer, "user"));
  DeviceLogin out;
  out.user = UserId(text_at(*user, "id").value_or(""));
  out.username = text_at(*user, "username").value_or("");
  out.email = text_at(*user, "email").value_or("");
  out.device = DeviceId(text_at(answer, "device_id").value_or(""));
  if (out.device.empty()) return malformed("device_id");
  out.access_token = impl_->access;
  out.refresh_token = impl_->refresh;
  return out;
}

Result<void> DeviceClient::reauth() {
  impl_->status = 0;
  if (impl_->refresh.empty()) return Error(errc::token_missing, "not signed in");
  TRY_PLAIN(auto answer, impl_->ask("POST", "/auth/reauth", {}, impl_->refresh_body()));
  return impl_->take_tokens(answer);
}

Result<void> DeviceClient::logout() {
  impl_->status = 0;
  if (impl_->refresh.empty()) return Error(errc::token_missing, "not signed in");
  TRY_PLAIN(auto answer, impl_->ask("POST", "/auth/logout", {}, impl_->refresh_body()));
  impl_->access = Secret();
  impl_->refresh = Secret();
  return {};
}

Result<DeviceTunnel> DeviceClient::initiate(const PublicKey& key, bool preshared_key) {
  TRY_PLAIN(auto token, impl_->bearer());
  json::object body;
  body["public_key"] = key.str();
  if (preshared_key) body["preshared_key"] = true;
  TRY_PLAIN(auto answer, impl_->ask("POST", "/vpn/initiate", token, to_json(body)));
  DeviceTunnel out;
  for (const auto& [name, value] : answer) {
    if (!value.is_object() || name == "session") continue;
    TRY_PLAIN(auto lane, read_lane(name, value.get_object()));
    out.lanes.push_back(std::move(lane));
  }
  if (out.lanes.empty()) return malformed("lane");
  TRY_PLAIN(const json::object* session, object_in(answer, "session"));
  if (auto text = text_at(*session, "preshared_key")) {
    auto raw = from_base64(*text);
    if (!raw || raw->size() != PublicKey::size) return malformed("preshared_key");
    out.preshared_key = Secret(std::move(*raw));
  }
  out.heartbeat_ttl = Seconds(integer_at(*session, "heartbeat_ttl").value_or(90));
  out.hard_ttl = Seconds(integer_at(*session, "hard_ttl").value_or(1296000));
  return out;
}

Result<bool> DeviceClient::heartbeat() {
  TRY_PLAIN(auto token, impl_->bearer());
  TRY_PLAIN(auto answer, impl_->ask("POST", "/session/heartbeat", token));
  return text_at(answer, "status") == "reconnected";
}

Result<void> DeviceClient::disconnect() {
  TRY_PLAIN(auto token, impl_->bearer());
  TRY_PLAIN(auto answer, impl_->ask("POST", "/session/disconnect", token));
  return {};
}

Result<UserId> DeviceClient::verify() {
  TRY_PLAIN(auto token, impl_->bearer());
  TRY_PLAIN(auto text, impl_->exchange("POST", "/vpn/verify/id", token, {}));
  auto parsed = parse_json(text);
  if (!parsed || !parsed->is_string()) return malformed("user id");
  return UserId(std::string(parsed->get_string()));
}

Result<void> DeviceClient::health() {
  TRY_PLAIN(auto answer, impl_->ask("GET", "/health"));
  return {};
}

bool DeviceClient::signed_in() const noexcept {
  return !impl_->refresh.empty();
}
int DeviceClient::last_status() const noexcept {
  return impl_->status;
}
std::string_view DeviceClient::refresh_token() const noexcept {
  return impl_->refresh.reveal();
}

void DeviceClient::resume(Secret access_token, Secret refresh_token) {
  impl_->access = std::move(access_token);
  impl_->refresh = std::move(refresh_token);
}

}  // namespace tornado::inline v1
