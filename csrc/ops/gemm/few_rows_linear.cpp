#include "ops/common/launch.h"
#include "ops/gemm/few_rows.h"
#include "ops/norm/norm.h"
#include "ops/ops.h"
#include "params/gemm.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "few_rows_linear";

// A matrix of one stride, whose shape is [rows, width].
RowLayout require_matrix(const Tensor& tensor, const char* shape) {
  require_ndim(kOp, tensor, 2, shape);
  return require_rows(kOp, tensor);
}

void require_shape(const Tensor& tensor, i64 rows, i64 width, const char* why) {
  if (tensor.ndim != 2 || tensor.shape[0] != rows || tensor.shape[1] != width) {
    refuse(ErrorKind::value, kOp, tensor, concat("has shape ", shape_text(tensor)),
           concat("(", rows, ", ", width, "), ", why));
  }
}

// Rows that start at a multiple of 16 bytes, as the kernels read them.
void require_packs(const Tensor& tensor, i64 rows, i64 stride) {
  if (packs_16_bytes(tensor.data, rows, stride, 0, 2)) return;
  refuse(ErrorKind::value, kOp, tensor, "has rows that do not start at multiples of 16 bytes",
         "rows that do, on CUDA");
}

void require_cuda_can(const FewRowsParams& p, const Tensor& x, const Tensor& weight,
                      const Tensor* norm_weight) {
  if (x.dtype == DType::float32) {
    refuse(ErrorKind::type, kOp, x, "has dtype float32", "float16 or bfloat16 on CUDA");
  }
  if (p.inputs % 8 != 0) {
    refuse(ErrorKind::value, kOp, x, concat("has rows of ", p.inputs, " elements"),
           "a multiple of 8 on CUDA");
  }
  require_packs(x, p.rows, p.x_stride);
  require_packs(weight, weight.shape[0], p.weight_stride);
  if (norm_weight != nullptr) require_packs(*norm_weight, 1, 0);
  if (cuda::code_arch(x.device_index).major < 8) {
    throw Error(ErrorKind::runtime,
                concat(kOp, ": ", cuda::describe(cuda::device(x.device_index)),
                       " is too old for it; it takes compute capability 8.0 or later"));
  }
}

}  // namespace

void few_rows_linear(const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor* bias,
                     const Tensor* norm_weight, double epsilon, bool gated,
                     const Tensor* residual) {
  require_float(kOp, x);
  for (const Tensor* tensor : {&out, &weight, bias, norm_weight, residual}) {
    if (tensor == nullptr) continue;
    require_same_dtype(kOp, *tensor, x);
    require_same_device(kOp, *tensor, x);
  }
  const RowLayout x_rows = require_matrix(x, "(rows, inputs)");
  const RowLayout weight_rows = require_matrix(weight, "(outputs, inputs)");
  require_shape(weight, weight.shape[0], x.shape[1], "as many inputs as 'x' has");
  if (x.shape[0] > kFewRows) {
    refuse(ErrorKind::value, kOp, x, concat("has ", x.shape[0], " rows"),
           concat("at most ", kFewRows));
  }
  if (gated && weight.shape[0] % 2 != 0) {
    refuse(ErrorKind::value, kOp, weight, concat("has ", weight.shape[0], " rows"),
           "an even number of them if gated: two halves");
  }
  const i64 outputs = gated ? weight.shape[0] / 2 : weight.shape[0];
  require_shape(out, x.shape[0], outputs, "the rows of 'x' and the outputs of 'weight'");
  const RowLayout out_rows = require_rows(kOp, out);
  if (bias != nullptr) require_vector(kOp, *bias, weight.shape[0], "the rows of 'weight'");
  if (norm_weight != nullptr) require_vector(kOp, *norm_weight, x.shape[1], "a row of 'x'");
  require_writable(kOp, out);
  for (const Tensor* tensor : {&x, &weight, bias, norm_weight}) {
    if (tensor != nullptr) require_disjoint(kOp, out, *tensor, Sharing::none);
  }

  FewRowsParams params{};
  params.out = out.data;
  params.x = x.data;
  params.weight = weight.data;
  params.bias = bias != nullptr ? bias->data : nullptr;
  params.norm_weight = norm_weight != nullptr ? norm_weight->data : nullptr;
  params.rows = x.shape[0];
  params.inputs = x.shape[1];
  params.outputs = outputs;
  params.out_stride = out_rows.stride;
  params.x_stride = x_rows.stride;
  params.weight_stride = weight_rows.stride;
  params.epsilon = norm_weight != nullptr ? require_epsilon(kOp, epsilon) : 0.0f;
  params.gated = gated;
  if (residual != nullptr) {
    require_same_shape(kOp, *residual, out);
    params.residual = residual->data;
    params.residual_stride = require_rows(kOp, *residual).stride;
    require_disjoint(kOp, out, *residual, Sharing::may_be_same);
  }
  const bool on_cuda = x.device_type == DeviceType::cuda;
  if (on_cuda) require_cuda_can(params, x, weight, norm_weight);
  if (params.rows == 0 || params.outputs == 0) return;

  if (on_cuda) {
    run_few_rows(params, x);
  } else {
    run_on_cpu(cpu::kernels().few_rows_linear[float_index(x.dtype)], params, params.outputs,
               weight.shape[0] * params.inputs * element_size(x.dtype));
  }
}

}  // namespace vllm::ops
