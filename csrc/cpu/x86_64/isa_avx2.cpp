// Compiled with -mavx2 -mfma -mf16c. See cpu/table.h.
#include "cpu/table.h"

namespace vllm::cpu {

extern constexpr Kernels avx2_kernels = kernels_named("avx2");

}  // namespace vllm::cpu
