#include "params/copy.h"

#include "ops/common/launch.h"
#include "ops/copy/pinned.h"
#include "ops/ops.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "copy_pinned";
constexpr i64 kThreads = 256;

cuda::Kernel cuda_kernel = {"copy_pinned", "copy_pinned"};

}  // namespace

void copy_pinned(const Tensor& out, const Tensor& input) {
  require_dtype(kOp, out, DType::int64, "");
  require_dtype(kOp, input, DType::int64, "");
  require_ndim(kOp, input, 1, "(count,)");
  require_contiguous_last(kOp, input);
  require_vector(kOp, out, input.shape[0], "the length of 'input'");
  require_writable(kOp, out);
  const bool from_host = input.device_type == DeviceType::cpu;
  const Tensor& host = from_host ? input : out;
  const Tensor& device = from_host ? out : input;
  if (device.device_type != DeviceType::cuda || host.device_type != DeviceType::cpu) {
    refuse(ErrorKind::value, kOp, device, "is on the wrong device",
           "one tensor on a GPU and one on the CPU");
  }
  if (input.shape[0] == 0) return;

  const cuda::ContextGuard guard(device.device_index);
  CopyPinnedParams params{};
  params.out = static_cast<i64*>(from_host ? out.data : device_pointer(kOp, out));
  params.input = static_cast<const i64*>(from_host ? device_pointer(kOp, input) : input.data);
  params.count = input.shape[0];
  run_on_cuda(cuda_kernel,
              early_grid(grid_x((params.count + kThreads - 1) / kThreads), 1, kThreads), params,
              device);
}

}  // namespace vllm::ops
