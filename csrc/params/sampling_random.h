// The random number of a draw: a hash, so that it depends on nothing but its two arguments. Plain
// C++ for the CPU kernels and the device code alike.
#pragma once

namespace vllm {
namespace {

// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014): SplitMix64's output.
constexpr unsigned long long split_mix(unsigned long long x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

// A whole number u of 24 bits: u / 2^24 is uniform in [0, 1).
constexpr unsigned random_bits(long long seed, long long draw) {
  const unsigned long long state = split_mix(static_cast<unsigned long long>(seed)) +
                                   static_cast<unsigned long long>(draw) * 0x9E3779B97F4A7C15;
  return static_cast<unsigned>(split_mix(state) >> 40);
}

}  // namespace
}  // namespace vllm
