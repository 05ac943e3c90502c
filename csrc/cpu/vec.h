// Vectors of float, as wide as the instruction set this file is compiled for, over the compilers'
// vector extensions: arithmetic is written with operators. Here are the loads and stores of the
// three dtypes, the conversions, and the loop over a row. Everything is computed in float32.
//
// Internal to the isa_*.cpp files: see cpu/table.h for why this is an anonymous namespace.
#pragma once

#include <immintrin.h>

#include "kernels/params.h"

namespace vllm::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int Ints __attribute__((vector_size(kLanes * 4)));
typedef unsigned Words __attribute__((vector_size(kLanes * 4)));
typedef unsigned long long Pairs __attribute__((vector_size(kLanes * 4)));
typedef unsigned short Shorts __attribute__((vector_size(kLanes * 2)));

// The storage of the 16-bit dtypes.
struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

inline Floats broadcast(float x) { return Floats{} + x; }

// ---- conversions ---------------------------------------------------------------------------

inline Floats bfloat16_to_float(Shorts bits) {
  return reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16);
}

// Rounds to nearest, ties to even. A NaN stays one: its quiet bit is set, since the payload that
// remains may be zero, and rounding it up could carry into the sign.
inline Shorts float_to_bfloat16(Floats x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words nan = (bits >> 16) | 0x40;
  const Words is_nan = reinterpret_cast<Words>(x != x);
  return __builtin_convertvector((is_nan & nan) | (~is_nan & rounded), Shorts);
}

#if defined(__AVX512F__)
// With a mask of ones: GCC 12 warns of its own header for the forms without.
inline Floats half_to_float(Shorts bits) {
  return reinterpret_cast<Floats>(_mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(bits)));
}
inline Shorts float_to_half(Floats x) {
  return reinterpret_cast<Shorts>(
      _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
inline Floats half_to_float(Shorts bits) {
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
}
inline Shorts float_to_half(Floats x) {
  return reinterpret_cast<Shorts>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT));
}
#else
// SSE2 has no conversion; these are exact too, subnormals included.
inline Floats half_to_float(Shorts bits) {
  const Words half = __builtin_convertvector(bits, Words);
  const Words sign = (half & 0x8000) << 16;
  // Exponent and mantissa in float's place, then the difference of the two biases (127 - 15) as a
  // product: it normalizes the subnormals on the way. What was infinite or NaN must stay so.
  const Floats magnitude = reinterpret_cast<Floats>((half & 0x7fff) << 13) * 0x1p112f;
  const Words special = reinterpret_cast<Words>((half & 0x7fff) > 0x7bff) & 0x7f800000u;
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(magnitude) | special | sign);
}
inline Shorts float_to_half(Floats x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words sign = (bits >> 16) & 0x8000;
  const Words magnitude = bits & 0x7fffffff;
  // Normal: rebias the exponent, round to nearest even at bit 13; carries run into the exponent.
  const Words normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Below 2^-14: adding 0.5 leaves exactly the bits of the subnormal, rounded by the hardware.
  const Words subnormal =
      reinterpret_cast<Words>(reinterpret_cast<Floats>(magnitude) + 0.5f) - 0x3f000000u;
  const Words small = reinterpret_cast<Words>(magnitude < (113u << 23));
  const Words large = reinterpret_cast<Words>(magnitude >= 0x477ff000u);  // rounds to infinity
  const Words nan = reinterpret_cast<Words>(magnitude > 0x7f800000u);
  const Words quiet = 0x7e00u | ((magnitude >> 13) & 0x1ff);
  Words half = (small & subnormal) | (~small & normal);
  half = (large & 0x7c00u) | (~large & half);
  half = (nan & quiet) | (~nan & half);
  return __builtin_convertvector(half | sign, Shorts);
}
#endif

// ---- loads and stores ----------------------------------------------------------------------
// `All` is a whole vector; `Some` the last `count` < kLanes elements of a row. Nothing past them is
// read or written, for it may be another thread's, or not be there: a partial load gives zeros.

struct All {};
struct Some {
  i64 count;
};

template <typename V>
inline V load_bits(const void* from) {
  V bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return bits;
}

#if defined(__AVX512F__)
inline __mmask16 first(Some some) { return static_cast<__mmask16>((1u << some.count) - 1); }
template <typename V>
inline V load_bits(const float* from, Some some) {
  return reinterpret_cast<V>(_mm512_maskz_loadu_ps(first(some), from));
}
template <typename V, typename T>
inline V load_bits(const T* from, Some some) {
  return reinterpret_cast<V>(_mm256_maskz_loadu_epi16(first(some), from));
}
inline void store_bits(float* to, Floats x, Some some) {
  _mm512_mask_storeu_ps(to, first(some), reinterpret_cast<__m512>(x));
}
template <typename T>
inline void store_bits(T* to, Shorts x, Some some) {
  _mm256_mask_storeu_epi16(to, first(some), reinterpret_cast<__m256i>(x));
}
#else
template <typename V, typename T>
inline V load_bits(const T* from, Some some) {
  V bits{};
  __builtin_memcpy(&bits, from, static_cast<unsigned long>(some.count) * sizeof(T));
  return bits;
}
template <typename V, typename T>
inline void store_bits(T* to, V x, Some some) {
  __builtin_memcpy(to, &x, static_cast<unsigned long>(some.count) * sizeof(T));
}
#endif
template <typename V, typename T>
inline V load_bits(const T* from, All) {
  return load_bits<V>(from);
}
template <typename V, typename T>
inline void store_bits(T* to, V x, All) {
  __builtin_memcpy(to, &x, sizeof x);
}

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

// What storing x as a T and loading it again would give.
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

// ---- rows ----------------------------------------------------------------------------------

constexpr int kUnroll = 4;

// Calls body(i, n, slot) for the vectors of a row: n of its elements from i on. `slot` counts
// 0 .. kUnroll - 1 so that a reduction can keep as many sums, for one sum would wait on itself.
template <typename Body>
inline void for_lanes(i64 width, Body body) {
  i64 i = 0;
  for (; i + kUnroll * kLanes <= width; i += kUnroll * kLanes) {
    body(i, All{}, 0);
    body(i + kLanes, All{}, 1);
    body(i + 2 * kLanes, All{}, 2);
    body(i + 3 * kLanes, All{}, 3);
  }
  for (; i + kLanes <= width; i += kLanes) body(i, All{}, 0);
  if (i < width) body(i, Some{width - i}, 1);
}

inline float sum(Floats x) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += x[lane];
  return total;
}

inline float square_root(float x) {  // not libm's: that would be one more thing to link
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

}  // namespace
}  // namespace vllm::cpu
