// Prefill attention by wgmma, as in attention_prefill_wgmma.cu, for steps with so few items that
// each has a CTA (thread block) of its own: a short prompt, or a chunk behind a long prefix, whose
// items are split over keys. All CTAs of a split item merge its partial results together.
//
// A separate kernel, since loops over splits would make the compiler treat the other one as
// divergent. Every warp reads the CTA's item itself; with `metadata_ready`, it reads the item and
// the block table while the kernels before still run.
#include "kernels/attention/attention_wgmma_group.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

template <typename T, int kHead>
__device__ void wgmma_prefill_few(const WgmmaPrefillParams& p) {
  using Shared = WgmmaShared<kHead>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared shared(memory);
  if (threadIdx.x == 0) {
    shared.make_barriers();
    prefetch_map(p.keys);
    prefetch_map(p.values);
  }
  if (p.launch.metadata_ready == 0) wait_for_kernels_before();
  const AttentionItem item = find_item(p, static_cast<int>(blockIdx.x));
  __syncthreads();
  // The end of this kernel implies the end of those before: also a CTA without work waits for them.
  if (item.rows == 0) return wait_for_kernels_before();
  // As in wgmma_prefill.
  if (__shfl_sync(kFullWarp, threadIdx.x / 128, 0) == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    const int warp = __shfl_sync(kFullWarp, threadIdx.x / 32, 0);
    if (warp >= 2) {
      wait_for_kernels_before();
      QueryCopies<T, kHead>(p, shared, static_cast<int>(threadIdx.x) - 64).load(item, 1);
      return;
    }
    if (warp == 0) {
      TileCopies<kHead> copies(p, p.keys, p.key_block_heads);
      copies.start(item);
      wait_for_kernels_before();
      Ring<Shared::kStages> ring{0, 1};
      load_keys_of(item, shared, copies, ring);
      allow_kernels_after();
    } else {
      TileCopies<kHead> copies(p, p.values, p.value_block_heads);
      copies.start(item);
      wait_for_kernels_before();
      Ring<Shared::kStages> ring{0, 1};
      unsigned landed_parity = 0;
      load_values_of(p, item, shared, copies, ring, landed_parity);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    wait_for_kernels_before();
    RowWarpgroup<T, kHead, false, true>(p, shared).run(item);
    if (item.splits > 1 && item.next != kForDecode) {
      merge_together<T, kHead>(p.launch, item, reinterpret_cast<unsigned*>(shared.item));
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm

#define VLLM_WGMMA_FEW(name, T, head)                                                         \
  extern "C" __global__ void __launch_bounds__(vllm::kWgmmaThreads, 1)                        \
      wgmma_prefill_few_##name##_##head(__grid_constant__ const vllm::WgmmaPrefillParams p) { \
    vllm::wgmma_prefill_few<T, head>(p);                                                      \
  }
#define VLLM_WGMMA_FEW_TYPES(head)      \
  VLLM_WGMMA_FEW(f16, vllm::Half, head) \
  VLLM_WGMMA_FEW(bf16, vllm::BFloat16, head)

#if __CUDA_ARCH_FEAT_SM90_ALL
VLLM_WGMMA_FEW_TYPES(64)
VLLM_WGMMA_FEW_TYPES(128)
VLLM_WGMMA_FEW_TYPES(256)
#else
// As in attention_prefill_wgmma.cu: a module must have a kernel.
extern "C" __global__ void no_wgmma_for_few() {}
#endif
