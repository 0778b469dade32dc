// Requests per second for the maintenance page over loopback: 64 connections kept alive, one request at a time on each.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string_view>
#include <vector>

#include "tor/maintenance_page.hpp"

namespace tornado {
namespace {

constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

int connect_to(const Endpoint& server) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(server.port);
  to.sin_addr.s_addr = htonl(server.address.v4());
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return fd;
  ::close(fd);
  return -1;
}

/// Reads until so many bytes came, or to the end of the document if the length is not known yet. 0: hung up.
std::size_t read_answer(int fd, std::size_t length) {
  std::string answer;
  char block[8192];
  while (length == 0 ? !answer.ends_with("</html>\n") : answer.size() < length) {
    ssize_t got = ::recv(fd, block, sizeof block, 0);
    if (got <= 0) return 0;
    answer.append(block, static_cast<std::size_t>(got));
  }
  return answer.size();
}

void keep_alive(benchmark::State& state) {
  Runtime runtime;
  MaintenancePage page(runtime);
  page.listen(Endpoint(Address::parse("127.0.0.1").value(), 0)).value();
  const Endpoint server = page.endpoints().at(0);
  LoopThread loop = runtime.start();
  std::vector<int> connections;
  for (int i = 0; i < state.range(0); ++i) connections.push_back(connect_to(server));
  std::size_t length = 0;
  for (auto _ : state) {
    for (int fd : connections) (void)!::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    for (int fd : connections) {
      length = read_answer(fd, length);
      if (length == 0) return state.SkipWithError("the page hung up");
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  for (int fd : connections) ::close(fd);
}
BENCHMARK(keep_alive)->Arg(1)->Arg(64)->UseRealTime();

}  // namespace
}  // namespace tornado

BENCHMARK_MAIN();
