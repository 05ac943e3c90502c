#include "ops/common/launch.h"
#include "ops/ops.h"
#include "ops/sampling/token_counters.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "count_tokens";
constexpr i64 kThreads = 512;

cuda::Kernel cuda_kernel = {"penalties", "count_tokens"};

void require_lists(const Tensor& starts, const Tensor& tokens) {
  const auto* values = static_cast<const i64*>(starts.data);
  const i64 lists = starts.shape[0] - 1;
  for (i64 i = 0; i <= lists; ++i) {
    const i64 least = i == 0 ? 0 : values[i - 1], most = i == 0 ? 0 : tokens.shape[0];
    if (values[i] < least || values[i] > most) {
      refuse(ErrorKind::index, kOp, starts, concat("holds ", values[i], " at index ", i),
             concat(least, " to ", most, " there"));
    }
  }
}

}  // namespace

void count_tokens(const Tensor& seen, const Tensor& uses, const Tensor& counters,
                  const Tensor& starts, const Tensor& tokens, const Tensor& counts) {
  CountTokensParams params{};
  params.state = require_counters(kOp, seen, uses);
  require_ndim(kOp, counters, 1, "(lists,)");
  require_ndim(kOp, tokens, 1, "(tokens,)");
  params.lists = counters.shape[0];
  const i64 entries = tokens.shape[0];
  params.counters = require_indices(kOp, counters, params.lists, "an entry for each list", seen);
  params.starts = require_indices(kOp, starts, params.lists + 1, "one more than lists", seen);
  params.tokens = require_indices(kOp, tokens, entries, "all lists", seen);
  params.uses = require_indices(kOp, counts, entries, "the length of 'tokens'", seen);
  for (const Tensor* tensor : {&counters, &starts, &tokens, &counts}) {
    require_disjoint(kOp, uses, *tensor, Sharing::none);
  }
  if (params.lists == 0) return;

  if (seen.device_type == DeviceType::cuda) {
    run_on_cuda(cuda_kernel, early_grid(grid_x(params.lists), 1, kThreads), params, seen);
  } else {
    require_in_range(kOp, counters, -1, params.state.counters, "the counters of 'seen'");
    require_in_range(kOp, tokens, 0, params.state.vocab, "the tokens of 'uses'");
    require_lists(starts, tokens);
    run_on_cpu(cpu::kernels().count_tokens, params, params.lists,
               4 * params.lists * params.state.words + 64 * entries);
  }
}

}  // namespace vllm::ops
