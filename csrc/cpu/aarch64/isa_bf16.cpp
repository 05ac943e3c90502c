// Compiled for bf16 and fp16fml (cmake/add_host_library.cmake). See cpu/table.h.
#include "cpu/table.h"

namespace vllm::cpu {

extern constexpr Kernels bf16_kernels = kernels_named("bf16");

}  // namespace vllm::cpu
