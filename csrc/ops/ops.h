// The ops, on tensors that Python handed over. Each lives in a file of its own name: check, fill
// the parameters, choose a kernel, launch. All of them throw Error; what they compute is said in
// kernels/params.h.
#pragma once

#include "runtime/tensor.h"

namespace vllm::ops {

void rms_norm(const Tensor& out, const Tensor& input, const Tensor& weight, double epsilon);

// In place: residual += input, then input = norm(residual) * weight.
void fused_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                        double epsilon);

void silu_and_mul(const Tensor& out, const Tensor& input);

// In place on query and key; key may be null.
void rotary_embedding(const Tensor& positions, const Tensor& query, const Tensor* key,
                      int64_t head_size, const Tensor& cos_sin_cache, bool is_neox);

// Writes new keys and values into the slots of a paged cache; slot -1 skips a token.
void reshape_and_cache(const Tensor& key, const Tensor& value, const Tensor& key_cache,
                       const Tensor& value_cache, const Tensor& slot_mapping);

// Causal attention of the last tokens of each sequence over all of its tokens in the cache.
void paged_attention(const Tensor& out, const Tensor& query, const Tensor& key_cache,
                     const Tensor& value_cache, const Tensor& block_tables,
                     const Tensor& context_lens, const Tensor& query_starts, double scale,
                     int64_t sliding_window, double soft_cap);

// Changes single logits in place, as penalties and prohibitions do.
void penalize(const Tensor& logits, const Tensor& rows, const Tensor& tokens,
              const Tensor& repetition, const Tensor& subtract);

// How to draw; null where no row asks for it. `workspace` is for CUDA only.
struct SampleArguments {
  const Tensor* temperatures;
  const Tensor* top_k;
  const Tensor* top_p;
  const Tensor* min_p;
  const Tensor* seeds;
  const Tensor* draws;
  const Tensor* workspace;
};

// A token from every row of logits.
void sample(const Tensor& out, const Tensor& logits, const SampleArguments& arguments);

// int64 elements that sample needs on CUDA.
int64_t sample_workspace_size(int64_t rows, int64_t vocab);

}  // namespace vllm::ops
