// SPDX-License-Identifier: MIT
// TimeScaleShift: how a residual block takes in the time embedding.
#pragma once

namespace ddpm {

// Added between the convolutions, or a scale and a shift of the second norm (diffusers'
// resnet_time_scale_shift "default" and "scale_shift").
enum class TimeScaleShift { add, scale_shift };

}  // namespace ddpm
