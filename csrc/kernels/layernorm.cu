// RMS norm, with and without adding to the residual stream first.
//
// In general a row belongs to a block or, where it is short, to a warp or a part of one: 2^row_bits
// threads. Each thread keeps its first packs of the row in registers between the two passes (the
// sum of squares, then the scaling), so most rows are read from memory once. It asks for all of
// them, and for their weights, before it needs the first. Common rows, in packs and of a width that
// the threads of a block can hold, have kernels without loops: a loop not taken twice costs 0.2 us.
#include "cache_hints.cuh"
#include "early_launch.cuh"
#include "float_types.cuh"
#include "params.h"
#include "reduce.cuh"

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

__device__ inline float scale_of(float sum, const RmsNormParams& params) {
  return rsqrtf(__fdividef(sum, static_cast<float>(params.width)) + params.epsilon);
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
  constexpr unsigned kHeld = kNormPacks;
  unsigned parity = 0;

  for (i64 start = static_cast<i64>(blockIdx.x) * rows_here; start < params.rows;
       start += static_cast<i64>(gridDim.x) * rows_here) {
    const i64 row = start + (threadIdx.x >> params.row_bits);
    // Threads without a row are there for the sums, and read nothing.
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
    const float scale = scale_of(sum, params);
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      const unsigned index = first + k * step;
      if (index < end) store(out + index, scaled(held[k], scale, factors[k]));
    }
    // A thread reads again only what it wrote itself, or what nobody writes.
    const T* row_values = kAdd ? residual : input;
#pragma unroll 1
    for (unsigned index = first + kHeld * step; index < end; index += step) {
      store(out + index, scaled(load<T, N>(row_values + index), scale, load<T, N>(weight + index)));
    }
  }
}

// The sum over a block whose threads each have a value of kPacks packs, blockDim.x packs apart. It
// is that of 32 packs by a warp, and then of warps: the same, to the bit, whatever kPacks is, so
// that a row does not depend on how many there are.
template <int kPacks>
__device__ float sum_of_packs(const float (&values)[kPacks]) {
  __shared__ float partial[kPacks * 32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    const float sum = warp_sum(values[k]);
    if (lane == 0) partial[k * warps + warp] = sum;
  }
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    if (lane + 32 * k < kPacks * warps) sum += partial[lane + 32 * k];
  }
  return warp_sum(sum);
}

// A row that a block holds, kPacks packs of N elements to a thread.
template <typename T, int N, bool kAdd, int kPacks>
__device__ void rms_norm_row(const RmsNormParams& params) {
  const unsigned width = static_cast<unsigned>(params.width);
  const unsigned first = threadIdx.x * N, step = blockDim.x * N;
  const i64 row = blockIdx.x;
  T* out = static_cast<T*>(params.out) + row * params.out_stride;
  const T* input = static_cast<const T*>(params.input) + row * params.input_stride;
  T* residual = kAdd ? static_cast<T*>(params.residual) + row * params.residual_stride : nullptr;
  const T* weight = static_cast<const T*>(params.weight);

  wait_for_kernels_before();
  Pack<T, N> held[kPacks], old[kPacks], factors[kPacks];
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    const unsigned index = first + k * step;
    if (index < width) {
      held[k] = load<T, N>(input + index);
      if constexpr (kAdd) old[k] = load<T, N>(residual + index);
    }
  }
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    if (first + k * step < width) factors[k] = load<T, N>(weight + first + k * step);
  }
  float sums[kPacks] = {};
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    const unsigned index = first + k * step;
    if (index < width) {
      if constexpr (kAdd) {
        held[k] = add(held[k], old[k]);
        store(residual + index, held[k]);
      }
      sums[k] = sum_of_squares(held[k]);
    }
  }
  allow_kernels_after();
  const float scale = scale_of(sum_of_packs(sums), params);
#pragma unroll
  for (unsigned k = 0; k < kPacks; ++k) {
    const unsigned index = first + k * step;
    if (index < width) store(out + index, scaled(held[k], scale, factors[k]));
  }
}

// The same for more than L2 holds, a pack to a thread: the pack is read again for its result, which
// takes few registers, and L2 is told what to keep until then. Written at once, out and residual
// take 2 % less time so.
template <typename T, int N>
__device__ void add_rms_norm_twice(const RmsNormParams& params) {
  const unsigned width = static_cast<unsigned>(params.width);
  const unsigned index = threadIdx.x * N;
  const i64 row = blockIdx.x;
  T* out = static_cast<T*>(params.out) + row * params.out_stride + index;
  const T* input = static_cast<const T*>(params.input) + row * params.input_stride + index;
  T* residual = static_cast<T*>(params.residual) + row * params.residual_stride + index;
  const T* weight = static_cast<const T*>(params.weight) + index;

  wait_for_kernels_before();
  float sum[1] = {};
  if (index < width) {
    const auto held = load_to_keep<T, N>(input), old = load_to_keep<T, N>(residual);
    sum[0] = sum_of_squares(add(held, old));
  }
  allow_kernels_after();
  const float scale = scale_of(sum_of_packs(sum), params);
  if (index < width) {
    const auto held = load_to_drop<T, N>(input), old = load_to_drop<T, N>(residual);
    const Pack<T, N> total = add(held, old);
    store(out, scaled(total, scale, load_to_keep<T, N>(weight)));
    store(residual, total);
  }
}

}  // namespace vllm

#define VLLM_NORM_KERNEL(name, call) \
  extern "C" __global__ void __launch_bounds__(1024) name(vllm::RmsNormParams p) { call(p); }

// `kind`: rms_norm, or with what is added. `_vec` takes packs of 16 bytes, and so do those of a
// row.
#define VLLM_RMS_NORM(kind, adds, name, T)                                               \
  VLLM_NORM_KERNEL(kind##_##name, (vllm::rms_norm<T, 1, adds>))                          \
  VLLM_NORM_KERNEL(kind##_##name##_vec, (vllm::rms_norm<T, vllm::kVector<T>, adds>))     \
  VLLM_NORM_KERNEL(kind##_##name##_few_rows,                                             \
                   (vllm::rms_norm_row<T, vllm::kVector<T>, adds, vllm::kFewRowsPacks>)) \
  VLLM_NORM_KERNEL(kind##_##name##_rows,                                                 \
                   (vllm::rms_norm_row<T, vllm::kVector<T>, adds, vllm::kRowPacks>))

#define VLLM_NORMS(name, T)                                      \
  VLLM_RMS_NORM(rms_norm, false, name, T)                        \
  VLLM_RMS_NORM(fused_add_rms_norm, true, name, T)               \
  extern "C" __global__ void __launch_bounds__(1024, 2)          \
      fused_add_rms_norm_##name##_twice(vllm::RmsNormParams p) { \
    vllm::add_rms_norm_twice<T, vllm::kVector<T>>(p);            \
  }

VLLM_NORMS(f32, float)
VLLM_NORMS(f16, vllm::Half)
VLLM_NORMS(bf16, vllm::BFloat16)
