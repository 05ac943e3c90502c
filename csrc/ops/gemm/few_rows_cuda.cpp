// Launches the products of few rows, in which each CTA reads all inputs for its outputs.
#include "ops/common/launch.h"
#include "ops/gemm/few_rows.h"

namespace vllm::ops {
namespace {

struct Kernels {
  int tile;
  // float16 and bfloat16, for at most 8 rows and for 16. Those for 8 have fewer registers, so that
  // a multiprocessor has room for three CTAs; with so few, all tiles but 32 spill.
  cuda::Kernel of[2][2];
};

#define VLLM_FEW_ROWS_KERNELS(tile)                                                                \
  {                                                                                                \
    tile, {                                                                                        \
      {{"few_rows", "few_rows_f16_" #tile "_8"}, {"few_rows", "few_rows_f16_" #tile "_16"}},       \
          {{"few_rows", "few_rows_bf16_" #tile "_8"}, {"few_rows", "few_rows_bf16_" #tile "_16"}}, \
    }                                                                                              \
  }

Kernels cuda_kernels[] = {VLLM_FEW_ROWS_KERNELS(8), VLLM_FEW_ROWS_KERNELS(16),
                          VLLM_FEW_ROWS_KERNELS(32), VLLM_FEW_ROWS_KERNELS(48)};

// For products of at most 8 rows, with one tile of outputs for a CTA, and `pieces` pieces of the
// inputs for a warp.
struct OnceKernels {
  int tile;
  int pieces;
  bool has_norm;
  cuda::Kernel half;
  cuda::Kernel bfloat16;
};

#define VLLM_FEW_ROWS_ONCE(tile, pieces, has_norm)                                       \
  {                                                                                      \
    tile, pieces, has_norm, {"few_rows_once", "few_rows_once_f16_" #tile "_" #pieces}, { \
      "few_rows_once", "few_rows_once_bf16_" #tile "_" #pieces                           \
    }                                                                                    \
  }

// Those that Qwen3-0.6B has on GPUs of 100 to 150 multiprocessors.
OnceKernels once_kernels[] = {VLLM_FEW_ROWS_ONCE(8, 4, false), VLLM_FEW_ROWS_ONCE(8, 6, false),
                              VLLM_FEW_ROWS_ONCE(16, 4, false), VLLM_FEW_ROWS_ONCE(32, 2, true),
                              VLLM_FEW_ROWS_ONCE(48, 2, true)};

// The weight rows of a block, so that all multiprocessors have work and none has much more.
i64 rows_of_block(i64 weight_rows, i64 processors) {
  constexpr i64 kUnit = 8;
  const i64 units = (weight_rows + kUnit - 1) / kUnit;
  return (units + processors - 1) / processors * kUnit;
}

// The kernels with the smallest tile of at least `rows`, else with the largest that fits shared
// memory.
Kernels& choose_kernels(i64 rows, const cuda::Device& device) {
  Kernels* best = &cuda_kernels[0];
  for (Kernels& each : cuda_kernels) {
    if (few_rows_shared_bytes(each.tile, few_rows_stages(each.tile)) > device.block_shared_bytes)
      break;
    best = &each;
    if (each.tile >= rows) break;
  }
  return *best;
}

// How many stages of weights the warp with most of the inputs loads.
i64 stages_of_warp(const FewRowsParams& p, int tile) {
  const i64 inputs = i64{64} * kFewRowsWarps * few_rows_pieces(tile);
  const i64 outputs = p.gated ? tile / 2 : tile;
  return (p.inputs + inputs - 1) / inputs * ((p.block_outputs + outputs - 1) / outputs);
}

// Null where the products take the kernels with loops.
cuda::Kernel* find_once_kernel(const FewRowsParams& p, int tile, DType dtype) {
  constexpr i64 kMostRows = 8, kWarpsInputs = i64{64} * kFewRowsWarps;
  const i64 outputs = p.gated ? tile / 2 : tile;
  if (p.rows > kMostRows || p.block_outputs > outputs ||
      p.rows * outputs > 32 * kFewRowsWarps) {  // a result for each thread
    return nullptr;
  }
  for (OnceKernels& each : once_kernels) {
    if (each.tile == tile && each.pieces * kWarpsInputs == p.inputs &&
        each.has_norm == (p.norm_weight != nullptr)) {
      return dtype == DType::bfloat16 ? &each.bfloat16 : &each.half;
    }
  }
  return nullptr;
}

constexpr i64 kManyBytes = 128 << 10;  // of weights of a multiprocessor

}  // namespace

void run_few_rows(FewRowsParams params, const Tensor& x) {
  const cuda::Device& device = cuda::device(x.device_index);
  const i64 parts = params.gated ? 2 : 1;
  // If a multiprocessor's share of weights is large, two CTAs have more loads in flight, and one
  // multiplies while the other adds up. A small share is loaded at once, which leaves room for the
  // loads of the next kernel.
  i64 rows = rows_of_block(parts * params.outputs, device.processors);
  const bool is_large = rows * params.inputs * 2 > kManyBytes;
  if (is_large) rows = rows_of_block(parts * params.outputs, 2 * device.processors);
  Kernels& kernels = choose_kernels(rows, device);
  params.block_outputs = static_cast<int>(rows / parts);
  const auto blocks =
      static_cast<unsigned>((params.outputs + params.block_outputs - 1) / params.block_outputs);
  const bool is_wide = params.rows > 8 || (is_large && kernels.tile != 32);
  cuda::Kernel& kernel = kernels.of[x.dtype == DType::bfloat16 ? 1 : 0][is_wide ? 1 : 0];
  const int most = few_rows_stages(kernels.tile);
  params.stages = static_cast<int>(std::min<i64>(most, stages_of_warp(params, kernels.tile)));
  cuda::Grid grid =
      early_grid(blocks, 1, 32 * kFewRowsWarps,
                 static_cast<unsigned>(few_rows_shared_bytes(kernels.tile, params.stages)));
  grid.most_shared = static_cast<unsigned>(few_rows_shared_bytes(kernels.tile, most));
  cuda::Kernel* once = find_once_kernel(params, kernels.tile, x.dtype);
  run_on_cuda(once != nullptr ? *once : kernel, grid, params, x);
}

}  // namespace vllm::ops
