// The embeddings of tokens: rows of a table. Bits are copied, so that only the size of an element
// matters. The grid's x dimension covers the parts of a row, its y dimension the tokens; each
// thread copies kEmbeddingPacks packs.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/embedding.h"

namespace vllm {

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
#define VLLM_EMBEDDING(bits, Bits)                                                               \
  extern "C" __global__ void __launch_bounds__(1024) embedding_##bits(vllm::EmbeddingParams p) { \
    vllm::embedding<Bits, 1>(p);                                                                 \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(1024)                                             \
      embedding_##bits##_vec(vllm::EmbeddingParams p) {                                          \
    vllm::embedding<Bits, vllm::kVector<Bits>>(p);                                               \
  }

VLLM_EMBEDDING(16, unsigned short)
VLLM_EMBEDDING(32, unsigned)
