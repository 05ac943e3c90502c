// Kernels by name: found in the code folder, loaded at first use on each device, launched.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "runtime/code_folder.h"
#include "runtime/driver.h"

namespace vllm::cuda {

// early: programmatic dependent launch (PDL). The kernel may be launched while the previous one in
// the stream still runs; it waits itself before it accesses memory that earlier kernels may write
// (csrc/kernels/common/early_launch.cuh). Without support in the code or the driver, it is launched
// normally. cluster: CTAs per cluster, a divisor of x, which can access each other's shared memory
// (csrc/kernels/common/cluster.cuh); more than 1 only if has_clusters. most_shared: the most
// dynamic shared memory of any launch of the kernel on the device, if launches differ.
struct Grid {
  unsigned x;
  unsigned y;
  unsigned threads;     // of a CTA
  unsigned shared = 0;  // bytes of dynamic shared memory
  bool early = false;
  unsigned cluster = 1;
  unsigned most_shared = 0;
};

// One __global__ function of one file of csrc/kernels, on every device. A static object: it keeps
// the loaded functions.
class Kernel {
 public:
  // file: the stem of the .cu file. name: the function's extern "C" name.
  constexpr Kernel(const char* file, const char* name) : file_(file), name_(name) {}

  // Launches with one parameter, by value. The device's context must be
  // current (ContextGuard).
  template <typename Params>
  void launch(int device, void* stream, const Grid& grid, const Params& params) {
    void* arguments[] = {const_cast<Params*>(&params)};
    launch_with(device, static_cast<Stream>(stream), grid, arguments);
  }

 private:
  void launch_with(int device, Stream stream, const Grid& grid, void** arguments);
  Function load(int device, unsigned shared);

  const char* file_;
  const char* name_;
  std::atomic<Function> functions_[kMaxDevices] = {};
};

// The architecture whose code a device runs, of those that this build has; see select_arch.
const Arch& code_arch(int index);

// Whether the code of a device supports clusters of CTAs.
bool has_clusters(int index);

struct LoadedFile {
  int device;
  std::string path;
};

// Every file of device code that was loaded, in that order.
std::vector<LoadedFile> loaded_files();

}  // namespace vllm::cuda
