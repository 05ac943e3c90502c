// Copies that choose their rows: new keys and values into the slots of a paged cache, and the
// embeddings of tokens. The bits are copied, so an element is known by its size alone.
#include "cache_slots.cuh"
#include "early_launch.cuh"
#include "float_types.cuh"
#include "params.h"

namespace vllm {

// A block per token. N: elements of a pack; it divides head_size.
template <typename Bits, int N>
__device__ void reshape_and_cache(const ReshapeAndCacheParams& p) {
  wait_for_kernels_before();
  const unsigned packs = static_cast<unsigned>(p.head_size) / N;  // of one head
  const unsigned heads = static_cast<unsigned>(p.kv_heads);

  for (i64 token = blockIdx.x; token < p.tokens; token += gridDim.x) {
    const i64 slot = p.slots[token];
    if (token + gridDim.x >= p.tokens) allow_kernels_after();
    if (slot < 0 || slot >= p.capacity) continue;
    const SlotOffsets to = slot_offsets(p, slot);
    const Bits* key = static_cast<const Bits*>(p.key) + token * p.key_token_stride;
    const Bits* value = static_cast<const Bits*>(p.value) + token * p.value_token_stride;
    Bits* key_slot = static_cast<Bits*>(p.key_cache) + to.key;
    Bits* value_slot = static_cast<Bits*>(p.value_cache) + to.value;

    for (unsigned index = threadIdx.x; index < heads * packs; index += blockDim.x) {
      const unsigned head = index / packs, i = index % packs * N;
      const auto k = load<Bits, N>(key + head * p.key_head_stride + i);
      const auto v = load<Bits, N>(value + head * p.value_head_stride + i);
      store(key_slot + head * p.key_cache_head_stride + i, k);
      store(value_slot + head * p.value_cache_head_stride + i, v);
    }
  }
}

// Blocks along x take tokens, along y parts of a row. N: elements of a pack; it divides the width.
template <typename Bits, int N>
__device__ void embedding(const EmbeddingParams& p) {
  wait_for_kernels_before();
  constexpr unsigned kHeld = kEmbeddingPacks;
  const unsigned width = static_cast<unsigned>(p.width);
  const unsigned step = gridDim.y * blockDim.x * N;

  for (i64 token = blockIdx.x; token < p.tokens; token += gridDim.x) {
    const i64 id = p.ids[token];
    const bool in_range = id >= 0 && id < p.rows;
    const Bits* from = static_cast<const Bits*>(p.table) + (in_range ? id * p.table_stride : 0);
    Bits* to = static_cast<Bits*>(p.out) + token * p.out_stride;
    unsigned first = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    for (; first < width; first += kHeld * step) {
      Pack<Bits, N> held[kHeld];
#pragma unroll
      for (unsigned k = 0; k < kHeld; ++k) {
        if (in_range && first + k * step < width) {
          held[k] = load<Bits, N>(from + first + k * step);
        } else {
          memset(&held[k], 0xff, sizeof held[k]);  // NaN in every dtype
        }
      }
      if (token + gridDim.x >= p.tokens) allow_kernels_after();
#pragma unroll
      for (unsigned k = 0; k < kHeld; ++k) {
        if (first + k * step < width) store(to + first + k * step, held[k]);
      }
    }
  }
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
