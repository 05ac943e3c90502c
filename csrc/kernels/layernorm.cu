// RMS norm, with and without adding to the residual stream first: a block per row.
//
// Each thread keeps its first packs of the row in registers between the two passes (the sum of
// squares, then the scaling), so rows of up to 2 * 1024 packs are read from memory once.
#include "float_types.cuh"
#include "params.h"
#include "reduce.cuh"

namespace vllm {

constexpr int kHeld = 2;  // packs of a row that a thread keeps in registers

// One pack of the row to be normalized. With kAdd it is the new residual, which is stored here.
template <typename T, int N, bool kAdd>
__device__ Pack<T, N> read_pack(const T* input, T* residual, unsigned index) {
  Pack<T, N> pack = load<T, N>(input + index);
  if constexpr (kAdd) {
    const Pack<T, N> old = load<T, N>(residual + index);
    for (int i = 0; i < N; ++i) {
      pack.values[i] = from_float<T>(to_float(pack.values[i]) + to_float(old.values[i]));
    }
    store(residual + index, pack);
  }
  return pack;
}

template <typename T, int N>
__device__ float sum_of_squares(const Pack<T, N>& pack) {
  float sum = 0.0f;
  for (int i = 0; i < N; ++i) {
    const float value = to_float(pack.values[i]);
    sum += value * value;
  }
  return sum;
}

template <typename T, int N>
__device__ void write_pack(T* out, const T* weight, const Pack<T, N>& pack, float scale,
                           unsigned index) {
  const Pack<T, N> factors = load<T, N>(weight + index);
  Pack<T, N> result;
  for (int i = 0; i < N; ++i) {
    result.values[i] =
        from_float<T>(to_float(pack.values[i]) * scale * to_float(factors.values[i]));
  }
  store(out + index, result);
}

// N: elements of a pack; it divides the width, and every row starts at a multiple of its size.
template <typename T, int N, bool kAdd>
__device__ void rms_norm(const RmsNormParams& params) {
  const unsigned width = static_cast<unsigned>(params.width);
  const unsigned first = threadIdx.x * N, step = blockDim.x * N;
  const T* weight = static_cast<const T*>(params.weight);

  for (i64 row = blockIdx.x; row < params.rows; row += gridDim.x) {
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    const T* input = static_cast<const T*>(params.input) + row * params.input_stride;
    T* residual = kAdd ? static_cast<T*>(params.residual) + row * params.residual_stride : nullptr;

    Pack<T, N> held[kHeld];
    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      if (first + k * step < width) {
        held[k] = read_pack<T, N, kAdd>(input, residual, first + k * step);
        sum += sum_of_squares(held[k]);
      }
    }
    for (unsigned index = first + kHeld * step; index < width; index += step) {
      sum += sum_of_squares(read_pack<T, N, kAdd>(input, residual, index));
    }

    const float mean = block_sum(sum) / static_cast<float>(width);
    const float scale = 1.0f / sqrtf(mean + params.epsilon);
#pragma unroll
    for (unsigned k = 0; k < kHeld; ++k) {
      if (first + k * step < width) {
        write_pack(out, weight, held[k], scale, first + k * step);
      }
    }
    // A thread reads again only what it wrote itself, or what nobody writes.
    const T* row_values = kAdd ? residual : input;
    for (unsigned index = first + kHeld * step; index < width; index += step) {
      write_pack(out, weight, load<T, N>(row_values + index), scale, index);
    }
  }
}

}  // namespace vllm

#define VLLM_RMS_NORM(name, T)                                                                \
  extern "C" __global__ void __launch_bounds__(1024) rms_norm_##name(vllm::RmsNormParams p) { \
    vllm::rms_norm<T, 1, false>(p);                                                           \
  }                                                                                           \
  extern "C" __global__ void __launch_bounds__(1024)                                          \
      rms_norm_##name##_vec(vllm::RmsNormParams p) {                                          \
    vllm::rms_norm<T, vllm::kVector<T>, false>(p);                                            \
  }                                                                                           \
  extern "C" __global__ void __launch_bounds__(1024)                                          \
      fused_add_rms_norm_##name(vllm::RmsNormParams p) {                                      \
    vllm::rms_norm<T, 1, true>(p);                                                            \
  }                                                                                           \
  extern "C" __global__ void __launch_bounds__(1024)                                          \
      fused_add_rms_norm_##name##_vec(vllm::RmsNormParams p) {                                \
    vllm::rms_norm<T, vllm::kVector<T>, true>(p);                                             \
  }

VLLM_RMS_NORM(f32, float)
VLLM_RMS_NORM(f16, vllm::Half)
VLLM_RMS_NORM(bf16, vllm::BFloat16)
