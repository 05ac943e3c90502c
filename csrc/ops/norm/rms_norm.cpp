#include "ops/norm/norm.h"
#include "ops/ops.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "rms_norm";

NormKernels cuda_kernels[kFloatTypes] = {
    {{"rms_norm", "rms_norm_f32"},
     {"rms_norm", "rms_norm_f32_vec"},
     {"rms_norm", "rms_norm_f32_row"}},
    {{"rms_norm", "rms_norm_f16"},
     {"rms_norm", "rms_norm_f16_vec"},
     {"rms_norm", "rms_norm_f16_row"}},
    {{"rms_norm", "rms_norm_bf16"},
     {"rms_norm", "rms_norm_bf16_vec"},
     {"rms_norm", "rms_norm_bf16_row"}},
};

}  // namespace

void rms_norm(const Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  require_float(kOp, input);
  for (const Tensor* tensor : {&out, &weight}) {
    require_same_dtype(kOp, *tensor, input);
    require_same_device(kOp, *tensor, input);
  }
  const RowLayout in_rows = require_rows(kOp, input);
  require_same_shape(kOp, out, input);
  const RowLayout out_rows = require_rows(kOp, out);
  require_vector(kOp, weight, in_rows.width, "the last dimension of 'input'");
  require_writable(kOp, out);
  require_disjoint(kOp, out, input, Sharing::may_be_same);
  require_disjoint(kOp, out, weight, Sharing::none);

  RmsNormParams params{};
  params.out = out.data;
  params.input = input.data;
  params.weight = weight.data;
  params.rows = in_rows.rows;
  params.width = in_rows.width;
  params.out_stride = out_rows.stride;
  params.input_stride = in_rows.stride;
  params.epsilon = require_epsilon(kOp, epsilon);
  if (params.rows == 0 || params.width == 0) return;

  if (input.device_type == DeviceType::cuda) {
    run_norm_on_cuda(cuda_kernels, params, input);
  } else {
    run_on_cpu(cpu::kernels().rms_norm[float_index(input.dtype)], params, params.rows,
               2 * params.rows * params.width * element_size(input.dtype));
  }
}

}  // namespace vllm::ops
