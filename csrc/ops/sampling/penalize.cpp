#include "ops/common/launch.h"
#include "ops/ops.h"
#include "params/sampling.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "penalize";
constexpr i64 kThreads = 256;

cuda::Kernel cuda_kernels[kFloatTypes] = {
    {"penalties", "penalize_f32"},
    {"penalties", "penalize_f16"},
    {"penalties", "penalize_bf16"},
};

// Before anything is written: on the CPU a wrong index leaves the logits as they were.
void require_in_range(const Tensor& indices, i64 end, const char* what) {
  const auto* values = static_cast<const i64*>(indices.data);
  for (i64 i = 0; i < indices.shape[0]; ++i) {
    if (values[i] < 0 || values[i] >= end) {
      refuse(ErrorKind::index, kOp, indices, concat("holds ", values[i], " at index ", i),
             concat("0 to ", end - 1, ", the ", what, " of 'logits'"));
    }
  }
}

}  // namespace

void penalize(const Tensor& logits, const Tensor& rows, const Tensor& tokens,
              const Tensor& repetition, const Tensor& subtract) {
  require_float(kOp, logits);
  require_ndim(kOp, logits, 2, "(rows, vocab)");
  const Rows layout = require_rows(kOp, logits);
  require_writable(kOp, logits);
  require_ndim(kOp, rows, 1, "(changes,)");
  for (const Tensor* tensor : {&rows, &tokens, &repetition, &subtract}) {
    const bool is_index = tensor == &rows || tensor == &tokens;
    require_dtype(kOp, *tensor, is_index ? DType::int64 : DType::float32, "");
    require_same_device(kOp, *tensor, logits);
    require_vector(kOp, *tensor, rows.shape[0], "the length of 'rows'");
    require_disjoint(kOp, logits, *tensor, Sharing::none);
  }

  PenalizeParams params{};
  params.logits = logits.data;
  params.rows = static_cast<const i64*>(rows.data);
  params.tokens = static_cast<const i64*>(tokens.data);
  params.repetition = static_cast<const float*>(repetition.data);
  params.subtract = static_cast<const float*>(subtract.data);
  params.changes = rows.shape[0];
  params.num_rows = layout.rows;
  params.vocab = layout.width;
  params.stride = layout.stride;
  if (params.changes == 0) return;

  if (logits.device_type == DeviceType::cuda) {
    run_on_cuda(cuda_kernels[float_index(logits.dtype)],
                early_grid(grid_x((params.changes + kThreads - 1) / kThreads), 1, kThreads), params,
                logits);
  } else {
    require_in_range(rows, params.num_rows, "rows");
    require_in_range(tokens, params.vocab, "tokens");
    // A cache line for each logit that is changed.
    run_on_cpu(cpu::kernels().penalize[float_index(logits.dtype)], params, params.changes,
               64 * params.changes);
  }
}

}  // namespace vllm::ops
