// Copies that choose their rows: new keys and values into the slots of a paged cache, and the
// embeddings of tokens. The bits are copied, so an element is known by its size alone. A thread has
// one pack of each tensor, blocks along x the parts of a token and along y the tokens.
#include "cache_slots.cuh"
#include "early_launch.cuh"
#include "float_types.cuh"
#include "params.h"

namespace vllm {

// N: elements of a pack; it divides head_size.
template <typename Bits, int N>
__device__ void reshape_and_cache(const ReshapeAndCacheParams& p) {
  const unsigned packs = static_cast<unsigned>(p.head_size) / N;  // of one head
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned head = index / packs, i = index % packs * N;
  if (head >= static_cast<unsigned>(p.kv_heads)) return;
  const i64 token = p.first + blockIdx.y;
  const Bits* key = static_cast<const Bits*>(p.key) + token * p.key_token_stride;
  const Bits* value = static_cast<const Bits*>(p.value) + token * p.value_token_stride;

  wait_for_kernels_before();
  const i64 slot = p.slots[token];
  const auto k = load<Bits, N>(key + head * p.key_head_stride + i);
  const auto v = load<Bits, N>(value + head * p.value_head_stride + i);
  allow_kernels_after();
  if (slot < 0 || slot >= p.capacity) return;
  const SlotOffsets to = slot_offsets(p, slot);
  store(static_cast<Bits*>(p.key_cache) + to.key + head * p.key_cache_head_stride + i, k);
  store(static_cast<Bits*>(p.value_cache) + to.value + head * p.value_cache_head_stride + i, v);
}

// N: elements of a pack; it divides the width.
template <typename Bits, int N>
__device__ void embedding(const EmbeddingParams& p) {
  const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (i >= static_cast<unsigned>(p.width)) return;
  const i64 token = p.first + blockIdx.y;
  Bits* to = static_cast<Bits*>(p.out) + token * p.out_stride + i;

  wait_for_kernels_before();
  const i64 id = p.ids[token];
  Pack<Bits, N> held;
  if (id >= 0 && id < p.rows) {
    held = load<Bits, N>(static_cast<const Bits*>(p.table) + id * p.table_stride + i);
  } else {
    memset(&held, 0xff, sizeof held);  // NaN in every dtype
  }
  allow_kernels_after();
  store(to, held);
}

}  // namespace vllm

// bits: of an element; `_vec` takes it in packs of 16 bytes.
#define VLLM_COPIES(bits, Bits)                                                                  \
  extern "C" __global__ void __launch_bounds__(1024)                                             \
      reshape_and_cache_##bits(vllm::ReshapeAndCacheParams p) {                                  \
    vllm::reshape_and_cache<Bits, 1>(p);                                                         \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(1024)                                             \
      reshape_and_cache_##bits##_vec(vllm::ReshapeAndCacheParams p) {                            \
    vllm::reshape_and_cache<Bits, vllm::kVector<Bits>>(p);                                       \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(1024) embedding_##bits(vllm::EmbeddingParams p) { \
    vllm::embedding<Bits, 1>(p);                                                                 \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(1024)                                             \
      embedding_##bits##_vec(vllm::EmbeddingParams p) {                                          \
    vllm::embedding<Bits, vllm::kVector<Bits>>(p);                                               \
  }

VLLM_COPIES(16, unsigned short)
VLLM_COPIES(32, unsigned)
