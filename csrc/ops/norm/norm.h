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
  cuda::Kernel elements;                    // for any rows
  cuda::Kernel packs;                       // for rows in packs of 16 bytes
  cuda::Kernel row;                         // for rows of one pack per thread of a CTA
  cuda::Kernel row_keep{nullptr, nullptr};  // for more of these than L2 holds; add norm only
};

// The rows of a norm that follows an addition.
struct AddNormRows {
  RowLayout input;
  RowLayout residual;
};

// Checks the tensors of an op that adds `input` to `residual` and overwrites it with the norm.
AddNormRows require_add_norm(const char* op, const Tensor& input, const Tensor& residual,
                             const Tensor& weight);

// Fills what the parameters of such ops share, once the tensors are checked.
template <typename Params>
void fill_add_norm(Params& params, const AddNormRows& rows, const Tensor& input,
                   const Tensor& residual, const Tensor& weight, float epsilon) {
  params.out = input.data;
  params.input = input.data;
  params.residual = residual.data;
  params.weight = weight.data;
  params.rows = rows.input.rows;
  params.width = rows.input.width;
  params.out_stride = rows.input.stride;
  params.input_stride = rows.input.stride;
  params.residual_stride = rows.residual.stride;
  params.epsilon = epsilon;
}

void run_norm_on_cuda(NormKernels (&of_dtypes)[kFloatTypes], RmsNormParams params,
                      const Tensor& input);

}  // namespace vllm::ops
