// Pinned host memory, which a GPU accesses directly.
#pragma once

#include "runtime/tensor.h"

namespace vllm::ops {

// The device address of a tensor in pinned host memory; refuses other tensors. Not cached, since
// memory may be freed and pinned again.
void* device_pointer(const char* op, const Tensor& host);

}  // namespace vllm::ops
