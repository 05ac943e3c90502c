// The kernel sets that isa_<name>.cpp define. Only isa.cpp may read any but the baseline's, and
// only after it has asked the processor.
#pragma once

#include "cpu/kernels.h"

namespace vllm::cpu {

extern const Kernels baseline_kernels;
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;

}  // namespace vllm::cpu
