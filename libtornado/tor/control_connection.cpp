#include "tor/control_connection.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <deque>

#include "base/encoding.hpp"
#include "base/file.hpp"
#include "base/notifier.hpp"
#include "base/try.hpp"
#include "base/uuid.hpp"

namespace asio = boost::asio;
using asio::local::stream_protocol;

namespace tornado::inline v1 {
namespace {

constexpr std::chrono::seconds answer_deadline{5};
constexpr std::size_t most_questions = 256, most_at_once = 64, most_events = 8192, cookie_size = 32;
constexpr auto completion = asio::as_tuple(asio::use_awaitable);
const std::vector<int> oldest{0, 4, 7};

}  // namespace

/// A question on its way.
struct ControlConnection::Question {
  explicit Question(asio::io_context& io) : timer(io, answer_deadline) {}
  asio::steady_timer timer;
  std::optional<Result<ControlReply>> answer;
};

struct ControlConnection::Impl {
  explicit Impl(Runtime& runtime_) : runtime(runtime_), socket(runtime_.loop()), event_came(runtime_) {}

  void end(Error why);
  void take(ControlReply reply);
  static Task<void> read(std::shared_ptr<Impl> self);

  Runtime& runtime;
  stream_protocol::socket socket;
  std::deque<std::shared_ptr<Question>> questions;
  std::deque<ControlReply> events;
  Notifier event_came;
  std::optional<Error> ended;
  std::string version;
};

/// Everybody who waits is told; a second end changes nothing.
void ControlConnection::Impl::end(Error why) {
  if (ended) return;
  ended = std::move(why);
  boost::system::error_code ignored;
  socket.close(ignored);
  for (const auto& question : questions) {
    question->answer = *ended;
    question->timer.cancel();
  }
  questions.clear();
  event_came.notify();
}

void ControlConnection::Impl::take(ControlReply reply) {
  if (reply.event()) {
    if (events.size() >= most_events) return end(Error(errc::overloaded, "tor: events come faster than they are read"));
    events.push_back(std::move(reply));
    event_came.notify();
    return;
  }
  if (questions.empty()) return end(Error(errc::protocol_error, "tor: an answer that nobody asked for"));
  questions.front()->answer = std::move(reply);
  questions.front()->timer.cancel();
  questions.pop_front();
}

Task<void> ControlConnection::Impl::read(std::shared_ptr<Impl> self) {
  ControlParser parser;
  std::string block(65536, '\0');
  while (!self->ended) {
    auto [error, size] = co_await self->socket.async_read_some(asio::buffer(block), completion);
    if (error) {
      bool ours = error == asio::error::operation_aborted;
      self->end(Error(ours ? errc::cancelled : errc::tor_unavailable, "tor closed its control socket"));
      break;
    }
    auto fed = parser.feed(std::string_view(block).substr(0, size));
    for (auto reply = parser.next(); reply && !self->ended; reply = parser.next()) self->take(std::move(*reply));
    if (!fed) self->end(fed.error());
  }
  co_return Result<void>();
}

ControlConnection::ControlConnection(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ControlConnection::~ControlConnection() {
  impl_->end(Error(errc::cancelled));
}

bool ControlConnection::ended() const noexcept {
  return impl_->ended.has_value();
}

const std::string& ControlConnection::version() const noexcept {
  return impl_->version;
}

Result<std::shared_ptr<ControlConnection::Question>> ControlConnection::send(std::string text) {
  if (impl_->ended) return *impl_->ended;
  if (impl_->questions.size() >= most_questions) return Error(errc::overloaded, "tor: too many questions");
  auto question = std::make_shared<Question>(impl_->runtime.loop());
  impl_->questions.push_back(question);
  // Small commands into a local socket: a write that would block means that tor does not read.
  boost::system::error_code error;
  asio::write(impl_->socket, asio::buffer(text), error);
  if (error) impl_->end(Error(errc::tor_unavailable, "tor: " + error.message()));
  return question;
}

Task<ControlReply> ControlConnection::answer(std::shared_ptr<Question> question) {
  auto impl = impl_;
  if (!question->answer) {
    co_await question->timer.async_wait(completion);
  }
  if (question->answer) co_return std::move(*question->answer);
  bool late = question->timer.expiry() <= std::chrono::steady_clock::now();
  if (!late) co_return Error(errc::cancelled);
  Error why(errc::deadline_exceeded, "tor does not answer");
  impl->end(why);
  co_return why;
}

Task<ControlReply> ControlConnection::ask(std::string command) {
  if (command.find_first_of("\r\n") != std::string::npos) co_return Error(errc::invalid_argument, "a line break");
  TRY(auto question, send(command + "\r\n"));
  co_return co_await answer(std::move(question));
}

Task<std::vector<ControlReply>> ControlConnection::ask_all(std::vector<std::string> commands) {
  std::vector<ControlReply> out;
  std::vector<std::shared_ptr<Question>> asked;
  for (std::size_t i = 0; i < commands.size(); ++i) {
    if (commands[i].find_first_of("\r\n") != std::string::npos) co_return Error(errc::invalid_argument, "a line break");
    TRY(auto question, send(commands[i] + "\r\n"));
    asked.push_back(std::move(question));
    if (asked.size() < most_at_once && i + 1 < commands.size()) continue;
    for (auto& one : asked) {
      TRY(ControlReply reply, co_await answer(std::move(one)));
      out.push_back(std::move(reply));
    }
    asked.clear();
  }
  co_return out;
}

Task<ControlReply> ControlConnection::load(std::string configuration) {
  std::string text = "+LOADCONF\r\n";
  for (char c : configuration) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  TRY(auto question, send(text + ".\r\n"));
  TRY(ControlReply reply, co_await answer(std::move(question)));
  if (!reply.ok()) co_return Error(errc::backend_failed, "tor: " + reply.text());
  co_return reply;
}

Task<ControlReply> ControlConnection::order(std::string command) {
  TRY(ControlReply reply, co_await ask(std::move(command)));
  if (!reply.ok()) co_return Error(errc::backend_failed, "tor: " + reply.text());
  co_return reply;
}

Task<ControlReply> ControlConnection::event() {
  auto impl = impl_;
  while (impl->events.empty()) {
    if (impl->ended) co_return *impl->ended;
    bool more = co_await impl->event_came.wait(impl->event_came.revision());
    if (!more) co_return Error(errc::cancelled);
  }
  ControlReply out = std::move(impl->events.front());
  impl->events.pop_front();
  co_return out;
}

Task<void> ControlConnection::authenticate(std::string cookie_file) {
  TRY(ControlReply told, co_await ask("PROTOCOLINFO 1"));
  TRY(ProtocolInfo info, ProtocolInfo::parse(told));
  impl_->version = info.tor_version;
  auto version = tor_version(info.tor_version);
  if (version.empty() || version < oldest)
    co_return Error(errc::tor_too_old, "tor " + info.tor_version + " runs; 0.4.7 is the oldest that will do");
  auto load = [&cookie_file]() -> Result<std::string> { return read_file(cookie_file, 1024); };
  auto cookie = co_await impl_->runtime.offload(Blocking::file, load);
  if (!cookie) co_return Error(errc::tor_authentication, cookie_file + ": " + cookie.error().detail());
  if (cookie->size() != cookie_size) co_return Error(errc::tor_authentication, cookie_file + " is not 32 bytes long");
  std::string proof = "AUTHENTICATE " + hex(*cookie);
  if (info.offers("SAFECOOKIE")) {
    SafeCookie safe(*cookie, random_bytes(cookie_size));
    TRY(ControlReply challenge, co_await ask(safe.challenge()));
    TRY(proof, safe.authenticate(challenge));
  }
  TRY(ControlReply accepted, co_await ask(proof));
  if (!accepted.ok()) co_return Error(errc::tor_authentication, "tor: " + accepted.text());
  co_return Result<void>();
}

Task<std::unique_ptr<ControlConnection>> ControlConnection::open(Runtime& runtime, TaskGroup& readers,
                                                                 std::string socket, std::string cookie_file) {
  auto impl = std::make_shared<Impl>(runtime);
  if (socket.size() > 107) co_return Error(errc::invalid_argument, socket + " is too long for a socket");
  stream_protocol::endpoint endpoint(socket);
  auto [error] = co_await impl->socket.async_connect(endpoint, completion);
  if (error) co_return Error(errc::tor_unavailable, socket + ": " + error.message());
  boost::system::error_code ignored;
  impl->socket.non_blocking(true, ignored);
  std::unique_ptr<ControlConnection> out(new ControlConnection(impl));
  readers.add("tor_control", Impl::read(impl));
  TRY_VOID(co_await out->authenticate(std::move(cookie_file)));
  co_return out;
}

}  // namespace tornado::inline v1
