// Sums over the threads of a block.
#pragma once

namespace vllm {

__device__ inline float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

// The sum of `value` over all threads, in every thread. Threads come in whole warps. All of them
// must call it, and it may be called again at once.
__device__ inline float block_sum(float value) {
  __shared__ float partial[32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = warp_sum(value);
  __syncthreads();  // the readers of the call before are done
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? partial[lane] : 0.0f);
}

}  // namespace vllm
