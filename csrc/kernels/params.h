// Arguments of every op, as plain data with shapes beside pointers. One definition serves the
// CPU kernels, the CUDA launchers and the device code, so it may include nothing (NVRTC has no
// standard headers) and must have the same layout for every compiler.
//
// Shapes are in elements; strides are in elements between neighbours of that dimension.
// The last dimension of every tensor is contiguous.
#pragma once

namespace vllm {

using i64 = long long;

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
};

// out[r, i] = silu(input[r, i]) * input[r, width + i], where silu(x) = x / (1 + exp(-x)).
struct SiluAndMulParams {
  void* out;          // [rows, width]
  const void* input;  // [rows, 2 * width]
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
};

// Rotates the first `rotary_size` elements of every head in place by the angle of its position.
// NeoX pairs element i with i + rotary_size / 2; GPT-J pairs 2i with 2i + 1.
struct RotaryEmbeddingParams {
  const i64* positions;  // [tokens], each in [0, max_position)
  void* query;           // [tokens, query_heads, head_size]
  void* key;             // [tokens, key_heads, head_size] or null
  const void* cos_sin;   // [max_position, rotary_size]: cosines, then sines; dtype of query
  i64 tokens;
  i64 query_heads;
  i64 key_heads;
  i64 head_size;
  i64 rotary_size;
  i64 max_position;
  i64 query_token_stride;
  i64 query_head_stride;
  i64 key_token_stride;
  i64 key_head_stride;
  i64 cos_sin_stride;
  int is_neox;
};

}  // namespace vllm
