#include "ops/common/launch.h"
#include "ops/copy/pinned.h"
#include "ops/ops.h"
#include "runtime/driver.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "send_pinned";

}  // namespace

void send_pinned(const Tensor& out, const Tensor& input) {
  require_dtype(kOp, out, DType::int64, "");
  require_dtype(kOp, input, DType::int64, "");
  require_ndim(kOp, input, 1, "(count,)");
  require_contiguous_last(kOp, input);
  require_vector(kOp, out, input.shape[0], "the length of 'input'");
  require_writable(kOp, out);
  if (out.device_type != DeviceType::cuda || input.device_type != DeviceType::cpu) {
    refuse(ErrorKind::value, kOp, out, "is on the wrong device",
           "a tensor on a GPU, and 'input' on the CPU");
  }
  if (input.shape[0] == 0) return;

  const cuda::ContextGuard guard(out.device_index);
  device_pointer(kOp, input);  // the driver would wait for a copy of other memory
  void* stream = out.source->current_stream(out.device_index);
  const auto to = reinterpret_cast<cuda::DevicePointer>(out.data);
  const auto bytes = static_cast<size_t>(input.shape[0]) * sizeof(i64);
  cuda::check(
      cuda::driver().cuMemcpyHtoDAsync_v2(to, input.data, bytes, static_cast<cuda::Stream>(stream)),
      "cuMemcpyHtoDAsync");
}

}  // namespace vllm::ops
