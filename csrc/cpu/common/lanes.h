// Vectors as wide as the instruction set this file is compiled for, over the compilers' vector
// extensions: arithmetic is written with operators. Everything is computed in float32.
//
// Internal to the isa_*.cpp files: see cpu/table.h for why this is an anonymous namespace.
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

#include "params/types.h"

namespace vllm::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Quarter __attribute__((vector_size(16)));
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

// Not 0 + x: that differs for x = -0, so that compilers could not remove the addition.
inline Floats broadcast(float x) { return x - Floats{}; }

// x * y + z, rounded once if the processor has FMA. Explicit, because compilers differ in fusing `x
// * y + z`, and the build disables that.
inline Floats multiply_add(Floats x, Floats y, Floats z) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(_mm512_fmadd_ps(
      reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(y), reinterpret_cast<__m512>(z)));
#elif defined(__AVX2__)
  return reinterpret_cast<Floats>(_mm256_fmadd_ps(
      reinterpret_cast<__m256>(x), reinterpret_cast<__m256>(y), reinterpret_cast<__m256>(z)));
#elif defined(__aarch64__)
  return vfmaq_f32(z, x, y);
#else
  return x * y + z;
#endif
}

// Partial sums of 4 lanes each.
inline Quarter quarters(Floats x) {
  Quarter parts[kLanes / 4];
  __builtin_memcpy(parts, &x, sizeof x);
  Quarter total = parts[0];
  for (int part = 1; part < kLanes / 4; ++part) total += parts[part];
  return total;
}

inline float sum(Floats x) {
  const Quarter total = quarters(x);
  return (total[0] + total[2]) + (total[1] + total[3]);
}

// to[i] = the sum of x[i]'s lanes.
inline void sums_of(const Floats (&x)[4], float* to) {
#if defined(__aarch64__)
  vst1q_f32(to, vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3])));
#else
  __m128 a = quarters(x[0]), b = quarters(x[1]), c = quarters(x[2]), d = quarters(x[3]);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, (a + b) + (c + d));
#endif
}

inline float max(Floats x) {
  float most = x[0];
  for (int lane = 1; lane < kLanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
}

inline float square_root(float x) {  // not libm's, to avoid linking it
#if defined(__aarch64__)
  return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
#else
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#endif
}

}  // namespace
}  // namespace vllm::cpu
