// SPDX-License-Identifier: MIT
// expect: Element
// expect: constraint
#include <ddpm/ddpm.hpp>

using Wrong = ddpm::UNet<int, ddpm::Cpu>;
