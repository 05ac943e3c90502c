#include "ops/norm/norm.h"

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

AddNormRows require_add_norm(const char* op, const Tensor& input, const Tensor& residual,
                             const Tensor& weight) {
  require_float(op, input);
  for (const Tensor* tensor : {&residual, &weight}) {
    require_same_dtype(op, *tensor, input);
    require_same_device(op, *tensor, input);
  }
  const RowLayout rows = require_rows(op, input);
  require_same_shape(op, residual, input);
  const RowLayout residual_rows = require_rows(op, residual);
  require_vector(op, weight, rows.width, "the last dimension of 'input'");
  require_writable(op, input);
  require_writable(op, residual);
  require_disjoint(op, input, residual, Sharing::none);
  require_disjoint(op, input, weight, Sharing::none);
  require_disjoint(op, residual, weight, Sharing::none);
  return {rows, residual_rows};
}

namespace {

constexpr i64 kThreads = 1024;         // of a block, at most
constexpr i64 kShortRowThreads = 128;  // of a block that has several rows
// The threads that a large GPU runs at once. For a norm without addition, one pack per thread is
// slower than several if it takes more threads than these.
constexpr i64 kThreadsAtOnce = 132 * 2048;
constexpr i64 kManyBytes = i64{256} << 20;  // read and written, several times what L2 holds

// The kernel for rows of exactly one pack per thread of a CTA; null if another kernel is faster.
cuda::Kernel* choose_row_kernel(NormKernels& kernels, const RmsNormParams& p, i64 packs) {
  if (packs % 32 != 0 || packs < 64 || packs > kThreads || p.rows > kMostBlocks) return nullptr;
  if (p.residual != nullptr) {
    return 4 * p.rows * packs * 16 < kManyBytes ? &kernels.row : &kernels.row_keep;
  }
  return p.rows * packs <= kThreadsAtOnce ? &kernels.row : nullptr;
}

cuda::Grid choose_grid(RmsNormParams& params, i64 packs) {
  const i64 held = params.residual != nullptr ? kAddNormPacks : kNormPacks;
  const i64 full = (packs + held - 1) / held;  // threads, if each holds all it can
  if (full > 32) {
    params.row_bits = kWholeBlock;
    return early_grid(grid_x(params.rows), 1, block_threads(full, kThreads));
  }
  while ((1 << params.row_bits) < full) ++params.row_bits;
  const i64 rows_in_block = kShortRowThreads >> params.row_bits;
  return early_grid(grid_x((params.rows + rows_in_block - 1) / rows_in_block), 1, kShortRowThreads);
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
  if (cuda::Kernel* row = vectors ? choose_row_kernel(kernels, params, packs) : nullptr) {
    const cuda::Grid grid = early_grid(grid_x(params.rows), 1, static_cast<unsigned>(packs));
    run_on_cuda(*row, grid, params, input);
  } else {
    const cuda::Grid grid = choose_grid(params, packs);
    run_on_cuda(vectors ? kernels.packs : kernels.elements, grid, params, input);
  }
}

}  // namespace vllm::ops
