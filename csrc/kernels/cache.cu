// Copies that choose their rows: new keys and values into the slots of a paged cache, and the
// embeddings of tokens. The bits are copied, so an element is known by its size alone. Blocks
// along x take the parts of a token, along y the tokens; a thread has a pack of key and value, or
// some of an embedding.
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

// N: elements of a pack; it divides the width.
template <typename Bits, int N>
__device__ void embedding(const EmbeddingParams& p) {
  constexpr unsigned kHeld = kEmbeddingPacks;
  const unsigned width = static_cast<unsigned>(p.width), step = blockDim.x * N;
  const unsigned first = (blockIdx.x * kHeld * blockDim.x + threadIdx.x) * N;
  if (first >= width) return;
  const i64 token = p.first + blockIdx.y;
  Bits* to = static_cast<Bits*>(p.out) + token * p.out_stride;

  wait_for_kernels_before();
  const i64 id = p.ids[token];
  const bool in_range = id >= 0 && id < p.rows;
  const Bits* from = static_cast<const Bits*>(p.table) + (in_range ? id * p.table_stride : 0);
  Pack<Bits, N> held[kHeld];
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    if (in_range && first + k * step < width) {
      held[k] = load<Bits, N>(from + first + k * step);
    } else {
      memset(&held[k], 0xff, sizeof held[k]);  // NaN in every dtype
    }
  }
  allow_kernels_after();
#pragma unroll
  for (unsigned k = 0; k < kHeld; ++k) {
    if (first + k * step < width) store(to + first + k * step, held[k]);
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
