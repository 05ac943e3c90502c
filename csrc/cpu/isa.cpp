// Which kernels this processor gets.
//
// Asked of the processor itself: `__builtin_cpu_supports` always answers no under zig, and the
// fast kernels would silently never run in a release.
#include "cpu/isa.h"

#include <cpuid.h>

#include <cstdlib>
#include <string>

#include "runtime/error.h"

namespace vllm::cpu {
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

const Kernels& choose() {
  const Features features = detect();
  struct Choice {
    const Kernels& kernels;
    bool available;
  };
  const Choice choices[] = {{avx512_kernels, features.avx512},  // best first
                            {avx2_kernels, features.avx2},
                            {baseline_kernels, true}};

  const char* asked = std::getenv("VLLM_CPU_ISA");
  std::string takes;
  for (const Choice& choice : choices) {
    if (!choice.available) continue;
    if (!asked || !*asked || choice.kernels.isa == std::string(asked)) return choice.kernels;
    takes += (takes.empty() ? "" : ", ") + std::string(choice.kernels.isa);
  }
  throw Error(ErrorKind::value, "VLLM_CPU_ISA is '" + std::string(asked) +
                                    "': this machine can run " + takes +
                                    " (unset it for the best of them)");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace vllm::cpu
