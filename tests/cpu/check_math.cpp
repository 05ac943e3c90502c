// Compares csrc/cpu's conversions and exp with the C library, for the instruction set this is
// compiled for. Prints "name: worst" lines; test_math.py says what they may be.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "cpu/common/exp.h"
#include "cpu/common/vec.h"

using namespace vllm::cpu;

namespace {

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// The value of a 16-bit format with `mantissa` bits of mantissa, by its definition.
double value_of(uint16_t bits, int mantissa) {
  const int exponent_bits = 15 - mantissa, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> mantissa, fraction = bits & ((1 << mantissa) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp(fraction + (1 << mantissa), exponent - bias - mantissa);
}

bool same(double x, double y) {
  return (std::isnan(x) && std::isnan(y)) || (x == y && std::signbit(x) == std::signbit(y));
}

// Loads: how many of the 65536 values differ from their definition.
template <typename T>
int wrong_loads(int mantissa) {
  int wrong = 0;
  for (int i = 0; i < 65536; ++i) {
    T stored[kLanes];
    for (T& each : stored) each.bits = static_cast<uint16_t>(i);
    const Floats x = load(stored, All{});
    for (int lane = 0; lane < kLanes; ++lane)
      wrong += !same(x[lane], value_of(stored[0].bits, mantissa));
  }
  return wrong;
}

// Stores: x between the neighbours a and b must become the nearer; in the middle, the even one.
template <typename T>
int wrong_stores(int mantissa) {
  int wrong = 0;
  const auto check = [&](float x, uint16_t expected) {
    T stored[kLanes];
    store(stored, broadcast(x), All{});
    for (const T& each : stored) wrong += each.bits != expected;
    T one[2] = {{0x1234}, {0x1234}};
    store(one, broadcast(x), Some{1});
    wrong += one[0].bits != expected || one[1].bits != 0x1234;
  };
  for (int sign = 0; sign <= 0x8000; sign += 0x8000) {
    for (int i = 0; i < 0x7fff; ++i) {
      const auto low = static_cast<uint16_t>(i | sign), high = static_cast<uint16_t>(low + 1);
      const double a = value_of(low, mantissa);
      double b = value_of(high, mantissa);
      if (std::isnan(a) || std::isnan(b)) continue;
      if (std::isinf(a)) break;
      if (std::isinf(b)) b = 2 * a - value_of(low - 1, mantissa);  // where it would be
      const auto middle = static_cast<float>((a + b) / 2);
      check(static_cast<float>(a), low);
      check(middle, low & 1 ? high : low);
      check(std::nextafterf(middle, 0), low);
      check(std::nextafterf(middle, sign ? -INFINITY : INFINITY), high);
    }
    const int infinity = 0x7fff >> mantissa << mantissa;
    check(sign ? -INFINITY : INFINITY, static_cast<uint16_t>(infinity | sign));
  }
  return wrong;
}

// NaNs of every sign and payload stay NaN, with their sign.
template <typename T>
int wrong_nans(int mantissa) {
  int wrong = 0;
  for (uint32_t sign = 0; sign < 2; ++sign) {
    for (uint32_t payload = 1; payload < 0x800000; payload = payload * 3 / 2 + 1) {
      T stored[kLanes];
      store(stored, broadcast(from_bits(sign << 31 | 0x7f800000 | payload)), All{});
      wrong += !std::isnan(value_of(stored[0].bits, mantissa)) || stored[0].bits >> 15 != sign;
    }
  }
  return wrong;
}

// The worst error of exp in units in the last place of the result, over every 997th float.
double exp_error() {
  double worst = 0;
  for (uint64_t bits = 0; bits < 0x100000000; bits += 997) {
    const float x = from_bits(static_cast<uint32_t>(bits));
    const float found = vllm::cpu::exp(broadcast(x))[kLanes - 1];
    const double exact = std::exp(static_cast<double>(x));
    if (std::isnan(x)) {
      if (!std::isnan(found)) return INFINITY;
    } else if (exact > 0x1.ffffffp127) {  // rounds to infinity
      if (!std::isinf(found)) return INFINITY;
    } else {
      int exponent;
      std::frexp(exact, &exponent);
      const double unit = std::ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
      const double error = std::fabs(found - exact) / unit;
      if (!(error < worst)) worst = error;
    }
  }
  return worst;
}

// A partial load reads its elements and zeros: none of the NaN that follow.
template <typename T>
int wrong_tails(T one, T nan) {
  int wrong = 0;
  for (int count = 1; count < kLanes; ++count) {
    T stored[kLanes];
    for (int i = 0; i < kLanes; ++i) stored[i] = i < count ? one : nan;
    const Floats x = load(stored, Some{count});
    for (int i = 0; i < kLanes; ++i) wrong += x[i] != (i < count ? 1.0f : 0.0f);
  }
  return wrong;
}

}  // namespace

int main() {
  std::printf("half loads: %d\n", wrong_loads<Half>(10));
  std::printf("half stores: %d\n", wrong_stores<Half>(10));
  std::printf("half nans: %d\n", wrong_nans<Half>(10));
  std::printf("bfloat16 loads: %d\n", wrong_loads<BFloat16>(7));
  std::printf("bfloat16 stores: %d\n", wrong_stores<BFloat16>(7));
  std::printf("bfloat16 nans: %d\n", wrong_nans<BFloat16>(7));
  std::printf("tails: %d\n", wrong_tails<float>(1.0f, NAN) + wrong_tails<Half>({0x3c00}, {0x7e00}) +
                                 wrong_tails<BFloat16>({0x3f80}, {0x7fc0}));
  std::printf("exp: %.3f\n", exp_error());
}
