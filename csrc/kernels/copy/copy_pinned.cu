// Copies a few int64 between device memory and pinned host memory, which the GPU accesses directly.
#include "kernels/common/early_launch.cuh"
#include "params/copy.h"

extern "C" __global__ void __launch_bounds__(256) copy_pinned(vllm::CopyPinnedParams p) {
  using vllm::i64;
  vllm::wait_for_kernels_before();
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.count; i += step) {
    p.out[i] = p.input[i];
  }
}
