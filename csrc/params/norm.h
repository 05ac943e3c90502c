// The arguments of the RMS norms.
#pragma once

#include "params/types.h"

namespace vllm {

// out[r, :] = norm(input[r, :]) * weight, where norm(x) = x / sqrt(mean(x^2) + epsilon).
// With `residual` set: residual[r, :] += input[r, :] first, rounded to its dtype, and the norm is
// that of the stored sum.
struct RmsNormParams {
  void* out;           // [rows, width]
  const void* input;   // [rows, width]
  void* residual;      // [rows, width] or null
  const void* weight;  // [width]
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
  i64 residual_stride;
  float epsilon;
  int row_bits;  // CUDA: 2^row_bits threads share a row; kWholeBlock: a CTA does
};

// `row_bits` if a CTA processes one row: shifting any thread index by it gives 0.
constexpr int kWholeBlock = 31;

// Packs of a row that a CUDA thread keeps in registers: 64 bytes in flight, including the
// residual's.
constexpr int kNormPacks = 4;
constexpr int kAddNormPacks = 2;

}  // namespace vllm
