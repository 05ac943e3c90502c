// The data of a rotation: the pairs of a head with their angles, and the source and destination of
// a token's heads.
#pragma once

#include "kernels/cache/cache_slots.cuh"
#include "kernels/common/float_types.cuh"
#include "params/cache.h"
#include "params/rotary.h"

namespace vllm {

__device__ inline float square(float x) { return x * x; }

// Cosines and sines of N pairs of a token.
template <typename T, int N>
struct Angles {
  Pack<T, N> cosines, sines;

  // row: the token's row of the table, or null if its position is out of range.
  __device__ void read(const T* row, unsigned pair, unsigned half) {
    if (row != nullptr) {
      cosines = load<T, N>(row + pair);
      sines = load<T, N>(row + half + pair);
    } else {
      memset(this, 0xff, sizeof *this);  // NaN in every dtype
    }
  }
};

// N pairs of a head, as laid out in memory. NeoX pairs element i with i + half, GPT-J 2i with 2i +
// 1.
template <typename T, int N, bool kNeox>
struct Pairs {
  static constexpr bool kApart = kNeox || N == 1;  // a single pair may not be aligned
  Pack<T, kApart ? N : 2 * N> packs[kApart ? 2 : 1];

  // The address of pairs `pair` to `pair + N` of a head.
  static __device__ unsigned first_at(unsigned pair) { return kNeox ? pair : 2 * pair; }
  static __device__ unsigned second_at(unsigned pair, unsigned half) {
    return kNeox ? half + pair : 2 * pair + 1;
  }

  __device__ void read(const T* head, unsigned pair, unsigned half) {
    if constexpr (kApart) {
      packs[0] = load<T, N>(head + first_at(pair));
      packs[1] = load<T, N>(head + second_at(pair, half));
    } else {
      packs[0] = load<T, 2 * N>(head + first_at(pair));
    }
  }
  __device__ void write(T* head, unsigned pair, unsigned half) const {
    store(head + first_at(pair), packs[0]);
    if constexpr (kApart) store(head + second_at(pair, half), packs[1]);
  }

  __device__ float first(int i) const { return kApart ? packs[0].get(i) : packs[0].get(2 * i); }
  __device__ float second(int i) const {
    if constexpr (kApart) return packs[1].get(i);
    return packs[0].get(2 * i + 1);
  }
  __device__ void set(const float (&first)[N], const float (&second)[N]) {
    if constexpr (kApart) {
      packs[0].set(first);
      packs[1].set(second);
    } else {
      float both[2 * N];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        both[2 * i] = first[i];
        both[2 * i + 1] = second[i];
      }
      packs[0].set(both);
    }
  }
  // Multiplies each element by its factor, then rotates the pairs.
  template <typename First, typename Second>
  __device__ void rotate(const Angles<T, N>& angles, First first_factor, Second second_factor) {
    float rotated_first[N], rotated_second[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float a = first(i) * first_factor(i), b = second(i) * second_factor(i);
      const float cosine = angles.cosines.get(i), sine = angles.sines.get(i);
      rotated_first[i] = a * cosine - b * sine;
      rotated_second[i] = b * cosine + a * sine;
    }
    set(rotated_first, rotated_second);
  }
  // Added up as a tree, which group_sum continues, so that the result does not depend on N.
  __device__ float sum_of_squares() const {
    float sums[N];
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i] = square(first(i)) + square(second(i));
#pragma unroll
    for (int step = 1; step < N; step *= 2) {
#pragma unroll
      for (int i = 0; i < N; i += 2 * step) sums[i] += sums[i + step];
    }
    return sums[0];
  }
};

// One head of a token: its source, its destination (null: none), and its transformation.
template <typename T>
struct Head {
  const T* from;
  T* to;
  const T* weight;  // of its norm, or null
  bool is_rotated;  // or else copied
};

// The heads of a token: those of the query, of the key and, where there is a cache, of the value.
template <typename T, bool kWrites>
struct Token {
  const RotaryEmbeddingParams& p;
  i64 token;
  bool has_slot = false;
  SlotOffsets slot{};

  __device__ Token(const RotaryEmbeddingParams& params, i64 t) : p(params), token(t) {}

  // Reads the token's slot in the cache. Before this call, heads of key and value have no
  // destination.
  __device__ void find_slot() {
    if constexpr (!kWrites) return;
    const i64 number = p.write.slots[token];
    has_slot = number >= 0 && number < p.write.capacity;
    if (has_slot) slot = slot_offsets(p.write, number);
  }

  __device__ Head<T> head(unsigned index) const {
    const unsigned query_heads = static_cast<unsigned>(p.query_heads);
    const unsigned key_heads = static_cast<unsigned>(p.key_heads);
    if (index < query_heads) {
      T* at = static_cast<T*>(p.query) + token * p.query_token_stride + index * p.query_head_stride;
      return {at, at, weight_of(p.query_weight), true};
    }
    index -= query_heads;
    const ReshapeAndCacheParams& w = p.write;
    if (index < key_heads) {
      T* at = static_cast<T*>(p.key) + token * p.key_token_stride + index * p.key_head_stride;
      T* to = kWrites ? in_slot(w.key_cache, slot.key + index * w.key_cache_head_stride) : at;
      return {at, to, weight_of(p.key_weight), true};
    }
    index -= key_heads;
    return {
        static_cast<const T*>(w.value) + token * w.value_token_stride + index * w.value_head_stride,
        in_slot(w.value_cache, slot.value + index * w.value_cache_head_stride), nullptr, false};
  }

 private:
  __device__ const T* weight_of(const void* weight) const {
    return kWrites ? static_cast<const T*>(weight) : nullptr;
  }
  __device__ T* in_slot(void* cache, i64 offset) const {
    return has_slot ? static_cast<T*>(cache) + offset : nullptr;
  }
};

}  // namespace vllm
