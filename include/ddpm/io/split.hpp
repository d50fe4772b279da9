// SPDX-License-Identifier: MIT
// Split: which part of a data set is meant.
#pragma once

namespace ddpm::io {

enum class Split { train, test };

}  // namespace ddpm::io
