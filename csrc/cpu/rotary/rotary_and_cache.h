// The rotary embedding fused with the write to the paged cache. Internal to the isa_*.cpp files:
// see cpu/table.h.
#pragma once

#include "cpu/cache/reshape_and_cache.h"
#include "cpu/norm/rms_norm.h"
#include "cpu/rotary/rotary.h"
#include "params/cache.h"
#include "params/rotary.h"

namespace vllm::cpu {
namespace {

// Transforms one head. weight: of its norm, if kNormed.
template <bool kNormed, typename T>
inline void rotate_head(const T* from, T* to, const T* weight, const float* cosines,
                        const float* sines, const RotaryEmbeddingParams& p) {
  float scale = 1.0f;
  if constexpr (kNormed) {
    Floats squares[kUnroll] = {};
    for_lanes(p.head_size, [&](i64 i, auto n, int slot) {
      const Floats x = load(from + i, n);
      squares[slot] = multiply_add(x, x, squares[slot]);
    });
    scale = inverse_rms(squares, p.head_size, p.epsilon);
  }
  const auto element = [&](i64 i, auto n) {
    if constexpr (kNormed) return load(from + i, n) * scale * load(weight + i, n);
    return load(from + i, n);
  };
  const i64 half = p.rotary_size / 2;
  for_lanes(half, [&](i64 i, auto n, int) {
    const Floats cosine = load(cosines + i, n), sine = load(sines + i, n);
    const Floats x = element(i, n), y = element(half + i, n);
    store(to + i, multiply_add(x, cosine, -y * sine), n);
    store(to + half + i, multiply_add(y, cosine, x * sine), n);
  });
  if (!kNormed && to == from) return;
  const i64 begin = p.rotary_size;
  for_lanes(p.head_size - begin,
            [&](i64 i, auto n, int) { store(to + begin + i, element(begin + i, n), n); });
}

// Heads have at most 2 * kAngles elements.
template <typename T>
inline void rotary_and_cache(const RotaryEmbeddingParams& p, i64 begin, i64 end) {
  const i64 half = p.rotary_size / 2;
  float cosines[kAngles], sines[kAngles];

  for (i64 token = begin; token < end; ++token) {
    const T* row = static_cast<const T*>(p.cos_sin) + p.positions[token] * p.cos_sin_stride;
    for_lanes(half, [&](i64 i, auto n, int) {
      store(cosines + i, load(row + i, n), n);
      store(sines + i, load(row + half + i, n), n);
    });
    const auto rotate = [&](const T* from, T* to, const void* weight) {
      if (weight != nullptr) {
        rotate_head<true>(from, to, static_cast<const T*>(weight), cosines, sines, p);
      } else {
        rotate_head<false, T>(from, to, nullptr, cosines, sines, p);
      }
    };
    for (i64 h = 0; h < p.query_heads; ++h) {
      T* head = static_cast<T*>(p.query) + token * p.query_token_stride + h * p.query_head_stride;
      rotate(head, head, p.query_weight);
    }

    const ReshapeAndCacheParams& w = p.write;
    if (w.slots[token] < 0) continue;
    const SlotOffsets slot = slot_offsets(w, w.slots[token]);
    for (i64 h = 0; h < p.key_heads; ++h) {
      rotate(static_cast<const T*>(p.key) + token * p.key_token_stride + h * p.key_head_stride,
             static_cast<T*>(w.key_cache) + slot.key + h * w.key_cache_head_stride, p.key_weight);
    }
    copy_heads<T>(w.value, token * w.value_token_stride, w.value_head_stride, w.value_cache,
                  slot.value, w.value_cache_head_stride, w.kv_heads, w.head_size);
  }
}

}  // namespace
}  // namespace vllm::cpu
