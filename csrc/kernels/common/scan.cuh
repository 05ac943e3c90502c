// Reductions and prefix sums over the threads of a CTA. The CTA consists of whole warps; all
// threads must call these functions, and need not synchronise between calls.
#pragma once

#include "kernels/common/reduce.cuh"

namespace vllm {

using u64 = unsigned long long;

__device__ inline float negative_infinity() { return __uint_as_float(0xff800000u); }

// The greatest `value`, in every thread; -inf stands for NaN.
__device__ inline float block_max(float value) {
  __shared__ float partial[32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = warp_max(value);
  __syncthreads();  // all threads have read the results of the previous call
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_max(lane < blockDim.x / 32 ? partial[lane] : negative_infinity());
}

// Inclusive prefix sum: the sum of `value` over the lanes up to this one.
template <typename V>
__device__ V warp_scan(V value) {
  const unsigned lane = threadIdx.x % 32;
  for (int distance = 1; distance < 32; distance *= 2) {
    const V before = __shfl_up_sync(kFullWarp, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

// The sum of `value` over all lanes, in each of them.
template <typename V>
__device__ V warp_total(V value) {
  return __shfl_sync(kFullWarp, warp_scan(value), 31);
}

struct Scan {
  u64 before;  // the sum over the threads before this one
  u64 total;   // over all of them
};

__device__ inline Scan block_scan(u64 value) {
  __shared__ u64 partial[32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const u64 inside = warp_scan(value);
  __syncthreads();
  if (lane == 31) partial[warp] = inside;
  __syncthreads();
  const u64 warps = warp_scan(lane < blockDim.x / 32 ? partial[lane] : 0);
  const u64 earlier = __shfl_sync(kFullWarp, warps, warp == 0 ? 0 : warp - 1);
  return {(warp == 0 ? 0 : earlier) + inside - value, __shfl_sync(kFullWarp, warps, 31)};
}

// atomicAdd on shared memory for a single thread: NVRTC would turn atomicAdd into a reduction over
// the active threads.
__device__ inline unsigned add_shared(unsigned* to, unsigned value) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  unsigned before;
  asm volatile("atom.shared.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "r"(address), "r"(value)
               : "memory");
  return before;
}

}  // namespace vllm
