// Changes single logits, in place: a thread per change.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/sampling.h"

namespace vllm {

template <typename T>
__device__ void penalize(const PenalizeParams& p) {
  wait_for_kernels_before();
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.changes; i += step) {
    const i64 row = p.rows[i], token = p.tokens[i];
    if (row < 0 || row >= p.num_rows || token < 0 || token >= p.vocab) continue;
    T* logit = static_cast<T*>(p.logits) + row * p.stride + token;
    const float x = to_float(*logit), factor = p.repetition[i];
    *logit = from_float<T>((x > 0.0f ? x / factor : x * factor) - p.subtract[i]);
  }
}

}  // namespace vllm

#define VLLM_PENALIZE(name, T)                                                                \
  extern "C" __global__ void __launch_bounds__(256) penalize_##name(vllm::PenalizeParams p) { \
    vllm::penalize<T>(p);                                                                     \
  }

VLLM_PENALIZE(f32, float)
VLLM_PENALIZE(f16, vllm::Half)
VLLM_PENALIZE(bf16, vllm::BFloat16)
