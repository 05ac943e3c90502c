#include "params/embedding.h"
#include "ops/common/launch.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "embedding";

cuda::Kernel cuda_kernels[2][2] = {
    {{"embedding", "embedding_16"}, {"embedding", "embedding_16_vec"}},
    {{"embedding", "embedding_32"}, {"embedding", "embedding_32_vec"}},
};

// Before anything is written, so that on the CPU a wrong id leaves `out` unchanged.
void require_ids_in_range(const Tensor& ids, i64 rows) {
  const auto* values = static_cast<const i64*>(ids.data);
  for (i64 i = 0; i < ids.shape[0]; ++i) {
    if (values[i] < 0 || values[i] >= rows) {
      refuse(ErrorKind::index, kOp, ids, concat("holds ", values[i], " at index ", i),
             concat("0 to ", rows - 1, ", the rows of 'table'"));
    }
  }
}

void run_embedding_on_cuda(const EmbeddingParams& p, const Tensor& table) {
  const i64 size = element_size(table.dtype);
  const bool vectors = packs_16_bytes(p.out, p.tokens, p.out_stride, p.width, size) &&
                       packs_16_bytes(p.table, p.rows, p.table_stride, p.width, size);
  run_packs_on_cuda(cuda_kernels[size == 2 ? 0 : 1][vectors ? 1 : 0], p, p.tokens,
                    vectors ? p.width * size / 16 : p.width, kEmbeddingPacks, table);
}

}  // namespace

void embedding(const Tensor& out, const Tensor& ids, const Tensor& table) {
  require_float(kOp, table);
  require_same_dtype(kOp, out, table);
  require_same_device(kOp, out, table);
  require_dtype(kOp, ids, DType::int64, "");
  require_same_device(kOp, ids, table);
  require_ndim(kOp, ids, 1, "(tokens,)");
  require_contiguous_last(kOp, ids);
  require_ndim(kOp, table, 2, "(rows, width)");
  const RowLayout rows = require_rows(kOp, table);
  if (out.ndim != 2 || out.shape[0] != ids.shape[0] || out.shape[1] != rows.width) {
    refuse(ErrorKind::value, kOp, out, concat("has shape ", shape_text(out)),
           concat("(", ids.shape[0], ", ", rows.width, "), by 'ids' and 'table'"));
  }
  const RowLayout out_rows = require_rows(kOp, out);
  require_writable(kOp, out);
  require_disjoint(kOp, out, table, Sharing::none);
  require_disjoint(kOp, out, ids, Sharing::none);

  EmbeddingParams params{};
  params.out = out.data;
  params.table = table.data;
  params.ids = static_cast<const i64*>(ids.data);
  params.tokens = ids.shape[0];
  params.rows = table.shape[0];
  params.width = rows.width;
  params.out_stride = out_rows.stride;
  params.table_stride = rows.stride;
  if (table.device_type == DeviceType::cpu) require_ids_in_range(ids, params.rows);
  if (params.tokens == 0 || params.width == 0) return;

  if (table.device_type == DeviceType::cuda) {
    run_embedding_on_cuda(params, table);
  } else {
    run_on_cpu(cpu::kernels().embedding[float_index(table.dtype)], params, params.tokens,
               2 * params.tokens * params.width * element_size(table.dtype));
  }
}

}  // namespace vllm::ops
