// Compiled with the flags of the rest: SSE2, which every x86-64 has. See cpu/table.h.
#include "cpu/table.h"

namespace vllm::cpu {

extern constexpr Kernels baseline_kernels = kernels_named("baseline");

}  // namespace vllm::cpu
