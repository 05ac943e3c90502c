// silu(x) * y over rows that hold x and y side by side: blocks along x take rows, along y parts of
// a row.
#include "early_launch.cuh"
#include "float_types.cuh"
#include "params.h"

namespace vllm {

// For 16-bit results the fast exponential and division do: they are right to more than 16 bits, and
// the exact ones would take longer than memory does.
template <typename T>
__device__ float silu(float x) {
  if constexpr (sizeof(T) == 2) return __fdividef(x, 1.0f + __expf(-x));
  return x / (1.0f + expf(-x));
}

// N: elements of a pack; it divides the width, and every row starts at a multiple of its size.
template <typename T, int N>
__device__ void silu_and_mul(const SiluAndMulParams& params) {
  wait_for_kernels_before();
  const unsigned step = gridDim.y * blockDim.x * N;
  const unsigned width = static_cast<unsigned>(params.width);

  for (i64 row = blockIdx.x; row < params.rows; row += gridDim.x) {
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    const T* gate = static_cast<const T*>(params.input) + row * params.input_stride;
    const T* up = gate + params.width;
    unsigned first = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    for (; first < width; first += kSiluPacks * step) {
      Pack<T, N> x[kSiluPacks], y[kSiluPacks];
#pragma unroll
      for (unsigned k = 0; k < kSiluPacks; ++k) {
        if (first + k * step < width) {
          x[k] = load<T, N>(gate + first + k * step);
          y[k] = load<T, N>(up + first + k * step);
        }
      }
      if (row + gridDim.x >= params.rows) allow_kernels_after();
#pragma unroll
      for (unsigned k = 0; k < kSiluPacks; ++k) {
        if (first + k * step >= width) break;
        float values[N];
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = silu<T>(x[k].get(i)) * y[k].get(i);
        Pack<T, N> result;
        result.set(values);
        store(out + first + k * step, result);
      }
    }
  }
}

}  // namespace vllm

#define VLLM_SILU_AND_MUL(name, T)                          \
  extern "C" __global__ void __launch_bounds__(1024)        \
      silu_and_mul_##name(vllm::SiluAndMulParams p) {       \
    vllm::silu_and_mul<T, 1>(p);                            \
  }                                                         \
  extern "C" __global__ void __launch_bounds__(1024)        \
      silu_and_mul_##name##_vec(vllm::SiluAndMulParams p) { \
    vllm::silu_and_mul<T, vllm::kVector<T>>(p);             \
  }

VLLM_SILU_AND_MUL(f32, float)
VLLM_SILU_AND_MUL(f16, vllm::Half)
VLLM_SILU_AND_MUL(bf16, vllm::BFloat16)
