#include "ops/common/launch.h"
#include "ops/copy/pinned.h"
#include "ops/ops.h"
#include "ops/sampling/token_counters.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "mask_logits";
constexpr i64 kThreads = 128, kMostMasks = 65535;  // along y

cuda::Kernel cuda_kernels[kFloatTypes] = {
    {"masks", "mask_logits_f32"},
    {"masks", "mask_logits_f16"},
    {"masks", "mask_logits_bf16"},
};

}  // namespace

void mask_logits(const Tensor& logits, const Tensor& rows, const Tensor& bits) {
  require_float(kOp, logits);
  require_ndim(kOp, logits, 2, "(rows, vocab)");
  const RowLayout layout = require_rows(kOp, logits);
  require_writable(kOp, logits);
  require_dtype(kOp, bits, DType::int32, "");
  require_ndim(kOp, bits, 2, "(masks, words)");
  const RowLayout masks = require_rows(kOp, bits);
  // A GPU reads masks from pinned host memory as well.
  const bool on_gpu = logits.device_type == DeviceType::cuda;
  const bool from_host = on_gpu && bits.device_type == DeviceType::cpu;
  if (!from_host) require_same_device(kOp, bits, logits);
  require_disjoint(kOp, logits, bits, Sharing::none);

  MaskLogitsParams params{};
  params.logits = logits.data;
  params.rows = require_indices(kOp, rows, masks.rows, "a row for each of 'bits'", bits);
  params.bits = static_cast<const int*>(bits.data);
  params.masks = masks.rows;
  params.num_rows = layout.rows;
  params.vocab = layout.width;
  params.stride = layout.stride;
  params.words = masks.stride;
  const i64 words = (params.vocab + 31) / 32;
  if (masks.width != words) {
    refuse(ErrorKind::value, kOp, bits, concat("has shape ", shape_text(bits)),
           concat("(masks, ", words, "), a bit for each token of 'logits'"));
  }
  if (params.masks == 0) return;

  const i64 size = element_size(logits.dtype);
  if (on_gpu) {
    if (params.masks > kMostMasks) {
      refuse(ErrorKind::value, kOp, bits, concat("has ", params.masks, " masks"),
             concat(kMostMasks, " at most"));
    }
    params.packs = packs_16_bytes(logits.data, params.num_rows, params.stride, 0, size);
    if (from_host) {
      const cuda::ContextGuard guard(logits.device_index);
      params.rows = static_cast<const i64*>(device_pointer(kOp, rows));
      params.bits = static_cast<const int*>(device_pointer(kOp, bits));
    }
    constexpr i64 kBlockTokens = kThreads / 32 * kMaskWarpTokens;
    run_on_cuda(cuda_kernels[float_index(logits.dtype)],
                early_grid(grid_x((params.vocab + kBlockTokens - 1) / kBlockTokens),
                           static_cast<unsigned>(params.masks), kThreads),
                params, logits);
  } else {
    require_in_range(kOp, rows, -1, params.num_rows, "the rows of 'logits'");
    run_on_cpu(cpu::kernels().mask_logits[float_index(logits.dtype)], params, params.masks,
               size * params.masks * params.vocab);
  }
}

}  // namespace vllm::ops
