// The CUDA half of paged_attention.
#pragma once

#include "ops/ops.h"
#include "params/attention.h"

namespace vllm::ops {

// params: checked, but for what lies in the device's memory.
void run_paged_attention_on_cuda(const PagedAttentionParams& params, const Tensor& out,
                                 const Tensor& query, const AttentionPlan* plan);

// Whether a GPU has a prefill kernel for wgmma, for heads of that size.
bool has_wgmma(i64 head_size, int device);

// Whether it takes this; then it is the fastest.
bool fits_wgmma(const PagedAttentionParams& params, DType dtype, int device);

// tiles: prefill items from launch.items on; tickets: kTickets counters.
void run_wgmma_prefill(const AttentionLaunchParams& launch, i64 tiles, int* tickets,
                       const Tensor& query);

}  // namespace vllm::ops
