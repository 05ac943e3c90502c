// Sets the logits of excluded tokens to minus infinity, in place. The masks may be in pinned host
// memory: each warp loads 512 adjacent bytes of a mask, in four requests that are under way at
// once, and hands their words around. In a row of logits each thread processes 16 bytes at a time.
// Packs without excluded tokens are not written.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "params/sampling.h"

namespace vllm {

// 16 bytes of a row, from its token `first` on. allowed: their bits, and others above.
template <typename Bits, unsigned kForbidden>
__device__ void mask_pack(const MaskLogitsParams& p, Bits* logits, i64 first, unsigned allowed) {
  constexpr unsigned kPack = 16 / sizeof(Bits);
  constexpr unsigned kAll = (1u << kPack) - 1;
  allowed &= kAll;
  if (allowed == kAll || first >= p.vocab) return;
  logits += first;
  if (p.packs && first + kPack <= p.vocab) {
    union {
      uint4 pack;
      Bits elements[kPack];
    } held;
    if (allowed != 0) held.pack = *reinterpret_cast<const uint4*>(logits);
#pragma unroll
    for (unsigned i = 0; i < kPack; ++i) {
      if (!(allowed >> i & 1)) held.elements[i] = static_cast<Bits>(kForbidden);
    }
    *reinterpret_cast<uint4*>(logits) = held.pack;
    return;
  }
#pragma unroll 1
  for (unsigned i = 0; i < kPack && first + i < p.vocab; ++i) {
    if (!(allowed >> i & 1)) logits[i] = static_cast<Bits>(kForbidden);
  }
}

// Bits: an unsigned integer of the element's size. kForbidden: the bits of minus infinity.
template <typename Bits, unsigned kForbidden>
__device__ void mask_logits(const MaskLogitsParams& p) {
  constexpr unsigned kPack = 16 / sizeof(Bits);        // tokens of a thread at a time
  constexpr unsigned kLoads = kMaskWarpTokens / 1024;  // of 32 words
  wait_for_kernels_before();
  const i64 mask = blockIdx.y;
  const unsigned lane = threadIdx.x % 32;
  const i64 warp = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const i64 begin = warp * kMaskWarpTokens;
  if (begin >= p.vocab) return;

  unsigned words[kLoads];
#pragma unroll
  for (unsigned load = 0; load < kLoads; ++load) {
    const i64 word = begin / 32 + load * 32 + lane;
    words[load] = word * 32 < p.vocab ? static_cast<unsigned>(p.bits[mask * p.words + word]) : 0;
  }
  const i64 row = p.rows[mask];  // behind the words, which it need not wait for
  if (row < 0 || row >= p.num_rows) return;
  Bits* logits = static_cast<Bits*>(p.logits) + row * p.stride;
#pragma unroll
  for (unsigned load = 0; load < kLoads; ++load) {
#pragma unroll 1
    for (unsigned token = load * 1024 + lane * kPack; token < (load + 1) * 1024;
         token += 32 * kPack) {  // counted from `begin`
      const unsigned word = __shfl_sync(0xffffffffu, words[load], token / 32 % 32);
      mask_pack<Bits, kForbidden>(p, logits, begin + token, word >> (token % 32));
    }
  }
}

}  // namespace vllm

#define VLLM_MASK_LOGITS(name, Bits, forbidden)                                                    \
  extern "C" __global__ void __launch_bounds__(128) mask_logits_##name(vllm::MaskLogitsParams p) { \
    vllm::mask_logits<Bits, forbidden>(p);                                                         \
  }

VLLM_MASK_LOGITS(f32, unsigned, 0xff800000)
VLLM_MASK_LOGITS(f16, unsigned short, 0xfc00)
VLLM_MASK_LOGITS(bf16, unsigned short, 0xff80)
