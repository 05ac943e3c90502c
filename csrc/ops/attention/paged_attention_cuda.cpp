// Chooses the kernels of attention on CUDA and launches them: one for decode items, which may also
// rotate, one for prefill items.
#include <algorithm>

#include "ops/attention/head_kernels.h"
#include "ops/attention/launch_plan.h"
#include "ops/attention/paged_attention.h"
#include "ops/common/launch.h"
#include "ops/rotary/rotary.h"
#include "params/attention_shape.h"

namespace vllm::ops {
namespace {

#define VLLM_DECODE_KERNELS(head)                            \
  {                                                          \
    head, {"attention_decode", "paged_decode_f16_" #head}, { \
      "attention_decode", "paged_decode_bf16_" #head         \
    }                                                        \
  }
#define VLLM_NEWEST_KERNELS(head)                             \
  {                                                           \
    head, {"attention_newest", "attend_newest_f16_" #head}, { \
      "attention_newest", "attend_newest_bf16_" #head         \
    }                                                         \
  }
#define VLLM_PREFILL_KERNELS(head)                             \
  {                                                            \
    head, {"attention_prefill", "paged_prefill_f16_" #head}, { \
      "attention_prefill", "paged_prefill_bf16_" #head         \
    }                                                          \
  }

HeadKernels decode_kernels[] = {VLLM_DECODE_KERNELS(64), VLLM_DECODE_KERNELS(80),
                                VLLM_DECODE_KERNELS(96), VLLM_DECODE_KERNELS(128),
                                VLLM_DECODE_KERNELS(256)};
HeadKernels newest_kernels[] = {VLLM_NEWEST_KERNELS(64), VLLM_NEWEST_KERNELS(128),
                                VLLM_NEWEST_KERNELS(256)};
HeadKernels prefill_kernels[] = {VLLM_PREFILL_KERNELS(64),  VLLM_PREFILL_KERNELS(80),
                                 VLLM_PREFILL_KERNELS(96),  VLLM_PREFILL_KERNELS(128),
                                 VLLM_PREFILL_KERNELS(192), VLLM_PREFILL_KERNELS(256)};

// For any head size and layout, indexed by dtype.
cuda::Kernel plain_decode[kFloatTypes] = {{"attention_plain", "paged_decode_f32"},
                                          {"attention_plain", "paged_decode_f16"},
                                          {"attention_plain", "paged_decode_bf16"}};
cuda::Kernel plain_prefill[kFloatTypes] = {{"attention_plain", "paged_prefill_f32"},
                                           {"attention_plain", "paged_prefill_f16"},
                                           {"attention_plain", "paged_prefill_bf16"}};

bool aligned(const void* data, i64 strides) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && strides % 8 == 0;
}

// Whether copies of 16 bytes, and chunks of 16 tokens of one block, fit the layout of the caches.
bool caches_fit(const PagedAttentionParams& p) {
  return p.block_size % kChunk == 0 &&
         aligned(p.key_cache, p.key_block_stride | p.key_slot_stride | p.key_head_stride) &&
         aligned(p.value_cache, p.value_block_stride | p.value_slot_stride | p.value_head_stride);
}

bool fits_decode(const PagedAttentionParams& p) {
  // The query is read in pairs.
  return caches_fit(p) && reinterpret_cast<uintptr_t>(p.query) % 4 == 0 &&
         (p.query_token_stride | p.query_head_stride) % 2 == 0;
}

bool fits_prefill(const PagedAttentionParams& p) {
  // The kernel computes offsets in 32 bits, in units of 16 bytes, once for keys and values; its
  // division of a token by the block size is exact up to position 2^29.
  constexpr i64 kMostSlots = 1024;
  const i64 elements = p.blocks * p.key_block_stride + p.block_size * p.key_slot_stride;
  return caches_fit(p) && aligned(p.query, p.query_token_stride | p.query_head_stride) &&
         aligned(p.out, p.out_token_stride | p.out_head_stride) && p.block_size <= kMostSlots &&
         p.key_block_stride == p.value_block_stride && p.key_slot_stride == p.value_slot_stride &&
         elements / 8 < i64{1} << 32;
}

// Whether the decode and prefill kernels fit every architecture that has asynchronous copies.
constexpr bool fits_everywhere() {
  for (const int arch : {80, 86, 87, 89, 90, 100, 103, 110, 120, 121}) {
    for (const int head_size : {64, 80, 96, 128, 192, 256}) {
      const int decode = decode_shared_bytes(head_size, decode_stages(head_size, arch));
      const int prefill = prefill_shared_bytes(head_size);
      if (std::max(decode, prefill) > block_shared_bytes(arch)) return false;
    }
  }
  return true;
}
static_assert(fits_everywhere(),
              "a CTA of the attention kernels uses more shared memory than there is");

// The compute capability that a device's code was compiled for, as __CUDA_ARCH__ / 10: 80 for 8.0.
int code_number(int device) {
  const cuda::Arch& arch = cuda::code_arch(device);
  return arch.major * 10 + arch.minor;
}

bool has_tensor_cores(DType dtype, int device) {
  return dtype == DType::bfloat16  ? code_number(device) >= 80
         : dtype == DType::float16 ? code_number(device) >= 75
                                   : false;
}

void run_decode(const AttentionLaunchParams& launch, i64 blocks, const Tensor& query) {
  const PagedAttentionParams& p = launch.attention;
  const int device = query.device_index, head_size = static_cast<int>(p.head_size);
  cuda::Kernel* kernel = &plain_decode[float_index(query.dtype)];
  unsigned shared = 0;
  if (has_tensor_cores(query.dtype, device) && fits_decode(p)) {
    const int stages = decode_stages(head_size, code_number(device));
    const int bytes = decode_shared_bytes(head_size, stages);
    cuda::Kernel* found = find_kernel(decode_kernels, p.head_size, query.dtype);
    if (found != nullptr && bytes <= cuda::device(device).block_shared_bytes) {
      kernel = found;
      shared = static_cast<unsigned>(bytes);
    }
  }
  run_on_cuda(*kernel, early_grid(grid_x(blocks), 1, kAttentionThreads, shared), launch, query);
}

void run_prefill(const AttentionLaunchParams& launch, i64 tiles, const Tensor& query) {
  const PagedAttentionParams& p = launch.attention;
  const int device = query.device_index, head_size = static_cast<int>(p.head_size);
  if (has_tensor_cores(query.dtype, device) && fits_prefill(p)) {
    const int bytes = prefill_shared_bytes(head_size);
    cuda::Kernel* kernel = find_kernel(prefill_kernels, p.head_size, query.dtype);
    if (kernel != nullptr && bytes <= cuda::device(device).block_shared_bytes) {
      const PrefillShape shape = prefill_shape(head_size);
      const i64 blocks = tiles * (kPrefillRows / shape.rows()) * p.kv_heads;
      run_on_cuda(*kernel,
                  early_grid(grid_x(blocks), 1, static_cast<unsigned>(32 * shape.warps),
                             static_cast<unsigned>(bytes)),
                  launch, query);
      return;
    }
  }
  run_on_cuda(plain_prefill[float_index(query.dtype)],
              early_grid(grid_x(tiles), static_cast<unsigned>(p.kv_heads), kAttentionThreads),
              launch, query);
}

}  // namespace

int64_t attention_blocks(int64_t head_size, int64_t device) {
  const int index = static_cast<int>(device);
  const cuda::Device& gpu = cuda::device(index);
  return int64_t{gpu.processors} * decode_blocks_per_processor(static_cast<int>(head_size),
                                                               code_number(index),
                                                               gpu.processor_shared_bytes);
}

int64_t prefill_blocks(int64_t head_size, int64_t device) {
  const int index = static_cast<int>(device);
  const cuda::Device& gpu = cuda::device(index);
  const int blocks =
      has_wgmma(head_size, index)
          ? 1
          : prefill_blocks_per_processor(static_cast<int>(head_size), gpu.processor_shared_bytes);
  return int64_t{gpu.processors} * blocks;
}

int64_t attention_cluster(int64_t sequences, int64_t heads, int64_t kv_heads, int64_t head_size,
                          int64_t blocks, int64_t device) {
  const int index = static_cast<int>(device);
  if (kv_heads < 1 || code_number(index) < 80 ||
      find_kernel(newest_kernels, head_size, DType::bfloat16) == nullptr) {
    return 0;
  }
  const i64 group = heads / kv_heads, tiles = (group + kDecodeRows - 1) / kDecodeRows;
  const i64 items = std::max<i64>(sequences, 1) * kv_heads * tiles;
  const auto fits = [&](int cluster) {
    const auto rows = static_cast<int>(std::min<i64>(group, kDecodeRows));
    // Clusters pay off only if they leave most of the GPU to the kernels around them (H200).
    return items * cluster <= (cluster > 1 ? blocks / 4 : blocks) &&
           newest_shared_bytes(static_cast<int>(head_size), rows, cluster) <=
               cuda::device(index).block_shared_bytes;
  };
  int cluster = cuda::has_clusters(index) ? kMostCluster : 1;
  while (cluster > 0 && !fits(cluster)) cluster /= 2;
  return cluster;
}

void run_paged_attention_on_cuda(const char* op, const PagedAttentionParams& params,
                                 const Tensor& out, const Tensor& query,
                                 const AttentionPlan* plan) {
  require_plan(op, plan, params, out, query);
  if (params.tokens == 0 || params.heads == 0) return;
  const AttentionLaunchParams launch = launch_params(params, *plan);

  // Prefill items first: decode items may merge their partial results.
  if (plan->prefill_tiles > 0) {
    AttentionLaunchParams prefill = launch;
    prefill.items += plan->prefill_first;
    if (fits_wgmma(params, query.dtype, query.device_index)) {
      const i64 slots = plan->arrivals.shape[0] - kTickets;
      run_wgmma_prefill(prefill, plan->prefill_tiles, launch.arrivals + slots, query);
    } else {
      run_prefill(prefill, plan->prefill_tiles, query);
    }
  }
  if (plan->decode_blocks > 0) run_decode(launch, plan->decode_blocks, query);
}

bool run_rotating_attention_on_cuda(const char* op, const PagedAttentionParams& params,
                                    const RotaryEmbeddingParams& rotary, const Tensor& out,
                                    const Tensor& query, const AttentionPlan* plan) {
  require_plan(op, plan, params, out, query);
  if (plan->cluster == 0 || !plan->metadata_ready || plan->prefill_tiles > 0) return false;
  const int device = query.device_index, head_size = static_cast<int>(params.head_size);
  cuda::Kernel* kernel = find_kernel(newest_kernels, params.head_size, query.dtype);
  const i64 group = params.heads / params.kv_heads;
  const auto rows = static_cast<int>(std::min<i64>(group, kDecodeRows));
  const int cluster = static_cast<int>(plan->cluster);
  const int bytes = newest_shared_bytes(head_size, rows, cluster);
  const int limit = cuda::device(device).block_shared_bytes;
  constexpr i64 kMostSlots = 0xffffffffll;  // a slot's number is divided in 32 bits
  if (kernel == nullptr || query.dtype == DType::float32 || code_number(device) < 80 ||
      bytes > limit || !fits_decode(params) || rotary.write.capacity > kMostSlots ||
      !rotates_whole_heads(rotary, element_size(query.dtype))) {
    return false;
  }
  if (params.tokens == 0 || params.heads == 0 || plan->decode_blocks == 0) return true;
  cuda::Grid grid = early_grid(grid_x(plan->decode_blocks * cluster), 1, 32 * kNewestWarps,
                               static_cast<unsigned>(bytes));
  grid.cluster = static_cast<unsigned>(cluster);
  grid.most_shared = static_cast<unsigned>(limit);
  run_on_cuda(
      *kernel, grid,
      RotatingAttentionParams{launch_params(params, *plan), rotary, static_cast<int>(group)},
      query);
  return true;
}

}  // namespace vllm::ops
