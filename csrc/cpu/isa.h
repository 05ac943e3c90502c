// The kernel sets of this processor's family, and which of them it can run. Each family has a
// folder of its own, csrc/cpu/x86_64 and csrc/cpu/aarch64, of which one is compiled.
#pragma once

#include <vector>

#include "cpu/kernels.h"

namespace vllm::cpu {

// One set of kernels; `kernels.isa` names it.
struct KernelSet {
  const Kernels& kernels;
  bool available;  // on this processor, under this operating system
};

// Every set that isa_<name>.cpp define, best first; the last is always available. Only `kernels()`
// may read the others, and only where they are.
std::vector<KernelSet> kernel_sets();

}  // namespace vllm::cpu
