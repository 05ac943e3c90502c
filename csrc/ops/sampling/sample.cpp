#include <algorithm>

#include "ops/common/launch.h"
#include "ops/ops.h"
#include "params/sampling.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "sample";
constexpr i64 kSummarizeThreads = 256;
constexpr i64 kTokensPerSummary = kSummarizeThreads / 32 * 2 * kSampleBlock;  // of a thread block
constexpr unsigned kDrawThreads = 256;  // if no row is truncated
constexpr i64 kRowsAtOnce = 132;        // multiprocessors of a large GPU (H200)

cuda::Kernel summarize_kernels[kFloatTypes] = {
    {"sampling", "sample_summarize_f32"},
    {"sampling", "sample_summarize_f16"},
    {"sampling", "sample_summarize_bf16"},
};
cuda::Kernel pick_kernel("sampling", "sample_pick");
cuda::Kernel wide_pick_kernel("sampling", "sample_pick_wide");

// An optional vector with an entry for each row.
template <typename T>
const T* entries(const Tensor* tensor, DType dtype, const Tensor& out, const Tensor& logits) {
  if (tensor == nullptr) return nullptr;
  require_dtype(kOp, *tensor, dtype, "");
  require_same_device(kOp, *tensor, logits);
  require_vector(kOp, *tensor, logits.shape[0], "an entry for each row of 'logits'");
  require_disjoint(kOp, out, *tensor, Sharing::none);
  return static_cast<const T*>(tensor->data);
}

void require_workspace(const Tensor* workspace, const Tensor& out, const Tensor& logits) {
  const i64 needs = sample_workspace_size(logits.shape[0], logits.shape[1]);
  if (workspace == nullptr) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'workspace' is None; on CUDA it takes ",
                                         needs, " int64 (sample_workspace_size)"));
  }
  require_dtype(kOp, *workspace, DType::int64, "");
  require_same_device(kOp, *workspace, logits);
  require_ndim(kOp, *workspace, 1, "(size,)");
  require_contiguous_last(kOp, *workspace);
  if (workspace->shape[0] < needs) {
    refuse(ErrorKind::value, kOp, *workspace, concat("has shape ", shape_text(*workspace)),
           concat("at least (", needs, ",): sample_workspace_size of 'logits'"));
  }
  require_writable(kOp, *workspace);
  require_disjoint(kOp, *workspace, logits, Sharing::none);
  require_disjoint(kOp, *workspace, out, Sharing::none);
}

// The launch of the second kernel: threads of a CTA, and CTAs of a cluster.
struct Choice {
  unsigned threads;
  unsigned blocks;
};

// Top-k, and min-p to a lesser degree, leave little of a row to read again; top-p may leave all. So
// top-p gets as much of the GPU as the number of rows allows: a cluster per row, a large CTA, or
// with many rows a small one, two of which share a multiprocessor.
Choice choose(const SampleParams& params, int device) {
  if (params.top_k == nullptr && params.top_p == nullptr && params.min_p == nullptr) {
    return {kDrawThreads, 1};
  }
  if (params.top_k != nullptr || params.rows > kRowsAtOnce) return {kSampleThreads, 1};
  if (!cuda::has_clusters(device)) return {kWideSampleThreads, 1};
  if (params.rows <= 16) return {kSampleThreads, kSampleCluster};
  return {kWideSampleThreads, params.rows <= 32 ? 4u : params.rows <= 64 ? 2u : 1u};
}

void run_sample_on_cuda(const SampleParams& params, const Tensor& logits) {
  const i64 parts = (params.vocab + kTokensPerSummary - 1) / kTokensPerSummary;
  run_on_cuda(summarize_kernels[float_index(logits.dtype)],
              early_grid(grid_x(params.rows), static_cast<unsigned>(std::min<i64>(parts, 65535)),
                         kSummarizeThreads),
              params, logits);
  const Choice choice = choose(params, logits.device_index);
  cuda::Grid grid = early_grid(grid_x(params.rows * choice.blocks), 1, choice.threads);
  grid.cluster = choice.blocks;
  cuda::Kernel& pick = choice.threads == kWideSampleThreads ? wide_pick_kernel : pick_kernel;
  run_on_cuda(pick, grid, params, logits);
}

}  // namespace

int64_t sample_workspace_size(int64_t rows, int64_t vocab) {
  constexpr int64_t kEach = sizeof(SampleBlock) / sizeof(int64_t);
  return rows * ((vocab + kSampleBlock - 1) / kSampleBlock) * kEach;
}

void sample(const Tensor& out, const Tensor& logits, const Tensor* temperatures,
            const Tensor* top_k, const Tensor* top_p, const Tensor* min_p, const Tensor* seeds,
            const Tensor* draws, const Tensor* workspace) {
  require_float(kOp, logits);
  require_ndim(kOp, logits, 2, "(rows, vocab)");
  const RowLayout rows = require_rows(kOp, logits);
  if (rows.width == 0) {
    refuse(ErrorKind::value, kOp, logits, concat("has shape ", shape_text(logits)),
           "at least one token to choose from");
  }
  require_dtype(kOp, out, DType::int64, "");
  require_same_device(kOp, out, logits);
  require_vector(kOp, out, rows.rows, "an entry for each row of 'logits'");
  require_writable(kOp, out);
  require_disjoint(kOp, out, logits, Sharing::none);

  SampleParams params{};
  params.temperatures = entries<float>(temperatures, DType::float32, out, logits);
  params.top_k = entries<i64>(top_k, DType::int64, out, logits);
  params.top_p = entries<float>(top_p, DType::float32, out, logits);
  params.min_p = entries<float>(min_p, DType::float32, out, logits);
  params.seeds = entries<i64>(seeds, DType::int64, out, logits);
  params.draws = entries<i64>(draws, DType::int64, out, logits);
  if (params.temperatures != nullptr && (params.seeds == nullptr || params.draws == nullptr)) {
    throw Error(ErrorKind::value,
                concat(kOp, ": argument '", params.seeds == nullptr ? "seeds" : "draws",
                       "' is None; it takes an entry for each row where there are temperatures"));
  }
  params.out = static_cast<i64*>(out.data);
  params.logits = logits.data;
  params.rows = rows.rows;
  params.vocab = rows.width;
  params.stride = rows.stride;
  params.dtype = float_index(logits.dtype);
  const i64 size = element_size(logits.dtype);
  params.packs = packs_16_bytes(params.logits, params.rows, params.stride, 16, size) ? 1 : 0;
  if (logits.device_type == DeviceType::cuda) {
    require_workspace(workspace, out, logits);
    params.workspace = workspace->data;
  }
  if (params.rows == 0) return;

  if (logits.device_type == DeviceType::cuda) {
    run_sample_on_cuda(params, logits);
  } else {
    run_on_cpu(cpu::kernels().sample[float_index(logits.dtype)], params, params.rows,
               params.rows * params.vocab * size);
  }
}

}  // namespace vllm::ops
