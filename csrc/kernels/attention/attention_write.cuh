// Writes results in the layout of mma accumulators: each lane of a quad has two of 8 columns.
#pragma once

#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"

namespace vllm {

// Reductions over the four lanes (a quad) that hold a row.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}

// Exchanges between lanes that differ in `bit`: the lane without it swaps its second word for the
// other's first.
__device__ __forceinline__ void exchange(unsigned& first, unsigned& second, int bit) {
  const bool upper = (threadIdx.x & bit) != 0;
  const unsigned got = __shfl_xor_sync(kFullWarp, upper ? first : second, bit);
  first = upper ? got : first;
  second = upper ? second : got;
}

// Writes a row of 8 kBlocks elements; words[i] has the lane's two of the i-th 8 elements. `to` is
// null for a row that does not exist. All lanes of the warp call it.
template <typename T, int kBlocks>
__device__ __forceinline__ void write_row(T* to, unsigned (&words)[kBlocks]) {
  constexpr int kWhole = kBlocks / 4 * 4;
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kWhole; i += 4) {
    // Transposes four groups of 8 columns within a quad, so that each lane writes 16 bytes at once.
    exchange(words[i], words[i + 1], 1);
    exchange(words[i + 2], words[i + 3], 1);
    exchange(words[i], words[i + 2], 2);
    exchange(words[i + 1], words[i + 3], 2);
    if (to != nullptr) {
      *reinterpret_cast<uint4*>(to + 8 * (i + lane)) =
          make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
    }
  }
#pragma unroll
  for (int i = kWhole; i < kBlocks; ++i) {
    if (to != nullptr) *reinterpret_cast<unsigned*>(to + 8 * i + 2 * lane) = words[i];
  }
}

}  // namespace vllm
