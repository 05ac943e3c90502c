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

constexpr unsigned kShortRowThreads = 128;  // of a block that has several rows

cuda::Grid choose_grid(RmsNormParams& params, i64 packs) {
  const i64 held = params.residual != nullptr ? kAddNormPacks : kNormPacks;
  const i64 full = (packs + held - 1) / held;  // threads, if each holds all it can
  if (full > 32) {
    params.row_bits = kWholeBlock;
    return early_grid(grid_x(params.rows), 1, block_threads(full, 1024));
  }
  while ((1 << params.row_bits) < full) ++params.row_bits;
  const i64 rows_in_block = kShortRowThreads >> params.row_bits;
  return early_grid(grid_x((params.rows + rows_in_block - 1) / rows_in_block), 1, kShortRowThreads);
}

}  // namespace

void run_norm_on_cuda(cuda::Kernel (&kernels)[kFloatTypes][2], RmsNormParams params,
                      const Tensor& input) {
  const i64 size = element_size(input.dtype);
  const auto packs = [&](const void* data, i64 stride) {
    return packs_16_bytes(data, params.rows, stride, params.width, size);
  };
  const bool vectors = packs(params.out, params.out_stride) &&
                       packs(params.input, params.input_stride) &&
                       packs(params.residual, params.residual_stride) && packs(params.weight, 0);
  const cuda::Grid grid = choose_grid(params, vectors ? params.width * size / 16 : params.width);
  run_on_cuda(kernels[float_index(input.dtype)][vectors ? 1 : 0], grid, params, input);
}

}  // namespace vllm::ops
