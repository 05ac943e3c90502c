// Tokens that may not be drawn. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/vec.h"
#include "params/sampling.h"

namespace vllm::cpu {
namespace {

template <typename T>
inline T minus_infinity();
template <>
inline float minus_infinity<float>() {
  return -__builtin_inff();
}
template <>
inline Half minus_infinity<Half>() {
  return Half{0xfc00};
}
template <>
inline BFloat16 minus_infinity<BFloat16>() {
  return BFloat16{0xff80};
}

// Most words of a grammar's mask allow all tokens or none.
template <typename T>
inline void mask_logits(const MaskLogitsParams& p, i64 begin, i64 end) {
  const T forbidden = minus_infinity<T>();
  for (i64 mask = begin; mask < end; ++mask) {
    if (p.rows[mask] < 0) continue;
    T* logits = static_cast<T*>(p.logits) + p.rows[mask] * p.stride;
    const int* words = p.bits + mask * p.words;
    for (i64 first = 0; first < p.vocab; first += 32) {
      const i64 left = p.vocab - first, tokens = left < 32 ? left : 32;
      auto bits = ~static_cast<unsigned>(words[first / 32]);  // those that are forbidden
      if (bits == ~0u && tokens == 32) {
        for (i64 token = 0; token < 32; ++token) logits[first + token] = forbidden;
        continue;
      }
      for (; bits != 0; bits &= bits - 1) {
        const i64 token = __builtin_ctz(bits);
        if (token >= tokens) break;
        logits[first + token] = forbidden;
      }
    }
  }
}

}  // namespace
}  // namespace vllm::cpu
