// Sums over threads, and the scale of an RMS norm.
#pragma once

namespace vllm {

constexpr unsigned kFullWarp = 0xffffffffu;  // all lanes take part

// Butterfly reduction: the sum of `value` over aligned groups of 2^bits adjacent threads of a warp,
// in each of them, adding the nearest neighbours first. All threads of a group must call it; other
// threads of the warp need not.
__device__ inline float group_sum(float value, int bits) {
  const unsigned size = 1u << bits;
  const unsigned first = threadIdx.x & 31 & ~(size - 1);
  const unsigned mask = (0xffffffffu >> (32 - size)) << first;
  for (unsigned distance = 1; distance < size; distance *= 2) {
    value += __shfl_xor_sync(mask, value, distance);
  }
  return value;
}

__device__ inline float warp_max(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, distance));
  }
  return value;
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, distance);
  }
  return value;
}

// The sum of `value` over all threads of the CTA, in every thread. The CTA consists of whole warps,
// and all threads must call it. Consecutive calls must alternate `parity`, which double-buffers the
// sums: a thread may be in the next call while another still reads the sums of this one.
__device__ inline float block_sum(float value, unsigned parity) {
  __shared__ float partial[2][32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = warp_sum(value);
  if (lane == 0) partial[parity][warp] = value;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? partial[parity][lane] : 0.0f);
}

// The RMS norm's scale of `count` values whose squares add up to `sum`.
__device__ inline float norm_scale(float sum, float count, float epsilon) {
  return rsqrtf(__fdividef(sum, count) + epsilon);
}

}  // namespace vllm
