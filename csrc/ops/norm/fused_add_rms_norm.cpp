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
  const AddNormRows rows = require_add_norm(kOp, input, residual, weight);

  RmsNormParams params{};
  fill_add_norm(params, rows, input, residual, weight, require_epsilon(kOp, epsilon));
  if (params.rows == 0 || params.width == 0) return;

  if (input.device_type == DeviceType::cuda) {
    run_norm_on_cuda(cuda_kernels, params, input);
  } else {
    run_on_cpu(cpu::kernels().rms_norm[float_index(input.dtype)], params, params.rows,
               4 * params.rows * params.width * element_size(input.dtype));
  }
}

}  // namespace vllm::ops
