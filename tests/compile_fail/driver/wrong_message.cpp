// SPDX-License-Identifier: MIT
// expect: a message that no compiler prints
static_assert(false, "another message");
