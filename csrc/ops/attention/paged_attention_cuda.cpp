// Checks a plan, chooses the kernels and launches them: one for decode items, one for prefill
// items.
#include <initializer_list>

#include "ops/attention/paged_attention.h"
#include "ops/common/launch.h"
#include "params/attention_shape.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "paged_attention";

// Decode and prefill for one type and head size.
struct Kernels {
  int head_size;
  cuda::Kernel decode;
  cuda::Kernel prefill;
};

#define VLLM_TENSOR_CORE_KERNELS(name, head)                       \
  {                                                                \
    head, {"attention_decode", "paged_decode_" #name "_" #head}, { \
      "attention_prefill", "paged_prefill_" #name "_" #head        \
    }                                                              \
  }
#define VLLM_TENSOR_CORE_HEADS(name)                                        \
  {VLLM_TENSOR_CORE_KERNELS(name, 64), VLLM_TENSOR_CORE_KERNELS(name, 80),  \
   VLLM_TENSOR_CORE_KERNELS(name, 96), VLLM_TENSOR_CORE_KERNELS(name, 128), \
   VLLM_TENSOR_CORE_KERNELS(name, 256)}

constexpr int kHeadSizes = 5;
Kernels half_kernels[kHeadSizes] = VLLM_TENSOR_CORE_HEADS(f16);
Kernels bfloat16_kernels[kHeadSizes] = VLLM_TENSOR_CORE_HEADS(bf16);

// Any head size and layout.
Kernels plain_kernels[kFloatTypes] = {
    {0, {"attention_plain", "paged_decode_f32"}, {"attention_plain", "paged_prefill_f32"}},
    {0, {"attention_plain", "paged_decode_f16"}, {"attention_plain", "paged_prefill_f16"}},
    {0, {"attention_plain", "paged_decode_bf16"}, {"attention_plain", "paged_prefill_bf16"}},
};

// Whether copies of 16 bytes, and chunks of 16 tokens of one block, fit the layout.
bool fits_tensor_cores(const PagedAttentionParams& p) {
  const auto aligned = [](const void* data, i64 a, i64 b, i64 c) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (a | b | c) % 8 == 0;
  };
  // The query is read in pairs.
  const bool pairs = reinterpret_cast<uintptr_t>(p.query) % 4 == 0 &&
                     (p.query_token_stride | p.query_head_stride) % 2 == 0;
  return pairs && p.block_size % kChunk == 0 &&
         aligned(p.key_cache, p.key_block_stride, p.key_slot_stride, p.key_head_stride) &&
         aligned(p.value_cache, p.value_block_stride, p.value_slot_stride, p.value_head_stride);
}

// Every head size has its kernel where there are asynchronous copies.
constexpr bool fits_everywhere() {
  for (const int arch : {80, 86, 87, 89, 90, 100, 103, 110, 120, 121}) {
    for (const int head_size : {64, 80, 96, 128, 256}) {
      const int decode = decode_shared_bytes(head_size, decode_stages(head_size, arch));
      const int prefill = prefill_shared_bytes(head_size, arch);
      if (std::max(decode, prefill) > block_shared_bytes(arch)) return false;
    }
  }
  return true;
}
static_assert(fits_everywhere(), "a block of the attention kernels asks for too much memory");

// The arch that a device's code was compiled for, as the kernels were told: 80 for 8.0.
int code_number(int device) {
  const cuda::Arch& arch = cuda::code_arch(device);
  return arch.major * 10 + arch.minor;
}

struct Choice {
  Kernels* kernels;
  unsigned decode_shared;
  unsigned prefill_shared;
  unsigned prefill_blocks;  // of an item
};

Choice choose(const PagedAttentionParams& p, DType dtype, int device) {
  const int number = code_number(device);
  const bool tensor_cores = dtype == DType::bfloat16  ? number >= 80
                            : dtype == DType::float16 ? number >= 75
                                                      : false;
  if (tensor_cores && fits_tensor_cores(p)) {
    for (Kernels& kernels : dtype == DType::float16 ? half_kernels : bfloat16_kernels) {
      const int stages = decode_stages(kernels.head_size, number);
      const int decode = decode_shared_bytes(kernels.head_size, stages);
      const int prefill = prefill_shared_bytes(kernels.head_size, number);
      const int most = cuda::device(device).block_shared_bytes;
      if (kernels.head_size == p.head_size && std::max(decode, prefill) <= most) {
        return {&kernels, static_cast<unsigned>(decode), static_cast<unsigned>(prefill), 2};
      }
    }
  }
  return {&plain_kernels[float_index(dtype)], 0, 0, 1};
}

void require_plan(const AttentionPlan& plan, const PagedAttentionParams& p, const Tensor& query) {
  for (const Tensor* tensor : {&plan.items, &plan.arrivals, &plan.partials}) {
    require_same_device(kOp, *tensor, query);
    require_contiguous_last(kOp, *tensor);
  }
  require_dtype(kOp, plan.items, DType::int32, "");
  if (plan.items.ndim != 2 || plan.items.shape[1] != kItemInts ||
      (plan.items.shape[0] > 1 && plan.items.strides[0] != kItemInts)) {
    refuse(ErrorKind::value, kOp, plan.items, concat("has shape ", shape_text(plan.items)),
           concat("(items, ", kItemInts, "), contiguous, by plan_attention"));
  }
  require_dtype(kOp, plan.arrivals, DType::int32, "");
  if (plan.arrivals.ndim != 1 || plan.arrivals.shape[0] < kTickets) {
    refuse(ErrorKind::value, kOp, plan.arrivals, concat("has shape ", shape_text(plan.arrivals)),
           concat("(slots + ", kTickets, ",)"));
  }
  require_dtype(kOp, plan.partials, DType::float32, "");
  const i64 slots = plan.arrivals.shape[0] - kTickets;
  const i64 numbers = slots * kDecodeRows * (p.head_size + 2);
  if (plan.partials.ndim != 1 || plan.partials.shape[0] < numbers) {
    refuse(ErrorKind::value, kOp, plan.partials, concat("has shape ", shape_text(plan.partials)),
           concat("(", numbers, ",) at least, for ", slots, " slots"));
  }
  const i64 prefill_items = plan.prefill_tiles == 0 ? 0 : 1 + plan.prefill_tiles;
  if (plan.decode_blocks < 0 || plan.prefill_first < plan.decode_blocks || plan.prefill_tiles < 0 ||
      plan.prefill_first + prefill_items > plan.items.shape[0]) {
    refuse(ErrorKind::value, kOp, plan.items,
           concat("has ", plan.items.shape[0], " items, and the plan counts ", plan.decode_blocks,
                  " lists and ", plan.prefill_tiles, " tiles from ", plan.prefill_first, " on"),
           "the counts that plan_attention returned for them");
  }
}

}  // namespace

int64_t attention_blocks(int64_t head_size, int64_t device) {
  const int index = static_cast<int>(device);
  const cuda::Device& gpu = cuda::device(index);
  return int64_t{gpu.processors} * decode_blocks_per_processor(static_cast<int>(head_size),
                                                               code_number(index),
                                                               gpu.processor_shared_bytes);
}

void run_paged_attention_on_cuda(const PagedAttentionParams& params, const Tensor& out,
                                 const Tensor& query, const AttentionPlan* plan) {
  if (plan == nullptr) {
    refuse(ErrorKind::value, kOp, query, concat("is on cuda:", query.device_index),
           "there a plan beside it, made by plan_attention");
  }
  require_plan(*plan, params, query);
  for (const Tensor* read : {&plan->items, &plan->arrivals, &plan->partials}) {
    require_disjoint(kOp, out, *read, Sharing::none);
  }
  if (params.tokens == 0 || params.heads == 0) return;

  const i64 slots = plan->arrivals.shape[0] - kTickets;
  AttentionLaunchParams launch{};
  launch.attention = params;
  launch.items = static_cast<const AttentionItem*>(plan->items.data);
  launch.partials = static_cast<float*>(plan->partials.data);
  launch.weights = launch.partials + slots * kDecodeRows * params.head_size;
  launch.arrivals = static_cast<int*>(plan->arrivals.data);
  launch.settled = plan->settled ? 1 : 0;

  const Choice choice = choose(params, query.dtype, query.device_index);
  if (plan->decode_blocks > 0) {
    run_on_cuda(choice.kernels->decode,
                early_grid(grid_x(plan->decode_blocks), 1, kAttentionThreads, choice.decode_shared),
                launch, query);
  }
  if (plan->prefill_tiles > 0) {
    launch.items += plan->prefill_first;
    if (fits_wgmma(params, query.dtype, query.device_index)) {
      run_wgmma_prefill(launch, plan->prefill_tiles, launch.arrivals + slots, query);
    } else {
      run_on_cuda(choice.kernels->prefill,
                  early_grid(grid_x(plan->prefill_tiles * choice.prefill_blocks),
                             static_cast<unsigned>(params.kv_heads), kAttentionThreads,
                             choice.prefill_shared),
                  launch, query);
    }
  }
}

}  // namespace vllm::ops
