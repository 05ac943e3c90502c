// The arguments of matrix products of few rows, and the shape of the kernels that compute them.
#pragma once

#include "params/types.h"

namespace vllm {

// y = z * weight^T + bias, where z is x or, with `norm_weight`, rms_norm(x), rounded to its dtype.
// out = y or, if gated, silu(y[:, :outputs]) * y[:, outputs:]; then plus residual.
// Weight rows are twice `outputs` if gated, else `outputs`.
struct FewRowsParams {
  void* out;                // [rows, outputs]
  const void* x;            // [rows, inputs]
  const void* weight;       // [weight rows, inputs]
  const void* bias;         // [weight rows] or null
  const void* norm_weight;  // [inputs] or null
  const void* residual;     // [rows, outputs] or null; may be `out`
  i64 rows;
  i64 inputs;
  i64 outputs;
  i64 out_stride;
  i64 x_stride;
  i64 weight_stride;
  i64 residual_stride;
  float epsilon;
  bool gated;
  int block_outputs;  // CUDA: adjacent outputs that a CTA computes
  int stages;         // CUDA: of a ring; as many as a warp uses, at most few_rows_stages
};

constexpr int kFewRows = 16;  // at most

// The warps of a CTA (thread block) divide the inputs into pieces of 64: 128 bytes of a weight row.
// Each warp prefetches weights into a separate ring in shared memory: a stage holds some pieces of
// each of the `tile` weight rows that are multiplied at once, and of the norm's weight.
constexpr int kFewRowsWarps = 8;
constexpr int kFewRowsTiles[] = {8, 16, 32, 48};
constexpr int few_rows_pieces(int tile) { return tile <= 16 ? 2 : 1; }
constexpr int few_rows_stages(int tile) { return tile == 8 ? 4 : tile == 32 ? 3 : 2; }

// float32 from the sums of one row of x to those of the next, which start in other banks.
constexpr int few_rows_pitch(int tile) { return tile + 4; }

// Dynamic shared memory: float32 sums of each warp for 8 rows of x, and of the squares of kFewRows
// rows; then the rings.
constexpr int few_rows_sums(int tile) { return kFewRowsWarps * 8 * few_rows_pitch(tile); }
constexpr int few_rows_sums_bytes(int tile) {
  return (few_rows_sums(tile) + kFewRowsWarps * kFewRows) * 4;
}
constexpr int few_rows_piece_bytes(int tile) { return (tile + 1) * 128; }  // with the norm's
constexpr int few_rows_stage_bytes(int tile) {
  return few_rows_pieces(tile) * few_rows_piece_bytes(tile);
}
constexpr int few_rows_shared_bytes(int tile, int stages) {
  return few_rows_sums_bytes(tile) + kFewRowsWarps * stages * few_rows_stage_bytes(tile);
}

}  // namespace vllm
