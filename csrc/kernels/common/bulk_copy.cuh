// Bulk copies of boxes of a tensor into shared memory, by PTX (ISA, "cp.async.bulk.tensor").
// Compute capability 9.0 and later.
#pragma once

#include "params/tensor_map.h"

namespace vllm {

#if __CUDA_ARCH__ >= 900

// Starts to copy the box at these coordinates to shared memory; completion is counted in bytes at
// `barrier`. Elements outside of the tensor become zeros. The map must be a __grid_constant__
// parameter, or part of one.
__device__ inline void copy_box(unsigned to, const TensorMap& map, unsigned barrier, int c0, int c1,
                                int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

__device__ inline void prefetch_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

#endif  // __CUDA_ARCH__ >= 900

}  // namespace vllm
