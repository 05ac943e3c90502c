// What paged_attention and rotary_and_attention share on the host, and their CUDA half.
#pragma once

#include "ops/ops.h"
#include "params/attention.h"
#include "params/rotary.h"

namespace vllm::ops {

// Checks the arguments of attention, on the CPU also the numbers in them, and makes its parameters.
PagedAttentionParams require_paged_attention(const char* op, const Tensor& out, const Tensor& query,
                                             const Tensor& key_cache, const Tensor& value_cache,
                                             const Tensor& block_tables, const Tensor& context_lens,
                                             const Tensor& query_starts, double scale,
                                             int64_t sliding_window, double soft_cap);

void run_paged_attention(const char* op, const PagedAttentionParams& params, const Tensor& out,
                         const Tensor& query, const AttentionPlan* plan);

// params: checked, but for what lies in the device's memory.
void run_paged_attention_on_cuda(const char* op, const PagedAttentionParams& params,
                                 const Tensor& out, const Tensor& query, const AttentionPlan* plan);

// Runs attention fused with the rotation and the cache write, if there is a kernel for that;
// returns whether there is.
bool run_rotating_attention_on_cuda(const char* op, const PagedAttentionParams& params,
                                    const RotaryEmbeddingParams& rotary, const Tensor& out,
                                    const Tensor& query, const AttentionPlan* plan);

// Whether a GPU has a prefill kernel for wgmma, for heads of that size.
bool has_wgmma(i64 head_size, int device);

// Whether that kernel supports these arguments; if so, it is the fastest.
bool fits_wgmma(const PagedAttentionParams& params, DType dtype, int device);

// tiles: prefill items from launch.items on; tickets: kTickets counters.
void run_wgmma_prefill(const AttentionLaunchParams& launch, i64 tiles, int* tickets,
                       const Tensor& query);

}  // namespace vllm::ops
