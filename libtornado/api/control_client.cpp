#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "api/rpc_codec.hpp"
#include "base/json.hpp"
#include "base/try.hpp"
#include "tornado/control.hpp"

namespace json = boost::json;

namespace tornado::inline v1 {

struct ControlClient::Impl {
  explicit Impl(std::string path_, int timeout_) : path(std::move(path_)), timeout(timeout_) {}
  ~Impl() { close(); }

  void close() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }

  Result<void> connect() {
    if (fd >= 0) return {};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
      return Error(errc::invalid_argument, "the socket path is too long: " + path);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      int cause = errno;
      close();
      errc code = cause == EACCES ? errc::permission_denied : errc::unavailable;
      return Error(code, "no daemon answers at " + path + " (" + std::strerror(cause) + "); is tornadod running?");
    }
    return {};
  }

  Result<void> write(std::string_view text) {
    while (!text.empty()) {
      ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return lost("the daemon closed the connection");
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return {};
  }

  Error lost(std::string_view why) {
    close();
    return Error(errc::unavailable, std::string(why));
  }

  Result<std::string> read_line(int seconds) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    for (;;) {
      if (auto line = lines.next()) return std::move(*line);
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0)
        return Error(errc::deadline_exceeded, "no answer within " + std::to_string(seconds) + " s");
      pollfd waiting{fd, POLLIN, 0};
      int ready = ::poll(&waiting, 1, static_cast<int>(left.count()) + 1);
      if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
      char block[65536];
      ssize_t got = ::recv(fd, block, sizeof block, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return lost("the daemon closed the connection");
      TRY_VOID_PLAIN(lines.feed(std::string_view(block, static_cast<std::size_t>(got))));
    }
  }

  std::string path;
  int timeout;
  int fd = -1;
  std::uint64_t next_id = 1;
  LineCutter lines{64 << 20};
};

ControlClient::ControlClient(std::string path, int timeout_seconds)
    : impl_(std::make_unique<Impl>(std::move(path), timeout_seconds)) {}
ControlClient::~ControlClient() = default;
ControlClient::ControlClient(ControlClient&&) noexcept = default;

Result<std::string> ControlClient::call(std::string_view method, std::string_view params_json) {
  TRY_PLAIN(auto params, parse_json(params_json));
  TRY_VOID_PLAIN(impl_->connect());
  TRY_VOID_PLAIN(impl_->write(rpc_request(impl_->next_id++, method, params)));
  auto line = impl_->read_line(impl_->timeout);
  if (!line) {
    // A late answer would be taken for that of the next call.
    impl_->close();
    return line.error();
  }
  TRY_PLAIN(auto result, parse_rpc_answer(*line));
  return to_json(result);
}

Result<void> ControlClient::subscribe(std::uint64_t after) {
  json::object params;
  params["after"] = after;
  TRY_PLAIN(auto started, call("events.subscribe", to_json(params)));
  (void)started;
  return {};
}

Result<Event> ControlClient::next_event(int timeout_seconds) {
  for (;;) {
    TRY_PLAIN(auto line, impl_->read_line(timeout_seconds));
    auto parsed = parse_json(line);
    if (!parsed || !parsed->is_object() || text_at(parsed->get_object(), "method") != "event") continue;
    const auto& params = parsed->get_object().at("params").as_object();
    Event event;
    event.sequence = static_cast<std::uint64_t>(integer_at(params, "sequence").value_or(0));
    event.name = text_at(params, "name").value_or("");
    if (auto time = parse_iso8601(text_at(params, "time").value_or(""))) event.time = *time;
    if (const auto* fields = params.if_contains("fields")) event.json = to_json(*fields);
    return event;
  }
}

}  // namespace tornado::inline v1
