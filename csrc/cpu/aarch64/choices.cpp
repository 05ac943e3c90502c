// Which kernel sets a 64-bit Arm processor can run: every one has NEON.
#include "cpu/isa.h"

namespace vllm::cpu {

extern const Kernels neon_kernels;

std::vector<Choice> choices() { return {{neon_kernels, true}}; }

}  // namespace vllm::cpu
