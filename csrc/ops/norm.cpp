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

void run_norm_on_cuda(cuda::Kernel (&kernels)[kFloatTypes][2], const RmsNormParams& params,
                      const Tensor& input) {
  const i64 size = element_size(input.dtype);
  const auto packs = [&](const void* data, i64 stride) {
    return packs_16_bytes(data, params.rows, stride, params.width, size);
  };
  const bool vectors = packs(params.out, params.out_stride) &&
                       packs(params.input, params.input_stride) &&
                       packs(params.residual, params.residual_stride) && packs(params.weight, 0);
  const i64 loads = vectors ? params.width * size / 16 : params.width;
  run_on_cuda(kernels[float_index(input.dtype)][vectors ? 1 : 0],
              {grid_x(params.rows), 1, block_threads(loads, 1024)}, params, input);
}

}  // namespace vllm::ops
