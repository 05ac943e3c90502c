// Finds the device code installed with this library, and selects the code for a GPU. Does not
// access a GPU.
//
//   <package>/kernels/<variant>/sm_80/rms_norm.cubin         machine code of one architecture
//   <package>/kernels/<variant>/compute_90/rms_norm.ptx      for the driver to compile
#pragma once

#include <string>
#include <vector>

namespace vllm::cuda {

// The GPUs that code of a compute capability runs on: later minors of its major (PTX: every later
// capability); for a family target such as sm_100f later minors of its major, PTX too; for a
// specific one such as sm_90a only that capability.
enum class Scope { later, family, exact };

// One architecture's folder.
struct Arch {
  std::string name;  // "sm_90a", "compute_90"
  int major;
  int minor;
  bool ptx;  // compiled by the driver when it is loaded
  Scope scope;
};

// Reads a folder's name; false for one that names no architecture.
bool parse_arch(const std::string& name, Arch& arch);

// The folder of this build's variant: VLLM_KERNEL_DIR, or the one folder in `kernels/` beside the
// library. Throws Error(runtime) if there is none (a CPU build) or more than one.
std::string code_folder();

// The architectures in `folder`, by name.
std::vector<Arch> archs_in(const std::string& folder);

// The best of `archs` for a GPU of compute capability major.minor: its own specific code, else the
// highest sm_XY of its major with Y <= minor (sm_XYf before it), else the highest PTX that is not
// above it. Throws Error(runtime) that lists what there is and what it takes; `gpu` and `folder`
// are for the message.
const Arch& select_arch(const std::vector<Arch>& archs, int major, int minor,
                        const std::string& gpu, const std::string& folder);

}  // namespace vllm::cuda
