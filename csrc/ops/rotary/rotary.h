// What the ops with a rotary embedding share on the host.
#pragma once

#include "ops/common/checks.h"
#include "params/rotary.h"

namespace vllm::ops {

// Checks the arguments of a rotary embedding in place and makes its parameters; key may be null.
RotaryEmbeddingParams require_rotary(const char* op, const Tensor& positions, const Tensor& query,
                                     const Tensor* key, i64 head_size, const Tensor& cos_sin_cache,
                                     bool is_neox);

// IndexError for a position out of range. Reads them: on the CPU only.
void require_positions_in_range(const char* op, const Tensor& positions, i64 max_position);

// Checks the arguments of rotary_and_cache, on the CPU also the numbers in them, and makes its
// parameters.
RotaryEmbeddingParams require_rotary_and_cache(const char* op, const Tensor& positions,
                                               const Tensor& query, const Tensor& key,
                                               const Tensor& value, const Tensor& cos_sin_cache,
                                               const Tensor& key_cache, const Tensor& value_cache,
                                               const Tensor& slot_mapping,
                                               const Tensor* query_weight, const Tensor* key_weight,
                                               double epsilon);

// Whether the kernels for whole heads in packs of 16 bytes fit: NeoX, all elements rotated,
// aligned.
bool rotates_whole_heads(const RotaryEmbeddingParams& params, i64 element_size);

void run_rotary(const char* op, RotaryEmbeddingParams params, const Tensor& query);

}  // namespace vllm::ops
