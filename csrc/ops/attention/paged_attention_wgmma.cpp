// Launches the prefill kernels for wgmma.
#include "ops/attention/head_kernels.h"
#include "ops/attention/paged_attention.h"
#include "ops/common/launch.h"
#include "params/attention_shape.h"
#include "params/attention_wgmma.h"
#include "runtime/tensor_map.h"

namespace vllm::ops {
namespace {

struct Kernels {
  int head_size;
  cuda::Kernel half[2];  // without a soft cap, and with
  cuda::Kernel bfloat16[2];
};

#define VLLM_WGMMA_KERNEL(name, head) {"attention_prefill_wgmma", "wgmma_prefill_" name #head}
#define VLLM_WGMMA_KERNELS(head)                                                       \
  {                                                                                    \
    head, {VLLM_WGMMA_KERNEL("f16_", head), VLLM_WGMMA_KERNEL("capped_f16_", head)}, { \
      VLLM_WGMMA_KERNEL("bf16_", head), VLLM_WGMMA_KERNEL("capped_bf16_", head)        \
    }                                                                                  \
  }

Kernels kernels[] = {VLLM_WGMMA_KERNELS(64),  VLLM_WGMMA_KERNELS(80),  VLLM_WGMMA_KERNELS(96),
                     VLLM_WGMMA_KERNELS(128), VLLM_WGMMA_KERNELS(192), VLLM_WGMMA_KERNELS(256)};

Kernels* kernels_of(i64 head_size) {
  for (Kernels& each : kernels) {
    if (each.head_size == head_size) return &each;
  }
  return nullptr;
}

#define VLLM_WGMMA_FEW_KERNELS(head)                                   \
  {                                                                    \
    head, {"attention_prefill_few", "wgmma_prefill_few_f16_" #head}, { \
      "attention_prefill_few", "wgmma_prefill_few_bf16_" #head         \
    }                                                                  \
  }

// For steps with a CTA (thread block) for each item, without a soft cap.
HeadKernels kernels_of_few[] = {VLLM_WGMMA_FEW_KERNELS(64), VLLM_WGMMA_FEW_KERNELS(128),
                                VLLM_WGMMA_FEW_KERNELS(256)};

// Bits of a power of two, or -1.
int bits_of(i64 size) {
  int bits = 0;
  while ((i64{1} << bits) < size) ++bits;
  return (i64{1} << bits) == size ? bits : -1;
}

// How keys or values lie in a cache, in elements.
struct Layout {
  void* data;
  i64 block_stride, slot_stride, head_stride;

  // The block stride is a whole number of head strides, and the number of the last head fits an
  // int.
  bool fits(const PagedAttentionParams& p) const {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (slot_stride | head_stride) % 8 == 0 &&
           slot_stride > 0 && head_stride > 0 && block_stride >= 0 &&
           block_stride % head_stride == 0 && p.blocks * block_heads() + p.kv_heads <= kMostBlocks;
  }
  i64 block_heads() const { return block_stride / head_stride; }

  // See WgmmaPrefillParams. copied: slots of a copy.
  TensorMap map(const PagedAttentionParams& p, DType dtype, unsigned copied) const {
    constexpr unsigned long long kElement = 2;
    const int row_bytes = wgmma_row_bytes(static_cast<int>(p.head_size));
    const auto row = static_cast<unsigned>(row_bytes / kElement);
    const auto pieces = static_cast<unsigned>(p.head_size / row);
    const auto slot = static_cast<unsigned long long>(slot_stride) * kElement;
    const auto head = static_cast<unsigned long long>(head_stride) * kElement;
    const auto heads = (p.blocks - 1) * block_heads() + p.kv_heads;
    return cuda::tensor_map(
        {data,
         dtype == DType::float16 ? cuda::MapType::float16 : cuda::MapType::bfloat16,
         {row, 8, pieces, static_cast<unsigned long long>(p.block_size / 8),
          static_cast<unsigned long long>(heads)},
         {slot, static_cast<unsigned long long>(row_bytes), 8 * slot, head},
         {row, 8, pieces, copied / 8, 1},
         row_bytes});
  }
};

Layout keys_of(const PagedAttentionParams& p) {
  return {const_cast<void*>(p.key_cache), p.key_block_stride, p.key_slot_stride, p.key_head_stride};
}
Layout values_of(const PagedAttentionParams& p) {
  return {const_cast<void*>(p.value_cache), p.value_block_stride, p.value_slot_stride,
          p.value_head_stride};
}

}  // namespace

bool has_wgmma(i64 head_size, int device) {
  return cuda::code_arch(device).name == "sm_90a" && cuda::has_tensor_maps() &&
         kernels_of(head_size) != nullptr;
}

int64_t few_prefill_items(int64_t kv_heads, int64_t head_size, int64_t device) {
  const int index = static_cast<int>(device);
  if (kv_heads < 1 || !has_wgmma(head_size, index) ||
      find_kernel(kernels_of_few, head_size, DType::bfloat16) == nullptr) {
    return 0;
  }
  return cuda::device(index).processors / kv_heads;
}

bool attention_shares(int64_t head_size, int64_t block_size, int64_t device) {
  return has_wgmma(head_size, static_cast<int>(device)) && block_size >= 16 &&
         bits_of(block_size) > 0;
}

bool fits_wgmma(const PagedAttentionParams& p, DType dtype, int device) {
  // Query rows are read, and results written, 16 bytes at once.
  const auto aligned = [](const void* data, i64 a, i64 b) {
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (a | b) % 8 == 0;
  };
  return has_wgmma(p.head_size, device) && dtype != DType::float32 && p.scale > 0.0f &&
         p.block_size >= 16 && bits_of(p.block_size) > 0 && p.blocks > 0 && keys_of(p).fits(p) &&
         values_of(p).fits(p) && aligned(p.query, p.query_token_stride, p.query_head_stride) &&
         aligned(p.out, p.out_token_stride, p.out_head_stride);
}

void run_wgmma_prefill(const AttentionLaunchParams& launch, i64 tiles, int* tickets,
                       const Tensor& query) {
  const PagedAttentionParams& p = launch.attention;
  const auto head_size = static_cast<int>(p.head_size);
  const i64 copied = std::min<i64>(p.block_size, wgmma_keys(head_size));
  WgmmaPrefillParams params{};
  params.keys = keys_of(p).map(p, query.dtype, static_cast<unsigned>(copied));
  params.values = values_of(p).map(p, query.dtype, static_cast<unsigned>(copied));
  params.launch = launch;
  params.tickets = tickets;
  params.group = static_cast<int>(p.heads / p.kv_heads);
  params.key_block_heads = static_cast<int>(keys_of(p).block_heads());
  params.value_block_heads = static_cast<int>(values_of(p).block_heads());
  params.block_bits = bits_of(p.block_size);
  params.copy_bits = bits_of(copied);

  const i64 blocks = tiles * p.kv_heads;
  const auto run = [&](cuda::Kernel& kernel, i64 most) {
    const int bytes = wgmma_shared_bytes(head_size, wgmma_stages(head_size));
    run_on_cuda(
        kernel,
        early_grid(grid_x(std::min(blocks, most)), 1, kWgmmaThreads, static_cast<unsigned>(bytes)),
        params, query);
  };
  const bool capped = p.soft_cap > 0.0f;
  // CTAs of that kernel meet at words of 8 bytes.
  const bool meets = reinterpret_cast<uintptr_t>(launch.arrivals) % 8 == 0;
  if (tiles <= few_prefill_items(p.kv_heads, head_size, query.device_index) && meets && !capped) {
    run(*find_kernel(kernels_of_few, head_size, query.dtype), blocks);
    return;
  }
  Kernels& found = *kernels_of(p.head_size);
  run(query.dtype == DType::float16 ? found.half[capped] : found.bfloat16[capped],
      cuda::device(query.device_index).processors);
}

}  // namespace vllm::ops
