// SPDX-License-Identifier: MIT
// expect-success
static_assert(false, "a message");
