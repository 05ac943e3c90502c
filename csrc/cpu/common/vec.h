// Rows of float32, float16 or bfloat16 as vectors of float: loads, stores, and the loop over a row.
// Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/convert.h"
#include "cpu/common/lanes.h"

namespace vllm::cpu {
namespace {

// Whether a full vector is accessed, or only the last `count` < kLanes elements of a row. Nothing
// beyond them is read or written, since it may belong to another thread or be unmapped; a partial
// load fills with zeros.
struct All {};
struct Some {
  i64 count;
};

template <typename V, typename T>
inline V load_bits(const T* from, All) {
  V x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
template <typename V, typename T>
inline void store_bits(T* to, V x, All) {
  __builtin_memcpy(to, &x, sizeof x);
}

#if defined(__AVX512F__)
inline __mmask16 mask(Some n) { return static_cast<__mmask16>((1u << n.count) - 1); }

template <typename V>
inline V load_bits(const float* from, Some n) {
  return reinterpret_cast<V>(_mm512_maskz_loadu_ps(mask(n), from));
}
template <typename V, typename T>
inline V load_bits(const T* from, Some n) {
  return reinterpret_cast<V>(_mm256_maskz_loadu_epi16(mask(n), from));
}
inline void store_bits(float* to, Floats x, Some n) {
  _mm512_mask_storeu_ps(to, mask(n), reinterpret_cast<__m512>(x));
}
template <typename T>
inline void store_bits(T* to, Shorts x, Some n) {
  _mm256_mask_storeu_epi16(to, mask(n), reinterpret_cast<__m256i>(x));
}
#else
template <typename V, typename T>
inline V load_bits(const T* from, Some n) {
  V x{};
  __builtin_memcpy(&x, from, static_cast<unsigned long>(n.count) * sizeof(T));
  return x;
}
template <typename V, typename T>
inline void store_bits(T* to, V x, Some n) {
  __builtin_memcpy(to, &x, static_cast<unsigned long>(n.count) * sizeof(T));
}
#endif

template <typename N>
inline Floats load(const float* from, N n) {
  return load_bits<Floats>(from, n);
}
template <typename N>
inline Floats load(const Half* from, N n) {
  return half_to_float(load_bits<Shorts>(from, n));
}
template <typename N>
inline Floats load(const BFloat16* from, N n) {
  return bfloat16_to_float(load_bits<Shorts>(from, n));
}

template <typename N>
inline void store(float* to, Floats x, N n) {
  store_bits(to, x, n);
}
template <typename N>
inline void store(Half* to, Floats x, N n) {
  store_bits(to, float_to_half(x), n);
}
template <typename N>
inline void store(BFloat16* to, Floats x, N n) {
  store_bits(to, float_to_bfloat16(x), n);
}

// x rounded to T.
template <typename T>
inline Floats round_to(Floats x);
template <>
inline Floats round_to<float>(Floats x) {
  return x;
}
template <>
inline Floats round_to<Half>(Floats x) {
  return half_to_float(float_to_half(x));
}
template <>
inline Floats round_to<BFloat16>(Floats x) {
  return bfloat16_to_float(float_to_bfloat16(x));
}

constexpr int kUnroll = 4;

// Calls body(i, n, slot) for the vectors, of Size elements, of a row: n of them from i on. `slot`
// counts 0 .. kUnroll - 1 so that a reduction can keep as many independent sums: a single one would
// be limited by latency.
template <int Size = kLanes, typename Body>
inline void for_lanes(i64 width, Body body) {
  i64 i = 0;
  for (; i + kUnroll * Size <= width; i += kUnroll * Size) {
    body(i, All{}, 0);
    body(i + Size, All{}, 1);
    body(i + 2 * Size, All{}, 2);
    body(i + 3 * Size, All{}, 3);
  }
  for (; i + Size <= width; i += Size) body(i, All{}, 0);
  if (i < width) body(i, Some{width - i}, 1);
}

}  // namespace
}  // namespace vllm::cpu
