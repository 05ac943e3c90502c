// Sets the logits of excluded tokens to minus infinity, in place. Each thread processes 16 bytes of
// a row; adjacent threads share a word of the mask. Packs without excluded tokens are not written.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/sampling.h"

namespace vllm {

// Bits: an unsigned integer of the element's size. kForbidden: the bits of minus infinity.
template <typename Bits, unsigned kForbidden>
__device__ void mask_logits(const MaskLogitsParams& p) {
  constexpr int kPack = 16 / sizeof(Bits);
  wait_for_kernels_before();
  const i64 mask = blockIdx.y;
  const i64 row = p.rows[mask];
  if (row < 0 || row >= p.num_rows) return;
  const i64 first = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * kPack;
  if (first >= p.vocab) return;
  const auto word = static_cast<unsigned>(p.bits[mask * p.words + first / 32]);
  constexpr unsigned kAll = (1u << kPack) - 1;
  const unsigned allowed = (word >> (first % 32)) & kAll;
  if (allowed == kAll) return;
  Bits* logits = static_cast<Bits*>(p.logits) + row * p.stride + first;
  if (p.packs && first + kPack <= p.vocab) {
    union {
      uint4 pack;
      Bits elements[kPack];
    } held;
    if (allowed != 0) held.pack = *reinterpret_cast<const uint4*>(logits);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      if (!(allowed >> i & 1)) held.elements[i] = static_cast<Bits>(kForbidden);
    }
    *reinterpret_cast<uint4*>(logits) = held.pack;
    return;
  }
  for (int i = 0; i < kPack && first + i < p.vocab; ++i) {
    if (!(allowed >> i & 1)) logits[i] = static_cast<Bits>(kForbidden);
  }
}

}  // namespace vllm

#define VLLM_MASK_LOGITS(name, Bits, forbidden)                                                    \
  extern "C" __global__ void __launch_bounds__(256) mask_logits_##name(vllm::MaskLogitsParams p) { \
    vllm::mask_logits<Bits, forbidden>(p);                                                         \
  }

VLLM_MASK_LOGITS(f32, unsigned, 0xff800000)
VLLM_MASK_LOGITS(f16, unsigned short, 0xfc00)
VLLM_MASK_LOGITS(bf16, unsigned short, 0xff80)
