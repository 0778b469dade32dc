#include <dirent.h>
#include <net/if.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <map>

#include "base/cancellation.hpp"
#include "base/pace.hpp"
#include "base/try.hpp"
#include "tornado/wireguard.hpp"
#include "wireguard/interface_queue.hpp"
#include "wireguard/own_key.hpp"
#include "wireguard/uapi_codec.hpp"

// g++ 12 pairs a frame's allocation with the wrong deallocation when it inlines a short coroutine.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace asio = boost::asio;
using asio::local::stream_protocol;

namespace tornado::inline v1 {
namespace {

constexpr std::chrono::seconds deadline{5};
constexpr std::size_t block_size = 256 * 1024;
constexpr std::size_t slice_size = 16 * 1024;
constexpr std::size_t answer_limit = std::size_t(1) << 28;
constexpr auto completion = asio::as_tuple(asio::use_awaitable);

/// The connection to one interface and the queue of those who want it.
class Line {
 public:
  Line(Runtime& runtime, std::string name_, std::string path_)
      : name(std::move(name_)), path(std::move(path_)), socket(runtime.loop()), queue(runtime, name) {}

  void drop() {
    boost::system::error_code ignored;
    socket.close(ignored);
  }

  std::string name, path;
  std::size_t peers = 0;  // when last read
  stream_protocol::socket socket;
  InterfaceQueue queue;
};

/// An answer as it came, wiped when it goes: it may hold the interface's private key.
class Answer {
 public:
  Answer() = default;
  Answer(Answer&&) = default;
  Answer& operator=(Answer&&) = default;
  ~Answer() {
    for (std::string& block : blocks) OPENSSL_cleanse(block.data(), block.size());
  }
  std::deque<std::string> blocks;
};

/// Closes the socket when time is up. Shares what the timer's handler touches, because that may run afterwards.
class Deadline {
 public:
  explicit Deadline(std::shared_ptr<Line> line)
      : timer_(line->socket.get_executor(), deadline), state_(std::make_shared<State>(std::move(line))) {
    timer_.async_wait([state = state_](const boost::system::error_code& ec) {
      if (ec || state->over) return;
      state->passed = true;
      state->line->drop();
    });
  }
  ~Deadline() { state_->over = true; }
  bool passed() const noexcept { return state_->passed; }

 private:
  struct State {
    explicit State(std::shared_ptr<Line> line_) : line(std::move(line_)) {}
    std::shared_ptr<Line> line;
    bool passed = false, over = false;
  };
  asio::steady_timer timer_;
  std::shared_ptr<State> state_;
};

class UapiWireGuard final : public WireGuard {
 public:
  UapiWireGuard(Runtime& runtime, std::string directory) : runtime_(runtime), directory_(std::move(directory)) {}

  Task<std::vector<std::string>> list() override;
  Task<Interface> get(std::string name) override { return read(std::move(name), UapiParser::Want::everything); }
  Task<Interface> counters(std::string name) override { return read(std::move(name), UapiParser::Want::counters); }
  Task<void> set(InterfaceChange change) override;
  std::size_t waiting() const noexcept override {
    std::size_t out = 0;
    for (const auto& [name, line] : lines_) out += line->queue.waiting();
    return out;
  }

 private:
  Result<std::string> path_of(const std::string& name) const;
  Result<std::shared_ptr<Line>> line(const std::string& name);
  Task<void> connect(Line& line);
  Task<Interface> read(std::string name, UapiParser::Want want);
  Task<Answer> exchange(std::shared_ptr<Line> line, std::string_view request);
  Task<Answer> converse(Line& line, std::string_view request);
  Task<void> parse(Line& line, UapiParser& parser, Answer answer);

  Runtime& runtime_;
  std::string directory_;
  std::map<std::string, std::shared_ptr<Line>> lines_;
};

bool is_interface_name(const std::string& name) {
  return !name.empty() && name.size() < 16 && name[0] != '.' && name.find('/') == name.npos &&
         name.find('\0') == name.npos;
}

bool ends_answer(const Answer& answer) {
  const std::string& last = answer.blocks.back();
  if (last.size() >= 2) return last.ends_with("\n\n");
  return last == "\n" && (answer.blocks.size() == 1 || answer.blocks[answer.blocks.size() - 2].ends_with('\n'));
}

Result<std::string> UapiWireGuard::path_of(const std::string& name) const {
  std::string path = directory_ + "/" + name + ".sock";
  if (!is_interface_name(name) || path.size() > 107) return Error(errc::interface_missing, name);
  return path;
}

Result<std::shared_ptr<Line>> UapiWireGuard::line(const std::string& name) {
  TRY_PLAIN(std::string path, path_of(name));
  auto& line = lines_[name];
  if (!line) line = std::make_shared<Line>(runtime_, name, path);
  return line;
}

Task<void> UapiWireGuard::connect(Line& line) {
  boost::system::error_code opened;
  line.drop();
  line.socket.open(stream_protocol(), opened);
  if (opened) co_return Error(errc::backend_failed, line.name + ": " + opened.message());
  stream_protocol::endpoint endpoint(line.path);
  auto [error] = co_await line.socket.async_connect(endpoint, completion);
  if (!error) co_return Result<void>();
  line.drop();
  bool missing = error == boost::system::errc::no_such_file_or_directory || error == asio::error::connection_refused ||
                 error == boost::system::errc::not_a_directory;
  co_return Error(missing ? errc::interface_missing : errc::backend_failed, line.name + ": " + error.message());
}

/// Sends a request and drains the answer as fast as it comes: while one is being written, wireguard-go answers nobody
/// else (I-27). Parsing comes later.
Task<Answer> UapiWireGuard::converse(Line& line, std::string_view request) {
  Answer answer;
  auto [write_error, written] = co_await asio::async_write(line.socket, asio::buffer(request), completion);
  if (write_error) co_return Error(errc::unavailable, write_error.message());
  std::size_t total = 0;
  std::size_t room = 4096;
  do {
    std::string& block = answer.blocks.emplace_back(room, '\0');
    auto [error, size] = co_await line.socket.async_read_some(asio::buffer(block), completion);
    if (error) {
      OPENSSL_cleanse(block.data(), block.size());
      answer.blocks.pop_back();
      errc code = total == 0 ? errc::unavailable : errc::protocol_error;
      co_return Error(code, "the connection ended: " + error.message());
    }
    total += size;
    room = std::min(size == room ? room * 4 : room, block_size);
    block.resize(size);
    if (total > answer_limit) co_return Error(errc::protocol_error, "an answer is too large");
  } while (!ends_answer(answer));
  co_return answer;
}

/// One request and its answer within the deadline. A connection that had been standing open and broke before it
/// answered belonged to a process that is gone: one new attempt tells whether there is another.
Task<Answer> UapiWireGuard::exchange(std::shared_ptr<Line> line, std::string_view request) {
  Deadline limit(line);
  bool reused = line->socket.is_open();
  if (!reused) {
    TRY_VOID(co_await connect(*line));
  }
  auto answer = co_await converse(*line, request);
  bool gone = !answer && answer.error().code() == errc::unavailable && !limit.passed();
  bool cancelled = co_await is_cancelled();
  if (gone && reused && !cancelled) {
    TRY_VOID(co_await connect(*line));
    answer = co_await converse(*line, request);
  }
  if (answer) co_return answer;
  line->drop();
  if (limit.passed()) co_return Error(errc::deadline_exceeded, line->name + ": no answer in 5 s");
  if (cancelled) co_return Error(errc::cancelled);
  co_return Error(errc::protocol_error, line->name + ": " + answer.error().detail());
}

Task<void> UapiWireGuard::parse(Line& line, UapiParser& parser, Answer answer) {
  Pace pace(runtime_);
  Result<void> read;
  for (; read && !answer.blocks.empty(); answer.blocks.pop_front()) {
    std::string& block = answer.blocks.front();
    for (std::size_t at = 0; read && at < block.size(); at += slice_size) {
      read = parser.feed(std::string_view(block).substr(at, slice_size));
      if (pace.due()) co_await pace.yield();
    }
    OPENSSL_cleanse(block.data(), block.size());
  }
  if (read && !parser.done()) read = Error(errc::protocol_error, "an answer is not complete");
  if (!read || parser.status() != 0) line.drop();
  if (!read) co_return Error(read.error().code(), line.name + ": " + read.error().detail());
  if (parser.status() != 0)
    co_return Error(errc::backend_failed, line.name + ": errno " + std::to_string(parser.status()));
  co_return Result<void>();
}

Task<std::vector<std::string>> UapiWireGuard::list() {
  std::vector<std::string> found, out;
  if (DIR* directory = ::opendir(directory_.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      std::string name = entry->d_name;
      if (name.ends_with(".sock")) found.push_back(name.substr(0, name.size() - 5));
    }
    ::closedir(directory);
  }
  std::sort(found.begin(), found.end());
  for (const std::string& name : found) {
    auto path = path_of(name);
    if (!path) continue;
    auto probe = std::make_shared<Line>(runtime_, name, *path);
    Deadline limit(probe);
    auto done = co_await connect(*probe);
    if (done) out.push_back(name);
    probe->drop();
  }
  co_return out;
}

Task<Interface> UapiWireGuard::read(std::string name, UapiParser::Want want) {
  TRY(auto line, this->line(name));
  TRY(auto mine, co_await line->queue.enter());
  const unsigned before = ::if_nametoindex(name.c_str());
  TRY(auto answer, co_await exchange(line, uapi_get_request));
  const unsigned after = ::if_nametoindex(name.c_str());
  UapiParser parser(want, line->peers);
  TRY_VOID(co_await parse(*line, parser, std::move(answer)));
  Interface out = parser.take();
  line->peers = out.peers.size();
  out.name = name;
  // Made anew meanwhile: nobody knows whose answer it was.
  if (before == after) out.index = after;
  co_return out;
}

Task<void> UapiWireGuard::set(InterfaceChange change) {
  TRY_VOID(check_keys(change));
  TRY(auto line, this->line(change.name));
  TRY(auto mine, co_await line->queue.enter());
  for (const Secret& request : uapi_set_requests(change)) {
    TRY(auto answer, co_await exchange(line, request.reveal()));
    UapiParser parser;
    TRY_VOID(co_await parse(*line, parser, std::move(answer)));
  }
  co_return Result<void>();
}

}  // namespace

std::unique_ptr<WireGuard> uapi_wireguard(Runtime& runtime, std::string directory) {
  return std::make_unique<UapiWireGuard>(runtime, std::move(directory));
}

}  // namespace tornado::inline v1
