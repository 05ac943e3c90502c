// The rotary embedding. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/vec.h"
#include "params/rotary.h"

namespace vllm::cpu {
namespace {

// Angles of one token, converted once for all of its heads; longer heads are processed in pieces.
constexpr i64 kAngles = 128;

// NeoX: element i is rotated with element i + half.
template <typename T>
inline void rotate_halves(T* low, T* high, const float* cosines, const float* sines, i64 angles) {
  for_lanes(angles, [&](i64 i, auto n, int) {
    const Floats cosine = load(cosines + i, n), sine = load(sines + i, n);
    const Floats x = load(low + i, n), y = load(high + i, n);
    store(low + i, multiply_add(x, cosine, -y * sine), n);
    store(high + i, multiply_add(y, cosine, x * sine), n);
  });
}

// GPT-J: element 2i is rotated with element 2i + 1. `cosines` and `sines` have one value per
// element, and the sines of the even elements are negated.
template <typename T>
inline void rotate_pairs(T* head, const float* cosines, const float* sines, i64 angles) {
  for_lanes(2 * angles, [&](i64 i, auto n, int) {
    const Floats x = load(head + i, n);
    const Pairs pairs = reinterpret_cast<Pairs>(x);
    const Floats partner = reinterpret_cast<Floats>((pairs << 32) | (pairs >> 32));
    store(head + i, multiply_add(x, load(cosines + i, n), partner * load(sines + i, n)), n);
  });
}

template <typename T>
inline void rotary_embedding(const RotaryEmbeddingParams& p, i64 begin, i64 end) {
  const i64 half = p.rotary_size / 2;
  float cosines[2 * kAngles], sines[2 * kAngles];

  for (i64 token = begin; token < end; ++token) {
    const T* cos_row = static_cast<const T*>(p.cos_sin) + p.positions[token] * p.cos_sin_stride;
    const T* sin_row = cos_row + half;
    for (i64 first = 0; first < half; first += kAngles) {
      const i64 angles = half - first < kAngles ? half - first : kAngles;
      for_lanes(angles, [&](i64 i, auto n, int) {
        store(cosines + i, load(cos_row + first + i, n), n);
        store(sines + i, load(sin_row + first + i, n), n);
      });
      if (!p.is_neox) {
        for (i64 i = angles - 1; i >= 0; --i) {  // from the end: each value moves up
          cosines[2 * i + 1] = cosines[2 * i] = cosines[i];
          sines[2 * i + 1] = sines[i];
          sines[2 * i] = -sines[i];
        }
      }

      const auto rotate = [&](void* tensor, i64 heads, i64 token_stride, i64 head_stride) {
        for (i64 h = 0; h < heads; ++h) {
          T* head = static_cast<T*>(tensor) + token * token_stride + h * head_stride;
          if (p.is_neox) {
            rotate_halves(head + first, head + half + first, cosines, sines, angles);
          } else {
            rotate_pairs(head + 2 * first, cosines, sines, angles);
          }
        }
      };
      rotate(p.query, p.query_heads, p.query_token_stride, p.query_head_stride);
      if (p.key) rotate(p.key, p.key_heads, p.key_token_stride, p.key_head_stride);
    }
  }
}

}  // namespace
}  // namespace vllm::cpu
