// What the two ops that use a paged cache ask of it.
#pragma once

#include "ops/checks.h"

namespace vllm::ops {

// A cache of keys or values: [blocks, block_size, kv_heads, head_size], any strides but the last.
struct Cache {
  i64 blocks;
  i64 block_size;
  i64 kv_heads;
  i64 head_size;
  i64 block_stride;
  i64 slot_stride;
  i64 head_stride;
};
Cache require_cache(const char* op, const Tensor& tensor, const Tensor& like);

// The kernels for a GPU are not in this build.
[[noreturn]] void refuse_cuda(const char* op, const Tensor& tensor);

}  // namespace vllm::ops
