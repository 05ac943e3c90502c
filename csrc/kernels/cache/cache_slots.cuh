// Addresses of slots in a paged KV cache.
#pragma once

#include "params/cache.h"

namespace vllm {

// Element offsets of a slot in the caches of keys and of values.
struct SlotOffsets {
  i64 key;
  i64 value;
};

// `slot` is in [0, capacity).
__device__ inline SlotOffsets slot_offsets(const ReshapeAndCacheParams& p, i64 slot) {
  i64 block, at;
  if (p.capacity <= 0xffffffffll) {  // dividing 64 bits takes several times as long
    const unsigned size = static_cast<unsigned>(p.block_size), s = static_cast<unsigned>(slot);
    block = s / size;
    at = s % size;
  } else {
    block = slot / p.block_size;
    at = slot % p.block_size;
  }
  return {block * p.key_block_stride + at * p.key_slot_stride,
          block * p.value_block_stride + at * p.value_slot_stride};
}

}  // namespace vllm
