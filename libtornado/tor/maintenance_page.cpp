#include "tor/maintenance_page.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "http/http_server.hpp"

namespace tornado::inline v1 {
namespace {

constexpr int backlog = 1024;

HttpLimits limits() {
  HttpLimits out;
  out.connections_per_address = 64;
  out.answer = Seconds(10);
  return out;
}

void append_escaped(std::string& out, std::string_view text) {
  for (char c : text) {
    switch (c) {
      case '&':
        out.append("&amp;");
        break;
      case '<':
        out.append("&lt;");
        break;
      case '>':
        out.append("&gt;");
        break;
      case '"':
        out.append("&quot;");
        break;
      case '\'':
        out.append("&#39;");
        break;
      default:
        out.push_back(c);
    }
  }
}

constexpr std::string_view head = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>)";
constexpr std::string_view style = R"(</title>
<style>
body { margin: 0; padding: 12vh 1.5rem 2rem; font: 1.05rem/1.55 system-ui, sans-serif; color: #1d1f24; background: #f6f6f4; }
main { max-width: 34rem; margin: 0 auto; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }
small { color: #5d616b; }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e6; background: #17181b; }
  small { color: #a0a4ad; }
}
</style>
</head>
<body>
<main>
<h1>)";
constexpr std::string_view foot = R"(</p>
<p>Nothing is sent another way meanwhile: this lane uses the Tor network or nothing.</p>
<p><small>This page comes from your VPN gateway, not from the site you asked for. Load it again in half a minute.</small></p>
</main>
</body>
</html>
)";

class Page final : public HttpHandler {
 public:
  Page() : response_(503, "") {
    response_.content_type = "text/html; charset=utf-8";
    response_.headers = {{"Retry-After", "30"}, {"Cache-Control", "no-store"}};
  }

  void say(std::string_view headline, std::string_view detail) {
    std::string& body = response_.body;
    body = head;
    append_escaped(body, headline);
    body += style;
    append_escaped(body, headline);
    body += "</h1>\n<p>";
    append_escaped(body, detail);
    body += foot;
  }

  std::optional<HttpResponse> answer_now(HttpRequest&) override {
    ++requests_;
    return response_;
  }
  boost::asio::awaitable<HttpResponse> answer(HttpRequest) override { co_return response_; }
  std::uint64_t requests() const noexcept { return requests_; }

 private:
  HttpResponse response_;
  std::uint64_t requests_ = 0;
};

/// A listening socket on an address that need not exist yet; -1 with errno.
int open_listener(const Endpoint& endpoint) {
  const bool v4 = endpoint.address.is_v4();
  sockaddr_storage local{};
  socklen_t size = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  std::string_view bytes = endpoint.address.bytes();
  if (v4) {
    auto& to = reinterpret_cast<sockaddr_in&>(local);
    to.sin_family = AF_INET;
    to.sin_port = htons(endpoint.port);
    std::memcpy(&to.sin_addr, bytes.data(), bytes.size());
  } else {
    auto& to = reinterpret_cast<sockaddr_in6&>(local);
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(endpoint.port);
    std::memcpy(&to.sin6_addr, bytes.data(), bytes.size());
  }
  int fd = ::socket(local.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  bool good = ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
  if (v4) good = good && ::setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on) == 0;
  if (!v4) good = good && ::setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on) == 0;
  if (!v4) good = good && ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
  good = good && ::bind(fd, reinterpret_cast<sockaddr*>(&local), size) == 0 && ::listen(fd, backlog) == 0;
  if (good) return fd;
  int cause = errno;
  ::close(fd);
  errno = cause;
  return -1;
}

}  // namespace

struct MaintenancePage::Impl {
  explicit Impl(Runtime& runtime) : server(runtime, page, limits()) {
    page.say("The Tor network cannot be reached right now",
             "Your device is connected to the gateway, and the gateway has no connection to the Tor network.");
  }
  Page page;
  HttpServer server;
};

MaintenancePage::MaintenancePage(Runtime& runtime) : impl_(std::make_unique<Impl>(runtime)) {}

MaintenancePage::~MaintenancePage() = default;

Result<void> MaintenancePage::listen(const Endpoint& endpoint) {
  int fd = open_listener(endpoint);
  if (fd < 0)
    return Error(errc::backend_failed, "cannot listen on " + endpoint.str() + " (TCP): " + std::strerror(errno));
  auto adopted = impl_->server.adopt(fd);
  if (!adopted) ::close(fd);
  return adopted;
}

std::vector<Endpoint> MaintenancePage::endpoints() const {
  return impl_->server.endpoints();
}

void MaintenancePage::say(std::string_view headline, std::string_view detail) {
  impl_->page.say(headline, detail);
}

boost::asio::awaitable<void> MaintenancePage::drain(Seconds within) {
  return impl_->server.drain(within);
}

std::size_t MaintenancePage::connections() const noexcept {
  return impl_->server.connections();
}

std::uint64_t MaintenancePage::requests() const noexcept {
  return impl_->page.requests();
}

}  // namespace tornado::inline v1
