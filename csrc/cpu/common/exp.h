// exp of a vector of float. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/vec.h"

namespace vllm::cpu {
namespace {

// x * 2^n for an integral n: its result may be subnormal, and 2^n out of float's range.
inline Floats times_power_of_2(Floats x, Floats n) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(
      _mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(n)));
#else
  const Ints exponent = __builtin_convertvector(n, Ints);
  const Ints half = exponent >> 1;
  return x * reinterpret_cast<Floats>((half + 127) << 23) *
         reinterpret_cast<Floats>((exponent - half + 127) << 23);
#endif
}

// e^(x - n ln 2), in [0.7, 1.42], for the whole number n that is nearest to x / ln 2. ln 2 is taken
// in two parts, the first of 15 bits, so that n times it is exact.
inline Floats exp_of_rest(Floats x, Floats n) {
  const Floats r =
      multiply_add(n, broadcast(-0x1.7f7d1cp-20f), multiply_add(n, broadcast(-0x1.62e4p-1f), x));

  // e^r = 1 + r + r^2 p(r), p fitted to the least relative error of the whole (2^-28).
  Floats p = broadcast(0x1.6a23cep-10f);
  p = multiply_add(p, r, broadcast(0x1.123a2p-7f));
  p = multiply_add(p, r, broadcast(0x1.5558f2p-5f));
  p = multiply_add(p, r, broadcast(0x1.555492p-3f));
  p = multiply_add(p, r, broadcast(0x1.fffffcp-2f));
  return multiply_add(p, r * r, r) + 1.0f;
}

// Within 1.01 ulp of e^x (tested for all floats); 0 below -104, infinity above 88.73, NaN for NaN.
inline Floats exp(Floats x) {
  // Beyond these the result is 0 or infinite anyway. Comparisons let NaN pass through.
  x = x > 89.0f ? broadcast(89.0f) : x;
  x = x < -105.0f ? broadcast(-105.0f) : x;

  // Adding 1.5 * 2^23 rounds to an integer.
  const Floats shift = broadcast(0x1.8p23f);
  const Floats n = multiply_add(x, broadcast(0x1.715476p0f), shift) - shift;
  return times_power_of_2(exp_of_rest(x, n), n);
}

}  // namespace
}  // namespace vllm::cpu
