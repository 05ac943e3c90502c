// What the two ops with a rotary embedding share on the host.
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

// `params` are those of a call that has something to do.
void run_rotary(const char* op, RotaryEmbeddingParams params, const Tensor& query);

}  // namespace vllm::ops
