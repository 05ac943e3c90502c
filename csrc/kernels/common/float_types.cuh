// float32, float16 and bfloat16 in memory, and conversions to the float32 that every op computes
// in. Written with PTX and bit operations, so that one source serves every compute capability from
// 7.0 on, and a compiler without host headers (NVRTC).
#pragma once

namespace vllm {

struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

__device__ inline float to_float(float value) { return value; }

__device__ inline float to_float(Half value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}

__device__ inline float to_float(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

// Rounds to nearest, ties to even.
template <typename T>
__device__ T from_float(float value);

template <>
__device__ inline float from_float<float>(float value) {
  return value;
}

template <>
__device__ inline Half from_float<Half>(float value) {
  Half result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}

template <>
__device__ inline BFloat16 from_float<BFloat16>(float value) {
  BFloat16 result;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = bits + 0x7fff + (bits >> 16 & 1);
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  result.bits = is_nan ? 0x7fff : static_cast<unsigned short>(rounded >> 16);
#endif
  return result;
}

__device__ inline float quiet_nan() { return __uint_as_float(0x7fffffff); }

// Two neighbours of a 16-bit type, the first in the lower half of the word.
template <typename T>
__device__ float to_float(unsigned word, bool upper);

template <>
__device__ inline float to_float<BFloat16>(unsigned word, bool upper) {
  return __uint_as_float(upper ? word & 0xffff0000u : word << 16);
}

template <>
__device__ inline float to_float<Half>(unsigned word, bool upper) {
  return to_float(Half{static_cast<unsigned short>(upper ? word >> 16 : word)});
}

template <typename T>
__device__ unsigned from_floats(float lower, float upper) {
  return from_float<T>(lower).bits | static_cast<unsigned>(from_float<T>(upper).bits) << 16;
}

#if __CUDA_ARCH__ >= 800  // both in one instruction
template <>
__device__ inline unsigned from_floats<BFloat16>(float lower, float upper) {
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(upper), "f"(lower));
  return word;
}

template <>
__device__ inline unsigned from_floats<Half>(float lower, float upper) {
  unsigned word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(upper), "f"(lower));
  return word;
}
#endif

// N adjacent elements, at most 16 bytes, that one instruction loads or stores. 16-bit elements are
// kept in pairs, one register each, which compilers do not do reliably.
template <typename T, int N, bool kPaired = sizeof(T) == 2 && N % 2 == 0>
struct alignas(N * sizeof(T)) Pack {
  T values[N];

  __device__ float get(int i) const { return to_float(values[i]); }
  __device__ void set(const float (&floats)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = from_float<T>(floats[i]);
  }
};

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack<T, N, true> {
  unsigned words[N / 2];

  __device__ float get(int i) const { return to_float<T>(words[i / 2], i % 2 != 0); }
  __device__ void set(const float (&floats)[N]) {
#pragma unroll
    for (int i = 0; i < N; i += 2) words[i / 2] = from_floats<T>(floats[i], floats[i + 1]);
  }
};

template <typename T, int N>
__device__ Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <typename T, int N>
__device__ void store(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Elements in 16 bytes.
template <typename T>
constexpr int kVector = 16 / sizeof(T);

}  // namespace vllm
