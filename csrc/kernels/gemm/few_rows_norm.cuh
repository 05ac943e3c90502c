// The norm before a product of few rows: inputs are multiplied by its weight, and by its scale.
#pragma once

#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// Whether the norm's scale is applied to the inputs, before they are rounded, or to the product.
// The former has to read all inputs first, but unscaled inputs might overflow float16.
template <typename T>
constexpr bool kScaleFirst = false;
template <>
constexpr bool kScaleFirst<Half> = true;

template <typename T>
__device__ float sum_of_squares(const Pack<T, 8>& pack) {
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < 8; ++k) sum += pack.get(k) * pack.get(k);
  return sum;
}

// x * weight, each product rounded once.
__device__ inline Pack<BFloat16, 8> unscaled_norm(const Pack<BFloat16, 8>& x,
                                                  const Pack<BFloat16, 8>& weight) {
  Pack<BFloat16, 8> result;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"  // + -0: mul.bf16x2 needs 9.0
        : "=r"(result.words[k])
        : "r"(x.words[k]), "r"(weight.words[k]), "r"(0x80008000u));
  }
  return result;
}

template <typename T>
__device__ Pack<T, 8> scaled_norm(const Pack<T, 8>& x, float scale, const Pack<T, 8>& weight) {
  float values[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) values[k] = x.get(k) * scale * weight.get(k);
  Pack<T, 8> result;
  result.set(values);
  return result;
}

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
