// SPDX-License-Identifier: MIT
#include "use.hpp"

Seen look_from_second() { return look(); }
