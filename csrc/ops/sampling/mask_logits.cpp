#include "ops/common/launch.h"
#include "ops/copy/pinned.h"
#include "ops/ops.h"
#include "ops/sampling/token_counters.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "mask_logits";
constexpr const char* kSentOp = "mask_logits_sent";
constexpr i64 kThreads = 128, kMostMasks = 65535;  // along y

cuda::Kernel cuda_kernels[kFloatTypes] = {
    {"masks", "mask_logits_f32"},
    {"masks", "mask_logits_f16"},
    {"masks", "mask_logits_bf16"},
};

// Masks that may have arrived on the device.
struct Sent {
  const Tensor& rows;
  const Tensor& bits;
  const Tensor& arrived;
  const Tensor& due;
};

const i64* number_on_gpu(const Tensor& number, const Tensor& logits) {
  require_dtype(kSentOp, number, DType::int64, "");
  require_vector(kSentOp, number, 1, "a number");
  require_same_device(kSentOp, number, logits);
  return static_cast<const i64*>(number.data);
}

// masks: those in host memory.
void fill_sent(MaskLogitsParams& params, const Sent& sent, const Tensor& logits,
               const Tensor& masks) {
  require_dtype(kSentOp, sent.bits, DType::int32, "");
  require_same_shape(kSentOp, sent.bits, masks);
  require_same_device(kSentOp, sent.bits, logits);
  if (require_rows(kSentOp, sent.bits).stride != params.words) {
    refuse(ErrorKind::value, kSentOp, sent.bits, "has other strides", "the strides of 'bits'");
  }
  params.sent_rows =
      require_indices(kSentOp, sent.rows, params.masks, "a row for each of 'bits'", logits);
  params.sent_bits = static_cast<const int*>(sent.bits.data);
  params.arrived = number_on_gpu(sent.arrived, logits);
  params.due = number_on_gpu(sent.due, logits);
}

// sent: null if there are no others.
void mask(const char* op, const Tensor& logits, const Tensor& rows, const Tensor& bits,
          const Sent* sent) {
  require_float(op, logits);
  require_ndim(op, logits, 2, "(rows, vocab)");
  const RowLayout layout = require_rows(op, logits);
  require_writable(op, logits);
  require_dtype(op, bits, DType::int32, "");
  require_ndim(op, bits, 2, "(masks, words)");
  const RowLayout masks = require_rows(op, bits);
  // A GPU reads masks from pinned host memory as well.
  const bool on_gpu = logits.device_type == DeviceType::cuda;
  const bool from_host = on_gpu && bits.device_type == DeviceType::cpu;
  if (!from_host) require_same_device(op, bits, logits);
  require_disjoint(op, logits, bits, Sharing::none);

  MaskLogitsParams params{};
  params.logits = logits.data;
  params.rows = require_indices(op, rows, masks.rows, "a row for each of 'bits'", bits);
  params.bits = static_cast<const int*>(bits.data);
  params.masks = masks.rows;
  params.num_rows = layout.rows;
  params.vocab = layout.width;
  params.stride = layout.stride;
  params.words = masks.stride;
  const i64 words = (params.vocab + 31) / 32;
  if (masks.width != words) {
    refuse(ErrorKind::value, op, bits, concat("has shape ", shape_text(bits)),
           concat("(masks, ", words, "), a bit for each token of 'logits'"));
  }
  if (params.masks == 0) return;

  const i64 size = element_size(logits.dtype);
  if (on_gpu) {
    if (params.masks > kMostMasks) {
      refuse(ErrorKind::value, op, bits, concat("has ", params.masks, " masks"),
             concat(kMostMasks, " at most"));
    }
    params.packs = packs_16_bytes(logits.data, params.num_rows, params.stride, 0, size);
    if (sent != nullptr) fill_sent(params, *sent, logits, bits);
    if (from_host) {
      const cuda::ContextGuard guard(logits.device_index);
      params.rows = static_cast<const i64*>(device_pointer(op, rows));
      params.bits = static_cast<const int*>(device_pointer(op, bits));
    }
    constexpr i64 kBlockTokens = kThreads / 32 * kMaskWarpTokens;
    run_on_cuda(cuda_kernels[float_index(logits.dtype)],
                early_grid(grid_x((params.vocab + kBlockTokens - 1) / kBlockTokens),
                           static_cast<unsigned>(params.masks), kThreads),
                params, logits);
  } else {
    require_in_range(op, rows, -1, params.num_rows, "the rows of 'logits'");
    run_on_cpu(cpu::kernels().mask_logits[float_index(logits.dtype)], params, params.masks,
               size * params.masks * params.vocab);
  }
}

}  // namespace

void mask_logits(const Tensor& logits, const Tensor& rows, const Tensor& bits) {
  mask(kOp, logits, rows, bits, nullptr);
}

void mask_logits_sent(const Tensor& logits, const Tensor& rows, const Tensor& bits,
                      const Tensor& sent_rows, const Tensor& sent_bits, const Tensor& arrived,
                      const Tensor& due) {
  if (logits.device_type != DeviceType::cuda) {
    refuse(ErrorKind::value, kSentOp, logits, "is on the CPU", "a tensor on a GPU");
  }
  const Sent sent{sent_rows, sent_bits, arrived, due};
  mask(kSentOp, logits, rows, bits, &sent);
}

}  // namespace vllm::ops
