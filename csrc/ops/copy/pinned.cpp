#include "ops/copy/pinned.h"

#include "ops/common/checks.h"
#include "runtime/driver.h"

namespace vllm::ops {

void* device_pointer(const char* op, const Tensor& host) {
  constexpr int kDevicePointer = 3;  // CU_POINTER_ATTRIBUTE_DEVICE_POINTER
  void* pointer = nullptr;
  const auto address = reinterpret_cast<unsigned long long>(host.data);
  void* into = static_cast<void*>(&pointer);
  if (cuda::driver().cuPointerGetAttribute(into, kDevicePointer, address) != 0) {
    refuse(ErrorKind::value, op, host, "is not pinned", "pinned memory, which a GPU can reach");
  }
  return pointer;
}

}  // namespace vllm::ops
