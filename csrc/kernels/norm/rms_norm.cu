// RMS norm, with and without adding to the residual stream first.
//
// In general a row is processed by a CTA (thread block) or, if it is short, by a warp or a part of
// one: by 2^row_bits threads. Each thread keeps its first packs of the row in registers between the
// two passes (the sum of squares, then the scaling), so that most rows are read from memory once.
// It issues the loads of all of them, and of their weights, before it uses the first. Rows with
// exactly one pack per thread of a CTA, as in most models, have a kernel without loops or bounds
// (docs/decisions/0003).
#include "kernels/common/cache_hints.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"
#include "params/norm.h"

namespace vllm {

template <typename T, int N>
__device__ Pack<T, N> add(const Pack<T, N>& a, const Pack<T, N>& b) {
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = a.get(i) + b.get(i);
  Pack<T, N> sum;
  sum.set(values);
  return sum;
}

template <typename T, int N>
__device__ float sum_of_squares(const Pack<T, N>& pack) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < N; ++i) sum += pack.get(i) * pack.get(i);
  return sum;
}

template <typename T, int N>
__device__ Pack<T, N> scaled(const Pack<T, N>& pack, float scale, const Pack<T, N>& weight) {
  float values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = pack.get(i) * scale * weight.get(i);
  Pack<T, N> result;
  result.set(values);
  return result;
}

// N: elements of a pack; it divides the width, and every row starts at a multiple of its size.
template <typename T, int N, bool kAdd>
__device__ void rms_norm(const RmsNormParams& params) {
  wait_for_kernels_before();
  const bool is_whole_block = params.row_bits == kWholeBlock;
  const unsigned lanes = is_whole_block ? blockDim.x : 1u << params.row_bits;
  const unsigned rows_here = is_whole_block ? 1 : blockDim.x >> params.row_bits;
  const unsigned first = (threadIdx.x & ((1u << params.row_bits) - 1)) * N, step = lanes * N;
  const T* weight = static_cast<const T*>(params.weight);
  constexpr unsigned kHeld = kAdd ? kAddNormPacks : kNormPacks;
  unsigned parity = 0;

  for (i64 start = static_cast<i64>(blockIdx.x) * rows_here; start < params.rows;
       start += static_cast<i64>(gridDim.x) * rows_here) {
    const i64 row = start + (threadIdx.x >> params.row_bits);
    // Threads without a row only take part in the sums, and read nothing.
    const unsigned end = row < params.rows ? static_cast<unsigned>(params.width) : 0;
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    const T* input = static_cast<const T*>(params.input) + row * params.input_stride;
    T* residual = kAdd ? static_cast<T*>(params.residual) + row * params.residual_stride : nullptr;

    // The row to be normalized: with kAdd that is the new residual, which is stored here.
    const auto sum_with = [&](const Pack<T, N>& pack, const Pack<T, N>& old, unsigned index) {
      if constexpr (kAdd) {
        const Pack<T, N> sum = add(pack, old);
        store(residual + index, sum);
        return sum;
      } else {
        return pack;
      }
    };

    Pack<T, N> held[kHeld], old[kHeld], factors[kHeld];
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      const unsigned index = first + k * step;
      if (index < end) {
        held[k] = load<T, N>(input + index);
        if constexpr (kAdd) old[k] = load<T, N>(residual + index);
      }
    }
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      const unsigned index = first + k * step;
      if (index < end) factors[k] = load<T, N>(weight + index);
    }

    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      const unsigned index = first + k * step;
      if (index < end) {
        held[k] = sum_with(held[k], old[k], index);
        sum += sum_of_squares(held[k]);
      }
    }
#pragma unroll 1
    for (unsigned index = first + kHeld * step; index < end; index += step) {
      Pack<T, N> before{};
      if constexpr (kAdd) before = load<T, N>(residual + index);
      sum += sum_of_squares(sum_with(load<T, N>(input + index), before, index));
    }

    if (start + static_cast<i64>(gridDim.x) * rows_here >= params.rows) allow_kernels_after();
    sum = is_whole_block ? block_sum(sum, parity) : group_sum(sum, params.row_bits);
    parity ^= 1;
    const float scale = norm_scale(sum, static_cast<float>(params.width), params.epsilon);
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      const unsigned index = first + k * step;
      if (index < end) store(out + index, scaled(held[k], scale, factors[k]));
    }
    // A thread reads again only what it wrote itself, or what no thread writes.
    const T* row_values = kAdd ? residual : input;
#pragma unroll 1
    for (unsigned index = first + kHeld * step; index < end; index += step) {
      store(out + index, scaled(load<T, N>(row_values + index), scale, load<T, N>(weight + index)));
    }
  }
}

// A row of blockDim.x packs of N elements. kKeep: hints L2 to evict input and residual last,
// because they are overwritten; that pays off if they are much larger than L2.
template <typename T, int N, bool kAdd, bool kKeep>
__device__ void rms_norm_row(const RmsNormParams& params) {
  const unsigned index = threadIdx.x * N;
  const i64 row = blockIdx.x;
  T* out = static_cast<T*>(params.out) + row * params.out_stride + index;
  const T* input = static_cast<const T*>(params.input) + row * params.input_stride + index;
  T* residual =
      kAdd ? static_cast<T*>(params.residual) + row * params.residual_stride + index : nullptr;
  const T* weight = static_cast<const T*>(params.weight) + index;
  const auto load_once = [](const T* from) {
    if constexpr (kKeep) return load_to_keep<T, N>(from);
    return load<T, N>(from);
  };

  // The input is in L2, because the previous kernel has just written it; the others may have been
  // evicted since their last use.
  if (!kKeep && threadIdx.x % kLinePacks == 0) {
    if (blockIdx.x == 0) prefetch(weight);
    if (kAdd) prefetch(residual);
  }
  wait_for_kernels_before();
  Pack<T, N> held = load_once(input), old{};
  if constexpr (kAdd) old = load_once(residual);
  const Pack<T, N> factors = load<T, N>(weight);
  if constexpr (kAdd) {
    held = add(held, old);
    store(residual, held);
  }
  allow_kernels_after();
  const float sum = block_sum(sum_of_squares(held), 0);
  const float scale = norm_scale(sum, static_cast<float>(params.width), params.epsilon);
  store(out, scaled(held, scale, factors));
}

}  // namespace vllm

#define VLLM_NORM_KERNEL(name, ...)                                                \
  extern "C" __global__ void __launch_bounds__(1024) name(vllm::RmsNormParams p) { \
    vllm::__VA_ARGS__(p);                                                          \
  }

// `_vec`: in packs of 16 bytes; so are the rows of `_row`.
#define VLLM_NORMS(name, T)                                                                \
  VLLM_NORM_KERNEL(rms_norm_##name, rms_norm<T, 1, false>)                                 \
  VLLM_NORM_KERNEL(rms_norm_##name##_vec, rms_norm<T, vllm::kVector<T>, false>)            \
  VLLM_NORM_KERNEL(rms_norm_##name##_row, rms_norm_row<T, vllm::kVector<T>, false, false>) \
  VLLM_NORM_KERNEL(fused_add_rms_norm_##name, rms_norm<T, 1, true>)                        \
  VLLM_NORM_KERNEL(fused_add_rms_norm_##name##_vec, rms_norm<T, vllm::kVector<T>, true>)   \
  VLLM_NORM_KERNEL(fused_add_rms_norm_##name##_row,                                        \
                   rms_norm_row<T, vllm::kVector<T>, true, false>)                         \
  VLLM_NORM_KERNEL(fused_add_rms_norm_##name##_row_keep,                                   \
                   rms_norm_row<T, vllm::kVector<T>, true, true>)

VLLM_NORMS(f32, float)
VLLM_NORMS(f16, vllm::Half)
VLLM_NORMS(bf16, vllm::BFloat16)
