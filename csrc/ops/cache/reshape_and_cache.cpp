#include "ops/cache/cache.h"
#include "ops/common/launch.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "reshape_and_cache";

cuda::Kernel cuda_kernels[2][2] = {
    {{"reshape_and_cache", "reshape_and_cache_16"},
     {"reshape_and_cache", "reshape_and_cache_16_vec"}},
    {{"reshape_and_cache", "reshape_and_cache_32"},
     {"reshape_and_cache", "reshape_and_cache_32_vec"}},
};

void run_cache_write_on_cuda(const ReshapeAndCacheParams& p, const Tensor& key) {
  if (p.kv_heads > kMaxWidth / p.head_size) {
    refuse(ErrorKind::value, kOp, key, concat("has ", p.kv_heads, " heads"),
           concat("at most ", kMaxWidth / p.head_size, " of ", p.head_size, " elements"));
  }
  const i64 size = element_size(key.dtype);
  const bool vectors = packs_cache_write(p, p.head_size, size);
  run_packs_on_cuda(cuda_kernels[size == 2 ? 0 : 1][vectors ? 1 : 0], p, p.tokens,
                    p.kv_heads * (vectors ? p.head_size * size / 16 : p.head_size), 1, key);
}

}  // namespace

void reshape_and_cache(const Tensor& key, const Tensor& value, const Tensor& key_cache,
                       const Tensor& value_cache, const Tensor& slot_mapping) {
  require_float(kOp, key);
  const ReshapeAndCacheParams params =
      require_cache_write(kOp, key, value, key_cache, value_cache, slot_mapping);
  if (key.device_type == DeviceType::cpu)
    require_slots_in_range(kOp, slot_mapping, params.capacity);
  const i64 elements = params.tokens * params.kv_heads * params.head_size;
  if (elements == 0) return;

  if (key.device_type == DeviceType::cuda) {
    run_cache_write_on_cuda(params, key);
  } else {
    run_on_cpu(cpu::kernels().reshape_and_cache[float_index(key.dtype)], params, params.tokens,
               4 * elements * element_size(key.dtype));
  }
}

}  // namespace vllm::ops
