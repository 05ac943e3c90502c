// silu(x) * y of rows that hold x and y concatenated. Each thread computes one pack; the grid's x
// dimension covers the parts of a row, its y dimension the rows.
#include "kernels/activation/silu.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/activation.h"

namespace vllm {

// N: elements of a pack; it divides the width, and every row starts at a multiple of its size.
template <typename T, int N>
__device__ void silu_and_mul(const SiluAndMulParams& p) {
  const unsigned width = static_cast<unsigned>(p.width);
  const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (i >= width) return;
  const i64 row = p.first + blockIdx.y;
  const T* gate = static_cast<const T*>(p.input) + row * p.input_stride + i;
  T* out = static_cast<T*>(p.out) + row * p.out_stride + i;

  wait_for_kernels_before();
  const Pack<T, N> x = load<T, N>(gate), y = load<T, N>(gate + width);
  allow_kernels_after();
  float values[N];
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] = silu<T>(x.get(k)) * y.get(k);
  Pack<T, N> result;
  result.set(values);
  store(out, result);
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
