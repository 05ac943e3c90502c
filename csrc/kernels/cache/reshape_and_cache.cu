// Writes new keys and values to the slots of a paged KV cache. Bits are copied, so that only the
// size of an element matters. The grid's x dimension covers the parts of a token, its y dimension
// the tokens; each thread copies one pack of key and value.
#include "kernels/cache/cache_slots.cuh"
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/cache.h"

namespace vllm {

// N: elements of a pack; it divides head_size.
template <typename Bits, int N>
__device__ void reshape_and_cache(const ReshapeAndCacheParams& p) {
  const unsigned packs = static_cast<unsigned>(p.head_size) / N;  // of one head
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned head = index / packs, i = index % packs * N;
  if (head >= static_cast<unsigned>(p.kv_heads)) return;
  const i64 token = p.first + blockIdx.y;
  const Bits* key =
      static_cast<const Bits*>(p.key) + token * p.key_token_stride + head * p.key_head_stride + i;
  const Bits* value = static_cast<const Bits*>(p.value) + token * p.value_token_stride +
                      head * p.value_head_stride + i;

  wait_for_kernels_before();
  const i64 slot = p.slots[token];
  const auto k = load<Bits, N>(key), v = load<Bits, N>(value);
  allow_kernels_after();
  if (slot < 0 || slot >= p.capacity) return;
  const SlotOffsets to = slot_offsets(p, slot);
  store(static_cast<Bits*>(p.key_cache) + to.key + head * p.key_cache_head_stride + i, k);
  store(static_cast<Bits*>(p.value_cache) + to.value + head * p.value_cache_head_stride + i, v);
}

}  // namespace vllm

// bits: of an element; `_vec` takes it in packs of 16 bytes.
#define VLLM_RESHAPE_AND_CACHE(bits, Bits)                            \
  extern "C" __global__ void __launch_bounds__(1024)                  \
      reshape_and_cache_##bits(vllm::ReshapeAndCacheParams p) {       \
    vllm::reshape_and_cache<Bits, 1>(p);                              \
  }                                                                   \
  extern "C" __global__ void __launch_bounds__(1024)                  \
      reshape_and_cache_##bits##_vec(vllm::ReshapeAndCacheParams p) { \
    vllm::reshape_and_cache<Bits, vllm::kVector<Bits>>(p);            \
  }

VLLM_RESHAPE_AND_CACHE(16, unsigned short)
VLLM_RESHAPE_AND_CACHE(32, unsigned)
