#include "ops/norm.h"

#include <cmath>

#include "runtime/text.h"

namespace vllm::ops {

float require_epsilon(const char* op, double epsilon) {
  if (!(epsilon >= 0) || std::isinf(epsilon)) {
    throw Error(ErrorKind::value, concat(op, ": argument 'epsilon' is ", epsilon,
                                         "; it takes a finite number that is not negative"));
  }
  return static_cast<float>(epsilon);
}

namespace {

constexpr i64 kThreads = 1024;         // of a block, at most
constexpr i64 kShortRowThreads = 128;  // of a block that has several rows
constexpr i64 kShortRowPacks = 32 * kNormPacks;
constexpr i64 kMostBlocks = 2147483647;
// Threads that a large GPU runs at once: rows that they hold, a pack each, are few.
constexpr i64 kThreadsAtOnce = 132 * 2048;
constexpr i64 kManyBytes = i64{256} << 20;  // read and written, several times what L2 holds

struct Choice {
  cuda::Kernel* kernel;
  cuda::Grid grid;
};

// A block for each row.
Choice hold_rows(NormKernels& kernels, const RmsNormParams& p, i64 packs, i64 element_size) {
  const auto held = [&](i64 by_thread) {
    const unsigned threads = block_threads((packs + by_thread - 1) / by_thread, kThreads);
    return early_grid(grid_x(p.rows), 1, threads);
  };
  if (packs <= kThreads && p.rows * packs <= kThreadsAtOnce) {
    return {&kernels.few_rows, held(kFewRowsPacks)};
  }
  const bool adds = p.residual != nullptr;
  if (adds && packs <= kThreads && 4 * p.rows * p.width * element_size >= kManyBytes) {
    return {&kernels.twice, held(1)};
  }
  return {&kernels.rows, held(kRowPacks)};
}

// Rows of any length: a block for each, or for several short ones.
cuda::Grid grid_of_any(RmsNormParams& p, i64 packs) {
  const i64 full = (packs + kNormPacks - 1) / kNormPacks;  // threads, if each holds all it can
  if (full > 32) {
    p.row_bits = kWholeBlock;
    return early_grid(grid_x(p.rows), 1, block_threads(full, kThreads));
  }
  while ((1 << p.row_bits) < full) ++p.row_bits;
  const i64 rows_in_block = kShortRowThreads >> p.row_bits;
  return early_grid(grid_x((p.rows + rows_in_block - 1) / rows_in_block), 1, kShortRowThreads);
}

}  // namespace

void run_norm_on_cuda(NormKernels (&of_dtypes)[kFloatTypes], RmsNormParams params,
                      const Tensor& input) {
  NormKernels& kernels = of_dtypes[float_index(input.dtype)];
  const i64 size = element_size(input.dtype);
  const auto packs_16 = [&](const void* data, i64 stride) {
    return packs_16_bytes(data, params.rows, stride, params.width, size);
  };
  const bool vectors =
      packs_16(params.out, params.out_stride) && packs_16(params.input, params.input_stride) &&
      packs_16(params.residual, params.residual_stride) && packs_16(params.weight, 0);
  const i64 packs = vectors ? params.width * size / 16 : params.width;
  const bool holds = vectors && packs > kShortRowPacks && packs <= kThreads * kRowPacks;
  if (holds && params.rows <= kMostBlocks) {
    const Choice choice = hold_rows(kernels, params, packs, size);
    run_on_cuda(*choice.kernel, choice.grid, params, input);
  } else {
    const cuda::Grid grid = grid_of_any(params, packs);
    run_on_cuda(vectors ? kernels.packs : kernels.elements, grid, params, input);
  }
}

}  // namespace vllm::ops
