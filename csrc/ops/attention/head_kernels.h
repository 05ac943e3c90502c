// The kernels on tensor cores for one head size.
#pragma once

#include <cstddef>

#include "params/types.h"
#include "runtime/kernel.h"
#include "runtime/tensor.h"

namespace vllm::ops {

struct HeadKernels {
  int head_size;
  cuda::Kernel half;
  cuda::Kernel bfloat16;
};

// Null where there is none.
template <size_t kCount>
cuda::Kernel* find_kernel(HeadKernels (&kernels)[kCount], i64 head_size, DType dtype) {
  for (HeadKernels& each : kernels) {
    if (each.head_size != head_size) continue;
    return dtype == DType::float16 ? &each.half : &each.bfloat16;
  }
  return nullptr;
}

}  // namespace vllm::ops
