// Writing new tokens into a paged cache. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "params/cache.h"

namespace vllm::cpu {
namespace {

template <typename T>
inline void copy_heads(const void* from, i64 from_offset, i64 from_head_stride, void* to,
                       i64 to_offset, i64 to_head_stride, i64 heads, i64 head_size) {
  const T* source = static_cast<const T*>(from) + from_offset;
  T* target = static_cast<T*>(to) + to_offset;
  for (i64 h = 0; h < heads; ++h) {
    __builtin_memcpy(target + h * to_head_stride, source + h * from_head_stride,
                     static_cast<unsigned long>(head_size) * sizeof(T));
  }
}

// Element offsets of a slot in the caches of keys and of values.
struct SlotOffsets {
  i64 key;
  i64 value;
};
inline SlotOffsets slot_offsets(const ReshapeAndCacheParams& p, i64 slot) {
  const i64 block = slot / p.block_size, at = slot % p.block_size;
  return {block * p.key_block_stride + at * p.key_slot_stride,
          block * p.value_block_stride + at * p.value_slot_stride};
}

template <typename T>
inline void reshape_and_cache(const ReshapeAndCacheParams& p, i64 begin, i64 end) {
  for (i64 token = begin; token < end; ++token) {
    if (p.slots[token] < 0) continue;
    const SlotOffsets slot = slot_offsets(p, p.slots[token]);
    copy_heads<T>(p.key, token * p.key_token_stride, p.key_head_stride, p.key_cache, slot.key,
                  p.key_cache_head_stride, p.kv_heads, p.head_size);
    copy_heads<T>(p.value, token * p.value_token_stride, p.value_head_stride, p.value_cache,
                  slot.value, p.value_cache_head_stride, p.kv_heads, p.head_size);
  }
}

}  // namespace
}  // namespace vllm::cpu
