// Which kernel sets an x86-64 processor can run.
//
// By cpuid, not `__builtin_cpu_supports`: under zig that always returns 0, and a release would
// silently never use its fast kernels.
#include <cpuid.h>

#include "cpu/isa.h"

namespace vllm::cpu {

extern const Kernels baseline_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;

namespace {

struct Features {
  bool avx2 = false;
  bool avx512 = false;
};

// The register sets that the operating system saves when it switches threads (XCR0).
unsigned long long saved_registers() {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

Features detect() {
  const auto all = [](unsigned word, unsigned bits) { return (word & bits) == bits; };
  constexpr unsigned long long kYmm = 0x06, kZmm = 0xe6;  // with the narrower ones they contain

  Features features;
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(1, 0, &eax, &ebx, &ecx, &edx)) return features;
  if (!all(ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return features;
  const unsigned long long saved = saved_registers();
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;

  features.avx2 = (saved & kYmm) == kYmm && all(ebx, bit_AVX2);
  features.avx512 = features.avx2 && (saved & kZmm) == kZmm &&
                    all(ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
  return features;
}

}  // namespace

std::vector<KernelSet> kernel_sets() {
  const Features features = detect();
  return {
      {avx512_kernels, features.avx512}, {avx2_kernels, features.avx2}, {baseline_kernels, true}};
}

}  // namespace vllm::cpu
