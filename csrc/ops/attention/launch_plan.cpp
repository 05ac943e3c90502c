#include "ops/attention/launch_plan.h"

#include <initializer_list>

#include "ops/common/checks.h"
#include "params/attention_shape.h"
#include "runtime/kernel.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

void require_tensors(const char* op, const AttentionPlan& plan, const PagedAttentionParams& p,
                     const Tensor& query) {
  for (const Tensor* tensor : {&plan.items, &plan.arrivals, &plan.partials}) {
    require_same_device(op, *tensor, query);
    require_contiguous_last(op, *tensor);
  }
  require_dtype(op, plan.items, DType::int32, "");
  if (plan.items.ndim != 2 || plan.items.shape[1] != kItemInts ||
      (plan.items.shape[0] > 1 && plan.items.strides[0] != kItemInts)) {
    refuse(ErrorKind::value, op, plan.items, concat("has shape ", shape_text(plan.items)),
           concat("(items, ", kItemInts, "), contiguous, by plan_attention"));
  }
  require_dtype(op, plan.arrivals, DType::int32, "");
  if (plan.arrivals.ndim != 1 || plan.arrivals.shape[0] < kTickets) {
    refuse(ErrorKind::value, op, plan.arrivals, concat("has shape ", shape_text(plan.arrivals)),
           concat("(slots + ", kTickets, ",)"));
  }
  require_dtype(op, plan.partials, DType::float32, "");
  const i64 slots = plan.arrivals.shape[0] - kTickets;
  const i64 numbers = slots * kDecodeRows * (p.head_size + 2);
  if (plan.partials.ndim != 1 || plan.partials.shape[0] < numbers) {
    refuse(ErrorKind::value, op, plan.partials, concat("has shape ", shape_text(plan.partials)),
           concat("(", numbers, ",) at least, for ", slots, " slots"));
  }
  const i64 prefill_items = plan.prefill_tiles == 0 ? 0 : 1 + plan.prefill_tiles;
  if (plan.decode_blocks < 0 || plan.prefill_first < plan.decode_blocks || plan.prefill_tiles < 0 ||
      plan.prefill_first + prefill_items > plan.items.shape[0]) {
    refuse(ErrorKind::value, op, plan.items,
           concat("has ", plan.items.shape[0], " items, and the plan counts ", plan.decode_blocks,
                  " lists and ", plan.prefill_tiles, " tiles from ", plan.prefill_first, " on"),
           "the counts that plan_attention returned for them");
  }
  const bool is_power = plan.cluster >= 0 && (plan.cluster & (plan.cluster - 1)) == 0;
  if (!is_power || plan.cluster > (cuda::has_clusters(query.device_index) ? kMostCluster : 1)) {
    throw Error(ErrorKind::value, concat(op, ": argument 'cluster' is ", plan.cluster,
                                         "; it takes what attention_cluster returns, or 0"));
  }
}

}  // namespace

void require_plan(const char* op, const AttentionPlan* plan, const PagedAttentionParams& params,
                  const Tensor& out, const Tensor& query) {
  if (plan == nullptr) {
    refuse(ErrorKind::value, op, query, concat("is on cuda:", query.device_index),
           "a tensor on the CPU, or a plan beside it, made by plan_attention");
  }
  require_tensors(op, *plan, params, query);
  for (const Tensor* read : {&plan->items, &plan->arrivals, &plan->partials}) {
    require_disjoint(op, out, *read, Sharing::none);
  }
}

AttentionLaunchParams launch_params(const PagedAttentionParams& params, const AttentionPlan& plan) {
  const i64 slots = plan.arrivals.shape[0] - kTickets;
  AttentionLaunchParams launch{};
  launch.attention = params;
  launch.items = static_cast<const AttentionItem*>(plan.items.data);
  launch.partials = static_cast<float*>(plan.partials.data);
  launch.weights = launch.partials + slots * kDecodeRows * params.head_size;
  launch.arrivals = static_cast<int*>(plan.arrivals.data);
  launch.metadata_ready = plan.metadata_ready ? 1 : 0;
  return launch;
}

}  // namespace vllm::ops
