#include "runtime/peer_memory.h"

#include <cstring>

#include "params/comm.h"
#include "runtime/driver.h"
#include "runtime/error.h"
#include "runtime/text.h"

namespace vllm::cuda {
namespace {

constexpr unsigned kEnablePeerAccess = 1;  // CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

void* handle_data(const Tensor& handle) {
  if (handle.device_type != DeviceType::cpu || handle.dtype != DType::int64 || handle.ndim != 1 ||
      handle.shape[0] * static_cast<int64_t>(sizeof(int64_t)) != sizeof(IpcHandle) ||
      handle.strides[0] != 1 || handle.read_only) {
    throw Error(ErrorKind::value,
                "the handle of peer memory is no int64 [8], contiguous and writable, on the CPU");
  }
  return handle.data;
}

DevicePointer pointer(int64_t address) { return static_cast<DevicePointer>(address); }

}  // namespace

int64_t allocate_peer_memory(int64_t device, int64_t bytes, int64_t zeros) {
  if (zeros < 0 || bytes < zeros || bytes == 0) {
    throw Error(ErrorKind::value,
                concat("allocate_peer_memory: 'bytes' is ", bytes, " and 'zeros' is ", zeros,
                       "; it takes at least 1 byte, and 0 to all of them as zeros"));
  }
  const ContextGuard guard(static_cast<int>(device));
  const Driver& cu = driver();
  DevicePointer address = 0;
  check(cu.cuMemAlloc_v2(&address, static_cast<size_t>(bytes)), "cuMemAlloc");
  check(cu.cuMemsetD8_v2(address, kExchangeEmpty, static_cast<size_t>(bytes)), "cuMemsetD8");
  check(cu.cuMemsetD8_v2(address, 0, static_cast<size_t>(zeros)), "cuMemsetD8");
  check(cu.cuCtxSynchronize(), "cuCtxSynchronize");  // others may write to it from now on
  return static_cast<int64_t>(address);
}

void free_peer_memory(int64_t device, int64_t address) {
  const ContextGuard guard(static_cast<int>(device));
  check(driver().cuMemFree_v2(pointer(address)), "cuMemFree");
}

void peer_memory_handle(int64_t device, int64_t address, const Tensor& handle) {
  void* out = handle_data(handle);
  const ContextGuard guard(static_cast<int>(device));
  IpcHandle made;
  check(driver().cuIpcGetMemHandle(&made, pointer(address)), "cuIpcGetMemHandle");
  std::memcpy(out, &made, sizeof made);
}

int64_t open_peer_memory(int64_t device, const Tensor& handle) {
  IpcHandle given;
  std::memcpy(&given, handle_data(handle), sizeof given);
  const ContextGuard guard(static_cast<int>(device));
  DevicePointer address = 0;
  check(driver().cuIpcOpenMemHandle_v2(&address, given, kEnablePeerAccess), "cuIpcOpenMemHandle");
  return static_cast<int64_t>(address);
}

void close_peer_memory(int64_t device, int64_t address) {
  const ContextGuard guard(static_cast<int>(device));
  check(driver().cuIpcCloseMemHandle(pointer(address)), "cuIpcCloseMemHandle");
}

}  // namespace vllm::cuda
