// Checks that the ops on a paged cache share.
#pragma once

#include "ops/common/checks.h"
#include "params/cache.h"

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

// Checks the arguments of a cache write, which two ops have in common, and makes its parameters.
ReshapeAndCacheParams require_cache_write(const char* op, const Tensor& key, const Tensor& value,
                                          const Tensor& key_cache, const Tensor& value_cache,
                                          const Tensor& slot_mapping);

// IndexError for a slot that is neither -1 nor in [0, capacity). Reads them: on the CPU only.
void require_slots_in_range(const char* op, const Tensor& slots, i64 capacity);

// Whether heads can be moved in 16-byte packs; `part` is a length that packs must divide.
bool packs_cache_write(const ReshapeAndCacheParams& params, i64 part, i64 element_size);

}  // namespace vllm::ops
