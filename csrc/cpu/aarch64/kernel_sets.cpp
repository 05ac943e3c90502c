// Which kernel sets a 64-bit Arm processor can run: every one has NEON.
//
// Linux reports its extensions as hardware capabilities. Their bits are the kernel's and never
// change; glibc 2.17, which the wheels are linked against, has no names for them.
#include <sys/auxv.h>

#include "cpu/isa.h"

namespace vllm::cpu {

extern const Kernels neon_kernels;
extern const Kernels bf16_kernels;

namespace {

constexpr unsigned long kHwcap2 = 26;          // AT_HWCAP2
constexpr unsigned long kAsimdFhm = 1u << 23;  // of AT_HWCAP: FEAT_FHM, FMLAL
constexpr unsigned long kBf16 = 1u << 14;      // of AT_HWCAP2: FEAT_BF16, BFMLALB and BFCVTN

}  // namespace

std::vector<KernelSet> kernel_sets() {
  const bool bf16 = (getauxval(AT_HWCAP) & kAsimdFhm) && (getauxval(kHwcap2) & kBf16);
  return {{bf16_kernels, bf16}, {neon_kernels, true}};
}

}  // namespace vllm::cpu
