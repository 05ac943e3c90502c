#include "params/copy.h"

#include "ops/common/launch.h"
#include "ops/copy/pinned.h"
#include "ops/ops.h"

namespace vllm::ops {
namespace {

constexpr const char* kWait = "wait_for_host";
constexpr const char* kTell = "tell_device";

cuda::Kernel cuda_kernel = {"wait_for_host", "wait_for_host"};

void require_gate(const char* op, const Tensor& gate) {
  require_dtype(op, gate, DType::int64, "");
  require_vector(op, gate, 2, "what is done, what was missed");
  require_writable(op, gate);
  if (gate.device_type != DeviceType::cpu) {
    refuse(ErrorKind::value, op, gate, "is on a GPU", "memory of the host");
  }
}

}  // namespace

void wait_for_host(const Tensor& gate, const Tensor& due, int64_t nanoseconds) {
  require_gate(kWait, gate);
  require_dtype(kWait, due, DType::int64, "");
  require_vector(kWait, due, 1, "a number to wait for");
  if (due.device_type != DeviceType::cuda) {
    refuse(ErrorKind::value, kWait, due, "is on the CPU", "a tensor on a GPU");
  }
  const cuda::ContextGuard guard(due.device_index);
  WaitForHostParams params{};
  params.gate = static_cast<i64*>(device_pointer(kWait, gate));
  params.due = static_cast<const i64*>(due.data);
  params.nanoseconds = nanoseconds;
  run_on_cuda(cuda_kernel, cuda::Grid{1, 1, 1}, params, due);
}

void tell_device(const Tensor& gate, int64_t value) {
  require_gate(kTell, gate);
  // Release: the masks are visible to whoever sees the number.
  __atomic_store_n(static_cast<i64*>(gate.data), i64{value}, __ATOMIC_RELEASE);
}

}  // namespace vllm::ops
