// The plan of a step as a launch on CUDA takes it.
#pragma once

#include "ops/ops.h"
#include "params/attention.h"

namespace vllm::ops {

// Checks a plan, which may be missing, and that attention writes to none of its tensors.
void require_plan(const char* op, const AttentionPlan* plan, const PagedAttentionParams& params,
                  const Tensor& out, const Tensor& query);

AttentionLaunchParams launch_params(const PagedAttentionParams& params, const AttentionPlan& plan);

}  // namespace vllm::ops
