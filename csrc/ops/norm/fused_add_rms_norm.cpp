#include "ops/norm/norm.h"
#include "ops/ops.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "fused_add_rms_norm";

NormKernels cuda_kernels[kFloatTypes] = {
    {{"rms_norm", "fused_add_rms_norm_f32"},
     {"rms_norm", "fused_add_rms_norm_f32_vec"},
     {"rms_norm", "fused_add_rms_norm_f32_row"},
     {"rms_norm", "fused_add_rms_norm_f32_row_keep"}},
    {{"rms_norm", "fused_add_rms_norm_f16"},
     {"rms_norm", "fused_add_rms_norm_f16_vec"},
     {"rms_norm", "fused_add_rms_norm_f16_row"},
     {"rms_norm", "fused_add_rms_norm_f16_row_keep"}},
    {{"rms_norm", "fused_add_rms_norm_bf16"},
     {"rms_norm", "fused_add_rms_norm_bf16_vec"},
     {"rms_norm", "fused_add_rms_norm_bf16_row"},
     {"rms_norm", "fused_add_rms_norm_bf16_row_keep"}},
};

}  // namespace

void fused_add_rms_norm(const Tensor& input, const Tensor& residual, const Tensor& weight,
                        double epsilon) {
  require_float(kOp, input);
  for (const Tensor* tensor : {&residual, &weight}) {
    require_same_dtype(kOp, *tensor, input);
    require_same_device(kOp, *tensor, input);
  }
  const Rows rows = require_rows(kOp, input);
  require_same_shape(kOp, residual, input);
  const Rows residual_rows = require_rows(kOp, residual);
  require_vector(kOp, weight, rows.width, "the last dimension of 'input'");
  require_writable(kOp, input);
  require_writable(kOp, residual);
  require_disjoint(kOp, input, residual, Sharing::none);
  require_disjoint(kOp, input, weight, Sharing::none);
  require_disjoint(kOp, residual, weight, Sharing::none);

  RmsNormParams params{};
  params.out = input.data;
  params.input = input.data;
  params.residual = residual.data;
  params.weight = weight.data;
  params.rows = rows.rows;
  params.width = rows.width;
  params.out_stride = rows.stride;
  params.input_stride = rows.stride;
  params.residual_stride = residual_rows.stride;
  params.epsilon = require_epsilon(kOp, epsilon);
  if (params.rows == 0 || params.width == 0) return;

  if (input.device_type == DeviceType::cuda) {
    run_norm_on_cuda(cuda_kernels, params, input);
  } else {
    run_on_cpu(cpu::kernels().rms_norm[float_index(input.dtype)], params, params.rows,
               4 * params.rows * params.width * element_size(input.dtype));
  }
}

}  // namespace vllm::ops
