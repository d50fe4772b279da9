// SPDX-License-Identifier: MIT
static_assert(false, "a message");
