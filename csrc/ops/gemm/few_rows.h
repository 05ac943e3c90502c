// The CUDA kernels of products of few rows. Internal to ops/gemm.
#pragma once

#include "params/gemm.h"
#include "runtime/tensor.h"

namespace vllm::ops {

void run_few_rows(FewRowsParams params, const Tensor& x);

}  // namespace vllm::ops
