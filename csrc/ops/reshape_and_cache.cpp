#include "ops/cache.h"
#include "ops/launch.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "reshape_and_cache";

// [tokens, kv_heads, head_size], of the heads that its cache has.
void require_tokens(const Tensor& tensor, i64 tokens, const Cache& cache) {
  if (tensor.ndim != 3 || tensor.shape[0] != tokens || tensor.shape[1] != cache.kv_heads ||
      tensor.shape[2] != cache.head_size) {
    refuse(ErrorKind::value, kOp, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", tokens, ", ", cache.kv_heads, ", ", cache.head_size,
                  "), by 'slot_mapping' and the caches"));
  }
  require_contiguous_last(kOp, tensor);
}

// Before anything is written: on the CPU a wrong slot leaves the caches as they were.
void require_slots_in_range(const Tensor& slots, i64 capacity) {
  const auto* values = static_cast<const i64*>(slots.data);
  for (i64 i = 0; i < slots.shape[0]; ++i) {
    if (values[i] < -1 || values[i] >= capacity) {
      refuse(ErrorKind::index, kOp, slots, concat("holds ", values[i], " at index ", i),
             concat("0 to ", capacity - 1, ", the slots of the caches, or -1 to skip a token"));
    }
  }
}

}  // namespace

void reshape_and_cache(const Tensor& key, const Tensor& value, const Tensor& key_cache,
                       const Tensor& value_cache, const Tensor& slot_mapping) {
  require_float(kOp, key);
  require_same_dtype(kOp, value, key);
  require_same_device(kOp, value, key);
  require_dtype(kOp, slot_mapping, DType::int64, "");
  require_same_device(kOp, slot_mapping, key);
  require_ndim(kOp, slot_mapping, 1, "(tokens,)");
  require_contiguous_last(kOp, slot_mapping);
  const Cache keys = require_cache(kOp, key_cache, key);
  require_same_shape(kOp, value_cache, key_cache);
  const Cache values = require_cache(kOp, value_cache, key);
  const i64 tokens = slot_mapping.shape[0];
  require_tokens(key, tokens, keys);
  require_tokens(value, tokens, values);
  for (const Tensor* cache : {&key_cache, &value_cache}) {
    require_writable(kOp, *cache);
    for (const Tensor* read : {&key, &value, &slot_mapping}) {
      require_disjoint(kOp, *cache, *read, Sharing::none);
    }
  }
  require_disjoint(kOp, key_cache, value_cache, Sharing::none);

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
  if (key.device_type == DeviceType::cuda) refuse_cuda(kOp, key);
  require_slots_in_range(slot_mapping, keys.blocks * keys.block_size);
  if (tokens == 0 || params.kv_heads == 0 || params.head_size == 0) return;
  run_on_cpu(cpu::kernels().reshape_and_cache[float_index(key.dtype)], params, tokens,
             4 * tokens * params.kv_heads * params.head_size * element_size(key.dtype));
}

}  // namespace vllm::ops
