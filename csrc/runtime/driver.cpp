#include "runtime/driver.h"

#include <dlfcn.h>

#include <atomic>

#include "runtime/error.h"
#include "runtime/text.h"

namespace vllm::cuda {
namespace {

constexpr int kProcessors = 16;              // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
constexpr int kComputeCapabilityMajor = 75;  // ..._COMPUTE_CAPABILITY_MAJOR
constexpr int kComputeCapabilityMinor = 76;  // ..._COMPUTE_CAPABILITY_MINOR
constexpr int kSharedPerProcessor = 81;      // ..._MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
constexpr int kSharedPerBlock = 97;          // ..._MAX_SHARED_MEMORY_PER_BLOCK_OPTIN

template <typename Signature>
void find(void* library, const char* name, Signature& function) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw Error(ErrorKind::runtime,
                concat("the NVIDIA driver has no ", name,
                       ": it is older than CUDA 11; install a newer one (R450 or later)"));
  }
  function = reinterpret_cast<Signature>(symbol);
}

Driver open_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Error(ErrorKind::runtime, concat("no NVIDIA driver on this machine: ", dlerror()));
  }
  Driver driver;
#define VLLM_FIND(name) find(library, #name, driver.name)
  VLLM_FIND(cuInit);
  VLLM_FIND(cuDriverGetVersion);
  VLLM_FIND(cuDeviceGetCount);
  VLLM_FIND(cuDeviceGet);
  VLLM_FIND(cuDeviceGetName);
  VLLM_FIND(cuDeviceGetAttribute);
  VLLM_FIND(cuDevicePrimaryCtxRetain);
  VLLM_FIND(cuCtxGetCurrent);
  VLLM_FIND(cuCtxPushCurrent_v2);
  VLLM_FIND(cuCtxPopCurrent_v2);
  VLLM_FIND(cuModuleLoadDataEx);
  VLLM_FIND(cuModuleGetFunction);
  VLLM_FIND(cuFuncSetAttribute);
  VLLM_FIND(cuLaunchKernel);
  VLLM_FIND(cuPointerGetAttribute);
  VLLM_FIND(cuThreadExchangeStreamCaptureMode);
  VLLM_FIND(cuCtxSynchronize);
  VLLM_FIND(cuMemAlloc_v2);
  VLLM_FIND(cuMemFree_v2);
  VLLM_FIND(cuMemsetD8_v2);
  VLLM_FIND(cuIpcGetMemHandle);
  VLLM_FIND(cuIpcOpenMemHandle_v2);
  VLLM_FIND(cuIpcCloseMemHandle);
  VLLM_FIND(cuGetErrorName);
  VLLM_FIND(cuGetErrorString);
#undef VLLM_FIND
  driver.cuLaunchKernelEx =
      reinterpret_cast<decltype(driver.cuLaunchKernelEx)>(dlsym(library, "cuLaunchKernelEx"));
  driver.cuTensorMapEncodeTiled = reinterpret_cast<decltype(driver.cuTensorMapEncodeTiled)>(
      dlsym(library, "cuTensorMapEncodeTiled"));
  return driver;
}

// Opened, not initialized: enough to query its version. After a failure, it is tried again.
const Driver& opened() {
  static const Driver driver = open_driver();
  return driver;
}

std::vector<Device> find_devices() {
  const Driver& cu = driver();
  int count = 0;
  check(cu.cuDeviceGetCount(&count), "cuDeviceGetCount");
  std::vector<Device> found;
  for (int index = 0; index < count; ++index) {
    Device device{};
    device.index = index;
    check(cu.cuDeviceGet(&device.handle, index), "cuDeviceGet");
    char name[256] = "";
    check(cu.cuDeviceGetName(name, sizeof name, device.handle), "cuDeviceGetName");
    device.name = name;
    const auto ask = [&](int attribute, int& value) {
      check(cu.cuDeviceGetAttribute(&value, attribute, device.handle), "cuDeviceGetAttribute");
    };
    ask(kComputeCapabilityMajor, device.major);
    ask(kComputeCapabilityMinor, device.minor);
    ask(kProcessors, device.processors);
    ask(kSharedPerProcessor, device.processor_shared_bytes);
    ask(kSharedPerBlock, device.block_shared_bytes);
    found.push_back(device);
  }
  return found;
}

// Retained once and never released: cached functions belong to it.
Context primary_context(int index) {
  static std::atomic<Context> contexts[kMaxDevices];
  if (index < 0 || index >= kMaxDevices) {
    throw Error(ErrorKind::runtime,
                concat("cuda:", index, ": vllm knows cuda:0 to cuda:", kMaxDevices - 1));
  }
  Context context = contexts[index].load(std::memory_order_acquire);
  if (context == nullptr) {  // two threads may both retain it: they get the same one
    check(driver().cuDevicePrimaryCtxRetain(&context, device(index).handle),
          "cuDevicePrimaryCtxRetain");
    contexts[index].store(context, std::memory_order_release);
  }
  return context;
}

}  // namespace

const Driver& driver() {
  static const Driver& initialized = [&]() -> const Driver& {
    const Driver& cu = opened();
    check(cu.cuInit(0), "cuInit");
    return cu;
  }();
  return initialized;
}

int driver_version() {
  int version = 0;
  check(opened().cuDriverGetVersion(&version), "cuDriverGetVersion");
  return version;
}

void fail(Result result, const char* call, const std::string& where) {
  const char* name = nullptr;
  const char* text = nullptr;
  opened().cuGetErrorName(result, &name);
  opened().cuGetErrorString(result, &text);
  throw Error(ErrorKind::runtime,
              concat(call, " failed: ", name != nullptr ? name : "an unknown error", " (",
                     text != nullptr ? text : std::to_string(result).c_str(), ")", where));
}

std::string describe(const Device& device) {
  const int version = driver_version();
  return concat("cuda:", device.index, " (", device.name, ", compute capability ", device.major,
                ".", device.minor, "; driver of CUDA ", version / 1000, ".", version % 1000 / 10,
                ")");
}

const std::vector<Device>& devices() {
  static const auto& found = *new std::vector<Device>(find_devices());
  return found;
}

const Device& device(int index) {
  const size_t count = devices().size();
  if (index < 0 || static_cast<size_t>(index) >= count) {
    throw Error(ErrorKind::runtime,
                concat("there is no device cuda:", index, ": this process sees ", count, " GPUs"));
  }
  return devices()[static_cast<size_t>(index)];
}

ContextGuard::ContextGuard(int device) {
  const Context wanted = primary_context(device);
  Context current = nullptr;
  const Driver& cu = driver();
  check(cu.cuCtxGetCurrent(&current), "cuCtxGetCurrent");
  if (current == wanted) return;
  check(cu.cuCtxPushCurrent_v2(wanted), "cuCtxPushCurrent");
  pushed_by_ = &cu;
}

ContextGuard::~ContextGuard() {
  Context popped;
  if (pushed_by_ != nullptr) pushed_by_->cuCtxPopCurrent_v2(&popped);
}

RelaxedCapture::RelaxedCapture() : driver_(driver()) {
  check(driver_.cuThreadExchangeStreamCaptureMode(&mode_), "cuThreadExchangeStreamCaptureMode");
}

RelaxedCapture::~RelaxedCapture() { driver_.cuThreadExchangeStreamCaptureMode(&mode_); }

}  // namespace vllm::cuda
