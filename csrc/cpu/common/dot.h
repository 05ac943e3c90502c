// Dot products of rows, in float32. A product of 16-bit elements is exact in float32, and is added
// with one rounding where the processor can. Internal to the isa_*.cpp files: see cpu/table.h.
//
// On Arm 16-bit rows are multiplied as they are stored, 8 elements at a time: FMLAL (FEAT_FHM) and
// BFMLALB/BFMLALT (FEAT_BF16) do in one instruction what widening and FMLA do in two or three, with
// the same single rounding. Both ways add in the order of these instructions, so that every Arm
// processor gets the same bits. BFDOT and BFMMLA would add two and four products at a time, but
// they round to odd instead of to nearest, twice a pair, and take subnormal numbers as zero.
#pragma once

#include "cpu/common/vec.h"

namespace vllm::cpu {
namespace {

// Elements of T that are multiplied at a time: here, as widened by `load`.
template <typename T>
struct Factors {
  static constexpr int kSize = kLanes;
  Floats values;
};

template <typename T, typename N>
inline Factors<T> factors(const T* from, N n) {
  return {load(from, n)};
}

template <typename T>
inline Floats add_products(Floats sums, Factors<T> x, Factors<T> y) {
  return multiply_add(x.values, y.values, sums);
}

#if defined(__aarch64__)

// A row that is multiplied by several others is kept as this type.
template <typename T>
using Kept = T;

typedef unsigned short Stored __attribute__((vector_size(16)));

template <>
struct Factors<Half> {
  static constexpr int kSize = 8;
  Stored values;
};
template <>
struct Factors<BFloat16> {
  static constexpr int kSize = 8;
  Stored values;
};

template <typename N>
inline Factors<Half> factors(const Half* from, N n) {
  return {load_bits<Stored>(from, n)};
}
template <typename N>
inline Factors<BFloat16> factors(const BFloat16* from, N n) {
  return {load_bits<Stored>(from, n)};
}

// The lower four products, then the upper four.
inline Floats add_products(Floats sums, Factors<Half> x, Factors<Half> y) {
  const float16x8_t a = vreinterpretq_f16_u16(x.values), b = vreinterpretq_f16_u16(y.values);
#if defined(__ARM_FEATURE_FP16_FML)
  return vfmlalq_high_f16(vfmlalq_low_f16(sums, a, b), a, b);
#else
  sums = multiply_add(vcvt_f32_f16(vget_low_f16(a)), vcvt_f32_f16(vget_low_f16(b)), sums);
  return multiply_add(vcvt_high_f32_f16(a), vcvt_high_f32_f16(b), sums);
#endif
}

// The products of even elements, then those of odd ones, which needs no shuffle.
inline Floats add_products(Floats sums, Factors<BFloat16> x, Factors<BFloat16> y) {
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  const bfloat16x8_t a = vreinterpretq_bf16_u16(x.values), b = vreinterpretq_bf16_u16(y.values);
  return vbfmlaltq_f32(vbfmlalbq_f32(sums, a, b), a, b);
#else
  const Words a = reinterpret_cast<Words>(x.values), b = reinterpret_cast<Words>(y.values);
  sums = multiply_add(reinterpret_cast<Floats>(a << 16), reinterpret_cast<Floats>(b << 16), sums);
  return multiply_add(reinterpret_cast<Floats>(a & 0xffff0000u),
                      reinterpret_cast<Floats>(b & 0xffff0000u), sums);
#endif
}

#else

// A row that is multiplied by several others is widened once for all of them.
template <typename T>
using Kept = float;

#endif

template <typename T>
inline float dot(const T* x, const T* y, i64 size) {
  Floats sums[kUnroll] = {};
  for_lanes<Factors<T>::kSize>(size, [&](i64 i, auto n, int slot) {
    sums[slot] = add_products(sums[slot], factors(x + i, n), factors(y + i, n));
  });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace
}  // namespace vllm::cpu
