// SPDX-License-Identifier: MIT
// expect: Element
// expect: int
#include <ddpm/ddpm.hpp>

using Wrong = ddpm::UNet<int, ddpm::Cpu>;
