// The arguments of writes into a paged cache.
#pragma once

#include "params/types.h"

namespace vllm {

// Slot s of a paged cache is token s % block_size of block s / block_size.
// key_cache[slots[t]] = key[t], and the same for the values. A negative slot skips a token, and so
// does one out of range on CUDA; on the CPU the caller has checked all slots.
struct ReshapeAndCacheParams {
  const void* key;    // [tokens, kv_heads, head_size]
  const void* value;  // [tokens, kv_heads, head_size]
  void* key_cache;    // [blocks, block_size, kv_heads, head_size]
  void* value_cache;  // [blocks, block_size, kv_heads, head_size]
  const i64* slots;   // [tokens], each -1 or in [0, capacity)
  i64 tokens;
  i64 kv_heads;
  i64 head_size;
  i64 block_size;
  i64 capacity;  // blocks * block_size
  i64 key_token_stride;
  i64 key_head_stride;
  i64 value_token_stride;
  i64 value_head_stride;
  i64 key_block_stride;
  i64 key_slot_stride;
  i64 key_cache_head_stride;
  i64 value_block_stride;
  i64 value_slot_stride;
  i64 value_cache_head_stride;
  i64 first;  // CUDA: the token that a launch begins with
};

}  // namespace vllm
