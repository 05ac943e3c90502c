// Compiled with the flags of the rest: NEON, which every 64-bit Arm processor has. See cpu/table.h.
#include "cpu/table.h"

namespace vllm::cpu {

extern constexpr Kernels neon_kernels = kernels_named("neon");

}  // namespace vllm::cpu
