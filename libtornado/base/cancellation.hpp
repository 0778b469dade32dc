#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>
#include <optional>
#include <utility>

namespace tornado::inline v1 {

/// Whether the calling coroutine was cancelled, also while it did something that cannot be.
boost::asio::awaitable<bool> is_cancelled();

/// What begins as a coroutine of its own throws when it is cancelled, unless it says that it will not.
template <class T>
boost::asio::awaitable<T> without_throwing(boost::asio::awaitable<T> part) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  co_return co_await std::move(part);
}

/// Waits for the first of its parts, as Asio's operator|| does, and cancels the others: a variant with what it
/// returned. Nothing: the caller was cancelled before, and no part was begun. Operator|| alone would begin them, and
/// they would not know: a coroutine that was cancelled while it did something that cannot be would then wait for ever.
template <class First, class... Others>
auto first_of(First first, Others... others) {
  using namespace boost::asio::experimental::awaitable_operators;
  auto race = (without_throwing(std::move(first)) || ... || without_throwing(std::move(others)));
  auto run = [](decltype(race) begun) -> boost::asio::awaitable<std::optional<typename decltype(race)::value_type>> {
    bool cancelled = co_await is_cancelled();
    if (cancelled) co_return std::nullopt;
    co_return co_await std::move(begun);
  };
  return run(std::move(race));
}

}  // namespace tornado::inline v1
