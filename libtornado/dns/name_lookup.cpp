#include "dns/name_lookup.hpp"

#include <netdb.h>
#include <netinet/in.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/cancellation.hpp"
#include "base/notifier.hpp"
#include "base/try.hpp"

namespace asio = boost::asio;

namespace tornado::inline v1 {

Result<std::vector<Address>> resolve_host(const std::string& name) {
  if (auto literal = Address::parse(name)) return std::vector<Address>(1, *literal);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  int rc = ::getaddrinfo(name.c_str(), nullptr, &hints, &raw);
  if (rc != 0) return Error(errc::not_found, name + ": " + ::gai_strerror(rc));
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(raw, ::freeaddrinfo);
  std::vector<Address> out;
  for (const addrinfo* entry = raw; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET) {
      out.push_back(Address::from_v4(ntohl(reinterpret_cast<sockaddr_in*>(entry->ai_addr)->sin_addr.s_addr)));
    } else if (entry->ai_family == AF_INET6) {
      std::array<std::uint8_t, 16> raw6{};
      std::memcpy(raw6.data(), &reinterpret_cast<sockaddr_in6*>(entry->ai_addr)->sin6_addr, raw6.size());
      out.push_back(Address::from_v6(raw6));
    }
  }
  return out;
}

namespace {

Result<std::vector<Address>> ask(const NameLookup::Resolve& resolve, const std::string& name) {
  try {
    return resolve(name);
  } catch (const std::exception& e) {
    return Error(errc::internal, name + ": " + e.what());
  }
}

/// Where the thread finds the loop, as long as there is one.
struct Recipient {
  std::mutex mutex;
  asio::io_context* loop = nullptr;
};

}  // namespace

struct NameLookup::State {
  State(Runtime& runtime_, std::string name_, Resolve resolve_)
      : runtime(runtime_), name(std::move(name_)), resolve(std::move(resolve_)), answered(runtime_) {}

  static Result<void> begin(const std::shared_ptr<State>& self);

  Runtime& runtime;
  const std::string name;
  const Resolve resolve;
  const std::shared_ptr<Recipient> recipient = std::make_shared<Recipient>();
  Notifier answered;
  std::optional<Result<std::vector<Address>>> answer;  // the last one
  bool taken = true;                                   // by somebody who asked
  bool looking = false;
  bool gone = false;
};

Result<void> NameLookup::State::begin(const std::shared_ptr<State>& self) {
  if (self->looking || !self->taken || Address::parse(self->name)) return {};
  // All that the thread has is its own: the state, and the runtime, may go before it ends.
  auto look = [name = self->name, resolve = self->resolve, recipient = self->recipient,
               state = std::weak_ptr<State>(self)] {
    auto found = ask(resolve, name);
    std::lock_guard lock(recipient->mutex);
    if (recipient->loop == nullptr) return;
    asio::post(*recipient->loop, [state, found = std::move(found)] {
      auto here = state.lock();
      if (!here) return;
      here->looking = false;
      here->answer = found;
      here->taken = false;
      here->answered.notify();
    });
  };
  try {
    std::thread(std::move(look)).detach();
  } catch (const std::system_error& e) {
    return Error(errc::unavailable, self->name + ": no thread to look it up: " + e.what());
  }
  self->looking = true;
  return {};
}

NameLookup::NameLookup(Runtime& runtime, std::string name, Resolve resolve)
    : state_(std::make_shared<State>(runtime, std::move(name), std::move(resolve))) {
  state_->recipient->loop = &runtime.loop();
}

NameLookup::~NameLookup() {
  state_->gone = true;
  {
    std::lock_guard lock(state_->recipient->mutex);
    state_->recipient->loop = nullptr;
  }
  state_->answered.notify();
}

const std::string& NameLookup::name() const noexcept {
  return state_->name;
}

bool NameLookup::answered() const noexcept {
  return !state_->taken;
}

Result<void> NameLookup::begin() {
  return State::begin(state_);
}

Task<std::vector<Address>> NameLookup::addresses(Seconds patience) {
  return wait(state_, patience);
}

Task<std::vector<Address>> NameLookup::wait(std::shared_ptr<State> state, Seconds patience) {
  if (auto literal = Address::parse(state->name)) co_return std::vector<Address>(1, *literal);
  const std::uint64_t seen = state->answered.revision();
  if (!std::exchange(state->taken, true)) co_return *state->answer;
  TRY_VOID(State::begin(state));
  auto told = state->answered.wait(seen);
  auto late = state->runtime.sleep_until(state->runtime.now() + patience);
  auto first = co_await first_of(std::move(told), std::move(late));
  const bool woken = first && (first->index() == 0 ? std::get<0>(*first) : std::get<1>(*first));
  if (!woken || state->gone) co_return Error(errc::cancelled);
  if (first->index() == 1)
    co_return Error(errc::deadline_exceeded,
                    state->name + ": no answer within " + std::to_string(patience.count()) + " s");
  state->taken = true;
  co_return *state->answer;
}

}  // namespace tornado::inline v1
