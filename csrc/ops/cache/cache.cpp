#include "ops/cache/cache.h"

#include "ops/common/launch.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

// [tokens, kv_heads, head_size], of the heads that its cache has.
void require_tokens(const char* op, const Tensor& tensor, i64 tokens, const Cache& cache) {
  if (tensor.ndim != 3 || tensor.shape[0] != tokens || tensor.shape[1] != cache.kv_heads ||
      tensor.shape[2] != cache.head_size) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", tokens, ", ", cache.kv_heads, ", ", cache.head_size,
                  "), by 'slot_mapping' and the caches"));
  }
  require_contiguous_last(op, tensor);
}

}  // namespace

Cache require_cache(const char* op, const Tensor& tensor, const Tensor& like) {
  require_same_dtype(op, tensor, like);
  require_same_device(op, tensor, like);
  require_ndim(op, tensor, 4, "(blocks, block_size, kv_heads, head_size)");
  require_contiguous_last(op, tensor);
  if (tensor.shape[1] < 1) {
    refuse(ErrorKind::value, op, tensor, concat("has shape ", shape_text(tensor)),
           "KV blocks of at least one token");
  }
  return {tensor.shape[0],   tensor.shape[1],   tensor.shape[2],  tensor.shape[3],
          tensor.strides[0], tensor.strides[1], tensor.strides[2]};
}

ReshapeAndCacheParams require_cache_write(const char* op, const Tensor& key, const Tensor& value,
                                          const Tensor& key_cache, const Tensor& value_cache,
                                          const Tensor& slot_mapping) {
  require_same_dtype(op, value, key);
  require_same_device(op, value, key);
  require_dtype(op, slot_mapping, DType::int64, "");
  require_same_device(op, slot_mapping, key);
  require_ndim(op, slot_mapping, 1, "(tokens,)");
  require_contiguous_last(op, slot_mapping);
  const Cache keys = require_cache(op, key_cache, key);
  require_same_shape(op, value_cache, key_cache);
  const Cache values = require_cache(op, value_cache, key);
  const i64 tokens = slot_mapping.shape[0];
  require_tokens(op, key, tokens, keys);
  require_tokens(op, value, tokens, values);
  for (const Tensor* cache : {&key_cache, &value_cache}) {
    require_writable(op, *cache);
    for (const Tensor* read : {&key, &value, &slot_mapping}) {
      require_disjoint(op, *cache, *read, Sharing::none);
    }
  }
  require_disjoint(op, key_cache, value_cache, Sharing::none);

  ReshapeAndCacheParams params{};
  params.key = key.data;
  params.value = value.data;
  params.key_cache = key_cache.data;
  params.value_cache = value_cache.data;
  params.slots = static_cast<const i64*>(slot_mapping.data);
  params.tokens = tokens;
  params.kv_heads = keys.kv_heads;
  params.head_size = keys.head_size;
  params.block_size = keys.block_size;
  params.capacity = keys.blocks * keys.block_size;
  params.key_token_stride = key.strides[0];
  params.key_head_stride = key.strides[1];
  params.value_token_stride = value.strides[0];
  params.value_head_stride = value.strides[1];
  params.key_block_stride = keys.block_stride;
  params.key_slot_stride = keys.slot_stride;
  params.key_cache_head_stride = keys.head_stride;
  params.value_block_stride = values.block_stride;
  params.value_slot_stride = values.slot_stride;
  params.value_cache_head_stride = values.head_stride;
  return params;
}

void require_slots_in_range(const char* op, const Tensor& slots, i64 capacity) {
  const auto* values = static_cast<const i64*>(slots.data);
  for (i64 i = 0; i < slots.shape[0]; ++i) {
    if (values[i] < -1 || values[i] >= capacity) {
      refuse(ErrorKind::index, op, slots, concat("holds ", values[i], " at index ", i),
             concat("0 to ", capacity - 1, ", the slots of the caches, or -1 to skip a token"));
    }
  }
}

bool packs_cache_write(const ReshapeAndCacheParams& p, i64 part, i64 element_size) {
  const auto packs = [&](const void* data, i64 rows, i64 stride) {
    return packs_16_bytes(data, rows, stride, part, element_size);
  };
  const i64 blocks = p.capacity / p.block_size;
  return packs(p.key, p.tokens, p.key_token_stride) &&
         packs(p.key, p.kv_heads, p.key_head_stride) &&
         packs(p.value, p.tokens, p.value_token_stride) &&
         packs(p.value, p.kv_heads, p.value_head_stride) &&
         packs(p.key_cache, blocks, p.key_block_stride) &&
         packs(p.key_cache, p.block_size, p.key_slot_stride) &&
         packs(p.key_cache, p.kv_heads, p.key_cache_head_stride) &&
         packs(p.value_cache, blocks, p.value_block_stride) &&
         packs(p.value_cache, p.block_size, p.value_slot_stride) &&
         packs(p.value_cache, p.kv_heads, p.value_cache_head_stride);
}

}  // namespace vllm::ops
