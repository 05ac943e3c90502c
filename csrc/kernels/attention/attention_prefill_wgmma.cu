// Causal prefill attention over a paged KV cache with Hopper's wgmma, as in FlashAttention-3 (Shah
// et al. 2024, arXiv:2407.08608), in raw PTX.
//
// A persistent CTA (thread block) processes one item after another: up to 128 query rows of one KV
// head (AttentionItem). Warps are specialised: one issues bulk copies (TMA) of key tiles, one those
// of value tiles, two load query rows, and two consumer warpgroups multiply 64 rows each. The
// products of a tile's keys overlap with those of the previous tile's values, and both with the
// softmax. The bulk copies follow the block table, one for each KV block.
#include "kernels/attention/attention_wgmma_group.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

template <typename T, int kHead, bool kCap>
__device__ void wgmma_prefill(const WgmmaPrefillParams& p) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const WgmmaShared<kHead> shared(memory);
  if (threadIdx.x == 0) {
    shared.make_barriers();
    prefetch_map(p.keys);
    prefetch_map(p.values);
  }
  __syncthreads();
  wait_for_kernels_before();
  // The loading warps give up registers, of which a multiprocessor has 64 Ki, to the consumer
  // warpgroups.
  if (__shfl_sync(kFullWarp, threadIdx.x / 128, 0) == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    switch (__shfl_sync(kFullWarp, threadIdx.x / 32, 0)) {
      case 0:
        load_keys<kHead>(p, shared);
        break;
      case 1:
        load_values<kHead>(p, shared);
        break;
      default:
        load_queries<T, kHead>(p, shared, static_cast<int>(threadIdx.x) - 64);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    RowWarpgroup<T, kHead, kCap>(p, shared).run();
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm

#define VLLM_WGMMA_PREFILL(name, T, head, cap)                                            \
  extern "C" __global__ void __launch_bounds__(vllm::kWgmmaThreads, 1)                    \
      wgmma_prefill_##name##_##head(__grid_constant__ const vllm::WgmmaPrefillParams p) { \
    vllm::wgmma_prefill<T, head, cap>(p);                                                 \
  }
#define VLLM_WGMMA_PREFILL_TYPES(head)                   \
  VLLM_WGMMA_PREFILL(f16, vllm::Half, head, false)       \
  VLLM_WGMMA_PREFILL(capped_f16, vllm::Half, head, true) \
  VLLM_WGMMA_PREFILL(bf16, vllm::BFloat16, head, false)  \
  VLLM_WGMMA_PREFILL(capped_bf16, vllm::BFloat16, head, true)

#if __CUDA_ARCH_FEAT_SM90_ALL
VLLM_WGMMA_PREFILL_TYPES(64)
VLLM_WGMMA_PREFILL_TYPES(80)
VLLM_WGMMA_PREFILL_TYPES(96)
VLLM_WGMMA_PREFILL_TYPES(128)
VLLM_WGMMA_PREFILL_TYPES(192)
VLLM_WGMMA_PREFILL_TYPES(256)
#else
// A module must have a kernel: in one without, NVRTC generates names from its process id, and
// builds would not be reproducible.
extern "C" __global__ void no_wgmma() {}
#endif
