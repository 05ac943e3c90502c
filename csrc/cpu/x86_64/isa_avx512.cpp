// Compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c. See cpu/table.h.
#include "cpu/table.h"

namespace vllm::cpu {

extern constexpr Kernels avx512_kernels = kernels_named("avx512");

}  // namespace vllm::cpu
