#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

/// Skips a test on a developer's machine without the rights it needs; fails it where the whole suite was asked for
/// (scripts/test sets TORNADO_REQUIRE_PRIVILEGES), so that a missing right hides nothing.
#define TORNADO_REQUIRE(condition, what)                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      if (std::getenv("TORNADO_REQUIRE_PRIVILEGES") != nullptr) FAIL() << "needs " what; \
      GTEST_SKIP() << "needs " what;                                                     \
    }                                                                                    \
  } while (false)
