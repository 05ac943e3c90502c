// The sigmoid-weighted linear unit.
#pragma once

namespace vllm {

// silu(x), to be rounded to T. For 16-bit results it uses the fast exponential and division: they
// are accurate to more than 16 bits, and the exact ones would take longer than the memory accesses.
template <typename T>
__device__ float silu(float x) {
  if constexpr (sizeof(T) == 2) return __fdividef(x, 1.0f + __expf(-x));
  return x / (1.0f + expf(-x));
}

}  // namespace vllm
