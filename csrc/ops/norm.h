// What the two RMS norms share on the host.
#pragma once

#include "ops/checks.h"
#include "ops/launch.h"

namespace vllm::ops {

// Checks epsilon, which must be a number that keeps the square root's argument positive.
float require_epsilon(const char* op, double epsilon);

// Launches one of a norm's kernels, [dtype][16-byte packs?].
void run_norm_on_cuda(cuda::Kernel (&kernels)[kFloatTypes][2], RmsNormParams params,
                      const Tensor& input);

}  // namespace vllm::ops
