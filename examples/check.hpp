#pragma once

#include <cstdio>
#include <cstdlib>

/// Examples are tests as well: a surprise ends them with a failure.
inline void check(bool good, const char* what) {
  std::printf("%-6s %s\n", good ? "ok" : "WRONG", what);
  if (!good) std::exit(1);
}
