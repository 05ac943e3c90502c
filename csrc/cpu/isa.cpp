// Which kernels this processor gets.
#include "cpu/isa.h"

#include <cstdlib>
#include <string>

#include "runtime/error.h"

namespace vllm::cpu {
namespace {

const Kernels& choose() {
  const char* variable = std::getenv("VLLM_CPU_ISA");
  const std::string asked = variable ? variable : "";
  std::string takes;
  for (const KernelSet& set : kernel_sets()) {
    if (!set.available) continue;
    if (asked.empty() || set.kernels.isa == asked) return set.kernels;
    takes += (takes.empty() ? "" : ", ") + std::string(set.kernels.isa);
  }
  throw Error(ErrorKind::value, "VLLM_CPU_ISA is '" + asked + "': this machine can run " + takes +
                                    " (unset it for the best of them)");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace vllm::cpu
