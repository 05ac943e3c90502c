#include "ops/common/launch.h"
#include "ops/ops.h"
#include "params/activation.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "silu_and_mul";

cuda::Kernel cuda_kernels[kFloatTypes][2] = {
    {{"activation", "silu_and_mul_f32"}, {"activation", "silu_and_mul_f32_vec"}},
    {{"activation", "silu_and_mul_f16"}, {"activation", "silu_and_mul_f16_vec"}},
    {{"activation", "silu_and_mul_bf16"}, {"activation", "silu_and_mul_bf16_vec"}},
};

// `out` must have the shape of `input`, with half its last dimension.
void require_half_as_wide(const Tensor& out, const Tensor& input) {
  const int last = input.ndim - 1;
  if (input.shape[last] % 2 != 0) {
    refuse(ErrorKind::value, kOp, input, concat("has shape ", shape_text(input)),
           "an even last dimension: two halves");
  }
  Tensor half = input;
  half.shape[last] /= 2;
  bool fits = out.ndim == input.ndim;
  for (int i = 0; fits && i <= last; ++i) fits = out.shape[i] == half.shape[i];
  if (fits) return;
  refuse(ErrorKind::value, kOp, out, concat("has shape ", shape_text(out)),
         concat(shape_text(half), ", half of the last dimension of 'input'"));
}

void run_silu_on_cuda(const SiluAndMulParams& params, const Tensor& input) {
  const i64 size = element_size(input.dtype);
  const bool vectors =
      packs_16_bytes(params.out, params.rows, params.out_stride, params.width, size) &&
      packs_16_bytes(params.input, params.rows, params.input_stride, params.width, size);
  run_packs_on_cuda(cuda_kernels[float_index(input.dtype)][vectors ? 1 : 0], params, params.rows,
                    vectors ? params.width * size / 16 : params.width, 1, input);
}

}  // namespace

void silu_and_mul(const Tensor& out, const Tensor& input) {
  require_float(kOp, input);
  require_same_dtype(kOp, out, input);
  require_same_device(kOp, out, input);
  const RowLayout in_rows = require_rows(kOp, input);
  require_half_as_wide(out, input);
  const RowLayout out_rows = require_rows(kOp, out);
  require_writable(kOp, out);
  require_disjoint(kOp, out, input, Sharing::none);

  SiluAndMulParams params{};
  params.out = out.data;
  params.input = input.data;
  params.rows = out_rows.rows;
  params.width = out_rows.width;
  params.out_stride = out_rows.stride;
  params.input_stride = in_rows.stride;
  if (params.rows == 0 || params.width == 0) return;

  if (input.device_type == DeviceType::cuda) {
    run_silu_on_cuda(params, input);
  } else {
    run_on_cpu(cpu::kernels().silu_and_mul[float_index(input.dtype)], params, params.rows,
               3 * params.rows * params.width * element_size(input.dtype));
  }
}

}  // namespace vllm::ops
