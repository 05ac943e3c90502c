// The arguments of the activations.
#pragma once

#include "params/types.h"

namespace vllm {

// out[r, i] = silu(input[r, i]) * input[r, width + i], where silu(x) = x / (1 + exp(-x)).
struct SiluAndMulParams {
  void* out;          // [rows, width]
  const void* input;  // [rows, 2 * width]
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
  i64 first;  // CUDA: the row that a launch begins with
};

}  // namespace vllm
