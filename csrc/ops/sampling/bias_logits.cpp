#include "ops/common/launch.h"
#include "ops/ops.h"
#include "ops/sampling/token_counters.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "bias_logits";
constexpr i64 kThreads = 256;

cuda::Kernel cuda_kernel = {"penalties", "bias_logits"};

}  // namespace

void bias_logits(const Tensor& logits, const Tensor& rows, const Tensor& tokens,
                 const Tensor& amounts, const Tensor& after, const Tensor& inputs) {
  const RowLayout layout = require_logits(kOp, logits);
  require_ndim(kOp, rows, 1, "(changes,)");
  const char* why = "the length of 'rows'";
  BiasLogitsParams params{};
  params.changes = rows.shape[0];
  params.logits = static_cast<float*>(logits.data);
  params.rows = require_indices(kOp, rows, params.changes, why, logits);
  params.tokens = require_indices(kOp, tokens, params.changes, why, logits);
  params.amounts = require_reals(kOp, amounts, params.changes, why, logits);
  params.after = require_indices(kOp, after, params.changes, why, logits);
  params.inputs =
      require_indices(kOp, inputs, layout.rows, "an entry for each row of 'logits'", logits);
  params.num_rows = layout.rows;
  params.vocab = layout.width;
  params.stride = layout.stride;
  if (params.changes == 0) return;

  if (logits.device_type == DeviceType::cuda) {
    run_on_cuda(cuda_kernel,
                early_grid(grid_x((params.changes + kThreads - 1) / kThreads), 1, kThreads), params,
                logits);
  } else {
    require_in_range(kOp, rows, -1, params.num_rows, "the rows of 'logits'");
    require_in_range(kOp, tokens, 0, params.vocab, "the tokens of 'logits'");
    run_on_cpu(cpu::kernels().bias_logits, params, params.changes, 0);  // on one thread
  }
}

}  // namespace vllm::ops
