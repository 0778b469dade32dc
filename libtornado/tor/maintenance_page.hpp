#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "tornado/runtime.hpp"
#include "tornado/types.hpp"

namespace tornado::inline v1 {

/// What a device of the Tor lane sees in its browser while there is no network: a page that says so (D-100, D-102).
///
/// Every request, whatever its method, path and host, gets 503 with `Retry-After: 30` and `Cache-Control: no-store`.
/// The page needs nothing else from anywhere. It is made when `say` is called; a request costs no more than sending it.
/// Clients that are slow, silent or many are bounded as by every HttpServer: 4096 connections, 64 of one address, 10 s
/// to begin, 4 s between requests, 10 s for one, 10 s to take the answer. Loop thread; the destructor ends its
/// connections.
class MaintenancePage {
 public:
  explicit MaintenancePage(Runtime& runtime);
  ~MaintenancePage();

  /// Listens (TCP); more than once for more addresses. The address need not exist yet (IP_FREEBIND): a lane's interface
  /// may come later, and go and come again. Errors: backend_failed naming the cause.
  Result<void> listen(const Endpoint& endpoint);
  std::vector<Endpoint> endpoints() const;

  /// What is the matter, in plain text (UTF-8), escaped here: a heading and a sentence or two. Before the first call
  /// the page says that the Tor network cannot be reached now.
  void say(std::string_view headline, std::string_view detail);

  /// Listens no more. Answers on their way have until the deadline; `listen` cannot be called again.
  boost::asio::awaitable<void> drain(Seconds within);
  std::size_t connections() const noexcept;
  /// Answered since the page was made.
  std::uint64_t requests() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tornado::inline v1
