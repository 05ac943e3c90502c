// The CUDA half of paged_attention.
#pragma once

#include "ops/ops.h"
#include "params/attention.h"

namespace vllm::ops {

// params: checked, but for what lies in the device's memory.
void run_paged_attention_on_cuda(const PagedAttentionParams& params, const Tensor& out,
                                 const Tensor& query, const AttentionPlan* plan);

}  // namespace vllm::ops
