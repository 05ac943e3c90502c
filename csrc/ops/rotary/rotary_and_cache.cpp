#include "ops/cache/cache.h"
#include "ops/common/launch.h"
#include "ops/norm/norm.h"
#include "ops/ops.h"
#include "ops/rotary/rotary.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

// Checks that keys and values have the tokens and the head size of the query.
void require_fitting(const char* op, const RotaryEmbeddingParams& params, const Tensor& query,
                     const Tensor& slot_mapping, const Tensor& key_cache) {
  if (params.head_size > cpu::kMaxHeadSize) {
    refuse(ErrorKind::value, op, query, concat("has shape ", shape_text(query)),
           concat("heads of at most ", cpu::kMaxHeadSize, " elements"));
  }
  require_vector(op, slot_mapping, params.tokens, "the length of 'positions'");
  if (params.write.head_size != params.head_size) {
    refuse(ErrorKind::value, op, key_cache, concat("has shape ", shape_text(key_cache)),
           concat("heads of ", params.head_size, " elements, those of 'query'"));
  }
}

}  // namespace

RotaryEmbeddingParams require_rotary_and_cache(const char* op, const Tensor& positions,
                                               const Tensor& query, const Tensor& key,
                                               const Tensor& value, const Tensor& cos_sin_cache,
                                               const Tensor& key_cache, const Tensor& value_cache,
                                               const Tensor& slot_mapping,
                                               const Tensor* query_weight, const Tensor* key_weight,
                                               double epsilon) {
  require_float(op, query);
  require_ndim(op, query, 3, "(tokens, heads, head_size)");
  RotaryEmbeddingParams params =
      require_rotary(op, positions, query, nullptr, query.shape[2], cos_sin_cache, true);
  require_same_dtype(op, key, query);
  require_same_device(op, key, query);
  params.write = require_cache_write(op, key, value, key_cache, value_cache, slot_mapping);
  require_fitting(op, params, query, slot_mapping, key_cache);
  for (const Tensor* other : {&key, &value, &key_cache, &value_cache, &slot_mapping}) {
    require_disjoint(op, query, *other, Sharing::none);
  }
  for (const Tensor* cache : {&key_cache, &value_cache}) {
    require_disjoint(op, *cache, positions, Sharing::none);
    require_disjoint(op, *cache, cos_sin_cache, Sharing::none);
  }
  for (const Tensor* weight : {query_weight, key_weight}) {
    if (weight == nullptr) continue;
    require_same_dtype(op, *weight, query);
    require_same_device(op, *weight, query);
    require_vector(op, *weight, params.head_size, "the last dimension of 'query'");
    for (const Tensor* written : {&query, &key_cache, &value_cache}) {
      require_disjoint(op, *written, *weight, Sharing::none);
    }
  }

  params.key = key.data;
  params.query_weight = query_weight != nullptr ? query_weight->data : nullptr;
  params.key_weight = key_weight != nullptr ? key_weight->data : nullptr;
  params.key_heads = params.write.kv_heads;
  params.key_token_stride = params.write.key_token_stride;
  params.key_head_stride = params.write.key_head_stride;
  params.epsilon = require_epsilon(op, epsilon);
  // Before anything is written, so that on the CPU a wrong index leaves query and caches unchanged.
  if (query.device_type == DeviceType::cpu) {
    require_positions_in_range(op, positions, params.max_position);
    require_slots_in_range(op, slot_mapping, params.write.capacity);
  }
  return params;
}

void rotary_and_cache(const Tensor& positions, const Tensor& query, const Tensor& key,
                      const Tensor& value, const Tensor& cos_sin_cache, const Tensor& key_cache,
                      const Tensor& value_cache, const Tensor& slot_mapping,
                      const Tensor* query_weight, const Tensor* key_weight, double epsilon,
                      bool metadata_ready) {
  constexpr const char* kOp = "rotary_and_cache";
  RotaryEmbeddingParams params =
      require_rotary_and_cache(kOp, positions, query, key, value, cos_sin_cache, key_cache,
                               value_cache, slot_mapping, query_weight, key_weight, epsilon);
  params.metadata_ready = metadata_ready;
  run_rotary(kOp, params, query);
}

}  // namespace vllm::ops
