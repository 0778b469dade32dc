#pragma once

/// TRY(auto x, expression): evaluates a Result, returns its error from the enclosing coroutine, or binds its value.
/// One per line. TRY_VOID(expression) for Result<void>. The _PLAIN forms are for functions that are no coroutine.
#define TORNADO_CONCAT_(a, b) a##b
#define TORNADO_CONCAT(a, b) TORNADO_CONCAT_(a, b)

#define TORNADO_TRY_(ret, result, declaration, ...) \
  auto result = __VA_ARGS__;                        \
  if (!result) ret result.error();                  \
  declaration = std::move(*result)

#define TRY(declaration, ...) TORNADO_TRY_(co_return, TORNADO_CONCAT(result_, __LINE__), declaration, __VA_ARGS__)
#define TRY_PLAIN(declaration, ...) TORNADO_TRY_(return, TORNADO_CONCAT(result_, __LINE__), declaration, __VA_ARGS__)

#define TORNADO_TRY_VOID_(ret, ...)    \
  do {                                 \
    auto result_ = __VA_ARGS__;        \
    if (!result_) ret result_.error(); \
  } while (false)

#define TRY_VOID(...) TORNADO_TRY_VOID_(co_return, __VA_ARGS__)
#define TRY_VOID_PLAIN(...) TORNADO_TRY_VOID_(return, __VA_ARGS__)
