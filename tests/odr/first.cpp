// SPDX-License-Identifier: MIT
// Both translation units compute the same and share one memory pool.
#include "use.hpp"

#include <cstdio>

int main() {
  const Seen first = look();
  const Seen second = look_from_second();
  const bool same =
      first.cpu == second.cpu && first.reference == second.reference && first.pool == second.pool;
  std::printf("%s\n", same ? "two translation units agree" : "two translation units differ");
  return same ? 0 : 1;
}
