#include "ops/ops.h"
#include "ops/rotary/rotary.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "rotary_embedding";

}  // namespace

void rotary_embedding(const Tensor& positions, const Tensor& query, const Tensor* key,
                      int64_t head_size, const Tensor& cos_sin_cache, bool is_neox) {
  const RotaryEmbeddingParams params =
      require_rotary(kOp, positions, query, key, head_size, cos_sin_cache, is_neox);
  // Before anything is written, so that on the CPU a wrong position leaves query and key unchanged.
  if (query.device_type == DeviceType::cpu) {
    require_positions_in_range(kOp, positions, params.max_position);
  }
  run_rotary(kOp, params, query);
}

}  // namespace vllm::ops
