// float32 from and to the 16-bit dtypes: widening is exact, narrowing rounds to nearest, ties to
// even. A NaN stays a NaN. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/lanes.h"

namespace vllm::cpu {
namespace {

#if defined(__AVX512F__)

// Masks of ones: GCC 12 warns about its own header for the unmasked intrinsics.
inline Words widen(Shorts x) {
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(x)));
}
inline Shorts narrow(Words x) {
  return reinterpret_cast<Shorts>(
      _mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(x)));
}
inline Floats half_to_float(Shorts bits) {
  return reinterpret_cast<Floats>(_mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(bits)));
}
inline Shorts float_to_half(Floats x) {
  return reinterpret_cast<Shorts>(
      _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__AVX2__)

inline Words widen(Shorts x) {
  return reinterpret_cast<Words>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(x)));
}
inline Shorts narrow(Words x) {  // each below 2^16
  const __m256i words = reinterpret_cast<__m256i>(x);
  return reinterpret_cast<Shorts>(
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
inline Floats half_to_float(Shorts bits) {
  return reinterpret_cast<Floats>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
}
inline Shorts float_to_half(Floats x) {
  return reinterpret_cast<Shorts>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__aarch64__)

inline Words widen(Shorts x) { return vmovl_u16(x); }
inline Shorts narrow(Words x) { return vmovn_u32(x); }
inline Floats half_to_float(Shorts bits) { return vcvt_f32_f16(vreinterpret_f16_u16(bits)); }
inline Shorts float_to_half(Floats x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }

#else  // SSE2

inline Words widen(Shorts x) { return __builtin_convertvector(x, Words); }

// SSE2 packs with signed saturation only, so the values are made signed first.
inline Shorts narrow(Words x) {
  const Ints extended = reinterpret_cast<Ints>(x << 16) >> 16;
  const __m128i packed = _mm_packs_epi32(reinterpret_cast<__m128i>(extended), _mm_setzero_si128());
  Shorts low;
  __builtin_memcpy(&low, &packed, sizeof low);
  return low;
}

inline Floats half_to_float(Shorts bits) {
  const Words half = widen(bits);
  const Words sign = (half & 0x8000) << 16;
  // Moves exponent and mantissa to float's position, then rebiases the exponent (127 - 15) by a
  // multiplication, which also normalizes subnormals. Infinity and NaN are kept separately.
  const Floats magnitude = reinterpret_cast<Floats>((half & 0x7fff) << 13) * 0x1p112f;
  const Words special = (half & 0x7fff) > 0x7bff ? Words{} + 0x7f800000u : Words{};
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(magnitude) | special | sign);
}

inline Shorts float_to_half(Floats x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words sign = (bits >> 16) & 0x8000;
  // Signed, because SSE2 has no unsigned comparison.
  const Ints magnitude = reinterpret_cast<Ints>(bits & 0x7fffffff);
  // Rebias the exponent, and round to nearest even at bit 13: carries run into the exponent.
  const Ints normal = (magnitude - (112 << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Below 2^-14, adding 0.5 leaves exactly the bits of the subnormal, rounded by the processor.
  const Ints subnormal =
      reinterpret_cast<Ints>(reinterpret_cast<Floats>(magnitude) + 0.5f) - 0x3f000000;
  Ints half = magnitude < (113 << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? Ints{} + 0x7c00 : half;  // rounds to infinity
  half = magnitude > 0x7f800000 ? (magnitude >> 13 & 0x1ff) | 0x7e00 : half;
  return narrow(reinterpret_cast<Words>(half) | sign);
}

#endif

inline Floats bfloat16_to_float(Shorts bits) { return reinterpret_cast<Floats>(widen(bits) << 16); }

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)

inline Shorts float_to_bfloat16(Floats x) { return vreinterpret_u16_bf16(vcvt_bf16_f32(x)); }

#else

inline Shorts float_to_bfloat16(Floats x) {
  const Words bits = reinterpret_cast<Words>(x);
  const Words rounded = bits + 0x7fff + ((bits >> 16) & 1);
  // Rounding could carry a NaN into the sign, and its payload may be all in the lower half.
  const Words quiet = bits | 0x400000;
  return narrow((x == x ? rounded : quiet) >> 16);
}

#endif

}  // namespace
}  // namespace vllm::cpu
