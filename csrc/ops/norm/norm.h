// What the two RMS norms share on the host.
#pragma once

#include "ops/common/checks.h"
#include "ops/common/launch.h"
#include "params/norm.h"

namespace vllm::ops {

// Checks epsilon, which must be a number that keeps the square root's argument positive.
float require_epsilon(const char* op, double epsilon);

// The kernels of a norm for a dtype.
struct NormKernels {
  cuda::Kernel elements;                    // of any rows
  cuda::Kernel packs;                       // of rows in packs of 16 bytes
  cuda::Kernel row;                         // of rows of a pack for each thread of a block
  cuda::Kernel row_keep{nullptr, nullptr};  // of more of them than L2 holds; only where it adds
};

void run_norm_on_cuda(NormKernels (&of_dtypes)[kFloatTypes], RmsNormParams params,
                      const Tensor& input);

}  // namespace vllm::ops
