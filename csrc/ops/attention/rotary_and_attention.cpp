#include "ops/attention/paged_attention.h"
#include "ops/common/launch.h"
#include "ops/rotary/rotary.h"

namespace vllm::ops {

void rotary_and_attention(const Tensor& out, const Tensor& positions, const Tensor& query,
                          const Tensor& key, const Tensor& value, const Tensor& cos_sin_cache,
                          const Tensor& key_cache, const Tensor& value_cache,
                          const Tensor& slot_mapping, const Tensor& block_tables,
                          const Tensor& context_lens, const Tensor& query_starts, double scale,
                          int64_t sliding_window, double soft_cap, const Tensor* query_weight,
                          const Tensor* key_weight, double epsilon, const AttentionPlan* plan) {
  constexpr const char* kOp = "rotary_and_attention";
  const PagedAttentionParams attention =
      require_paged_attention(kOp, out, query, key_cache, value_cache, block_tables, context_lens,
                              query_starts, scale, sliding_window, soft_cap);
  RotaryEmbeddingParams rotary =
      require_rotary_and_cache(kOp, positions, query, key, value, cos_sin_cache, key_cache,
                               value_cache, slot_mapping, query_weight, key_weight, epsilon);
  for (const Tensor* read : {&key, &value, &positions, &cos_sin_cache, &slot_mapping}) {
    require_disjoint(kOp, out, *read, Sharing::none);
  }
  for (const Tensor* weight : {query_weight, key_weight}) {
    if (weight != nullptr) require_disjoint(kOp, out, *weight, Sharing::none);
  }
  rotary.metadata_ready = plan != nullptr && plan->metadata_ready;
  if (query.device_type == DeviceType::cuda &&
      run_rotating_attention_on_cuda(kOp, attention, rotary, out, query, plan)) {
    return;
  }
  run_rotary(kOp, rotary, query);
  run_paged_attention(kOp, attention, out, query, plan);
}

}  // namespace vllm::ops
