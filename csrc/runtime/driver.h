// The CUDA driver, opened at first use, so that one library serves machines with and without it.
// Every failed call becomes an Error(runtime).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "params/tensor_map.h"

namespace vllm::cuda {

// The driver's types, as in cuda.h.
using Result = int;
using DeviceHandle = int;
using Context = struct CUctx_st*;
using Module = struct CUmod_st*;
using Function = struct CUfunc_st*;
using Stream = struct CUstream_st*;
using DevicePointer = unsigned long long;
struct IpcHandle {
  char bytes[64];
};

// As CUlaunchAttribute and CUlaunchConfig; the attributes that we set are numbers.
struct LaunchAttribute {
  int id;
  int unused;
  int value[16];
};
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

// The functions that we call, by the names that libcuda.so.1 exports. Signatures: cuda.h, 11.8.
struct Driver {
  Result (*cuInit)(unsigned flags);
  Result (*cuDriverGetVersion)(int* version);
  Result (*cuDeviceGetCount)(int* count);
  Result (*cuDeviceGet)(DeviceHandle* device, int index);
  Result (*cuDeviceGetName)(char* name, int size, DeviceHandle device);
  Result (*cuDeviceGetAttribute)(int* value, int attribute, DeviceHandle device);
  Result (*cuDevicePrimaryCtxRetain)(Context* context, DeviceHandle device);
  Result (*cuCtxGetCurrent)(Context* context);
  Result (*cuCtxPushCurrent_v2)(Context context);
  Result (*cuCtxPopCurrent_v2)(Context* context);
  Result (*cuModuleLoadDataEx)(Module* module, const void* image, unsigned options, int* keys,
                               void** values);
  Result (*cuModuleGetFunction)(Function* function, Module module, const char* name);
  Result (*cuFuncSetAttribute)(Function function, int attribute, int value);
  Result (*cuLaunchKernel)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                           unsigned block_x, unsigned block_y, unsigned block_z,
                           unsigned shared_bytes, Stream stream, void** params, void** extra);
  Result (*cuLaunchKernelEx)(const LaunchConfig* config, Function function, void** params,
                             void** extra);  // null before CUDA 11.8
  Result (*cuTensorMapEncodeTiled)(TensorMap* map, int dtype, unsigned rank, void* data,
                                   const unsigned long long* sizes,
                                   const unsigned long long* strides, const unsigned* box,
                                   const unsigned* steps, int interleave, int swizzle,
                                   int promotion, int fill);  // null before CUDA 12.0
  Result (*cuPointerGetAttribute)(void* value, int attribute, unsigned long long pointer);
  Result (*cuThreadExchangeStreamCaptureMode)(int* mode);
  Result (*cuCtxSynchronize)();
  Result (*cuMemAlloc_v2)(DevicePointer* address, size_t bytes);
  Result (*cuMemFree_v2)(DevicePointer address);
  Result (*cuMemsetD8_v2)(DevicePointer address, unsigned char value, size_t count);
  Result (*cuIpcGetMemHandle)(IpcHandle* handle, DevicePointer address);
  Result (*cuIpcOpenMemHandle_v2)(DevicePointer* address, IpcHandle handle, unsigned flags);
  Result (*cuIpcCloseMemHandle)(DevicePointer address);
  Result (*cuGetErrorName)(Result result, const char** name);
  Result (*cuGetErrorString)(Result result, const char** text);
};

// Opens and initializes the driver. Throws an Error with the reason if there is no driver or no
// GPU.
const Driver& driver();

// The CUDA version that the driver supports: 12040 for 12.4. Does not access a GPU.
int driver_version();

// Throws "<call> failed: <name> (<text>)<where>" unless `result` is success.
[[noreturn]] void fail(Result result, const char* call, const std::string& where);
inline void check(Result result, const char* call) {
  if (result != 0) fail(result, call, "");
}

constexpr int kMaxDevices = 64;

struct Device {
  int index;  // as in "cuda:0"; driver and torch number alike, by CUDA_VISIBLE_DEVICES
  std::string name;
  int major;  // compute capability
  int minor;
  int processors;
  int processor_shared_bytes;  // per multiprocessor, for all CTAs on it
  int block_shared_bytes;      // the maximum for a CTA
  DeviceHandle handle;
};

// "cuda:0 (NVIDIA H200, compute capability 9.0; driver of CUDA 12.4)"
std::string describe(const Device& device);

// The GPUs that this process may use. Creates no context.
const std::vector<Device>& devices();
const Device& device(int index);

// Makes the primary context of a device current, and restores the previous one. Costs one call if
// it is current already, which is the usual case with torch.
class ContextGuard {
 public:
  explicit ContextGuard(int device);
  ~ContextGuard();
  ContextGuard(const ContextGuard&) = delete;
  ContextGuard& operator=(const ContextGuard&) = delete;

 private:
  const Driver* pushed_by_ = nullptr;  // null if nothing was changed
};

// During its lifetime, allows this thread calls that are forbidden during a graph capture, such as
// loading a module. They are not captured.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  const Driver& driver_;
  int mode_ = 2;  // CU_STREAM_CAPTURE_MODE_RELAXED; then what was before
};

}  // namespace vllm::cuda
