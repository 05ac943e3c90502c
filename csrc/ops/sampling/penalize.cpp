#include "ops/common/launch.h"
#include "ops/ops.h"
#include "ops/sampling/token_counters.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "penalize";
constexpr i64 kThreads = 512;

cuda::Kernel cuda_kernel = {"penalties", "penalize"};

}  // namespace

void penalize(const Tensor& logits, const Tensor& inputs, const Tensor& counters,
              const Tensor& counts, const Tensor& repetition, const Tensor& presence,
              const Tensor& frequency, const Tensor& seen, const Tensor& uses) {
  const RowLayout layout = require_logits(kOp, logits);
  const char* why = "an entry for each row of 'logits'";
  PenalizeParams params{};
  params.logits = static_cast<float*>(logits.data);
  params.inputs = require_indices(kOp, inputs, layout.rows, why, logits);
  params.counters = require_indices(kOp, counters, layout.rows, why, logits);
  params.counts = require_indices(kOp, counts, layout.rows, why, logits);
  params.repetition = require_reals(kOp, repetition, layout.rows, why, logits);
  params.presence = require_reals(kOp, presence, layout.rows, why, logits);
  params.frequency = require_reals(kOp, frequency, layout.rows, why, logits);
  params.state = require_counters(kOp, seen, uses);
  params.rows = layout.rows;
  params.stride = layout.stride;
  if (params.state.vocab != layout.width) {
    refuse(ErrorKind::value, kOp, uses, concat("has shape ", shape_text(uses)),
           concat("rows of ", layout.width, ", as 'logits'"));
  }
  require_same_device(kOp, seen, logits);
  for (const Tensor* state : {&seen, &uses}) {
    for (const Tensor* tensor :
         {&logits, &inputs, &counters, &counts, &repetition, &presence, &frequency}) {
      require_disjoint(kOp, *state, *tensor, Sharing::none);
    }
  }
  if (params.rows == 0) return;

  if (logits.device_type == DeviceType::cuda) {
    run_on_cuda(cuda_kernel, early_grid(grid_x(params.rows), 1, kThreads), params, logits);
  } else {
    require_in_range(kOp, inputs, 0, params.state.vocab, "the tokens of 'logits'");
    require_in_range(kOp, counters, -1, params.state.counters, "the counters of 'seen'");
    run_on_cpu(cpu::kernels().penalize, params, params.rows, 64 * params.rows * params.state.words);
  }
}

}  // namespace vllm::ops
