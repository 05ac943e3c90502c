#include "ops/sampling/token_counters.h"

#include "runtime/text.h"

namespace vllm::ops {

TokenCounters require_counters(const char* op, const Tensor& seen, const Tensor& uses) {
  for (const Tensor* tensor : {&seen, &uses}) {
    require_dtype(op, *tensor, DType::int32, "");
    require_ndim(op, *tensor, 2, tensor == &seen ? "(counters, words)" : "(counters, vocab)");
    const RowLayout rows = require_rows(op, *tensor);
    if (rows.rows > 1 && rows.stride != rows.width) {
      refuse(ErrorKind::value, op, *tensor, "has gaps between its rows", "rows without gaps");
    }
    require_writable(op, *tensor);
  }
  require_same_device(op, seen, uses);
  require_disjoint(op, seen, uses, Sharing::none);
  const i64 counters = uses.shape[0], vocab = uses.shape[1], words = (vocab + 31) / 32;
  if (seen.shape[0] != counters || seen.shape[1] != words) {
    refuse(ErrorKind::value, op, seen, concat("has shape ", shape_text(seen)),
           concat("(", counters, ", ", words, "), a bit for each of 'uses'"));
  }
  return {static_cast<int*>(seen.data), static_cast<int*>(uses.data), counters, vocab, words};
}

const i64* require_indices(const char* op, const Tensor& tensor, i64 length, const char* why,
                           const Tensor& beside) {
  require_dtype(op, tensor, DType::int64, "");
  require_same_device(op, tensor, beside);
  require_vector(op, tensor, length, why);
  require_disjoint(op, beside, tensor, Sharing::none);
  return static_cast<const i64*>(tensor.data);
}

const float* require_reals(const char* op, const Tensor& tensor, i64 length, const char* why,
                           const Tensor& beside) {
  require_dtype(op, tensor, DType::float32, "");
  require_same_device(op, tensor, beside);
  require_vector(op, tensor, length, why);
  require_disjoint(op, beside, tensor, Sharing::none);
  return static_cast<const float*>(tensor.data);
}

void require_in_range(const char* op, const Tensor& indices, i64 begin, i64 end, const char* what) {
  const auto* values = static_cast<const i64*>(indices.data);
  for (i64 i = 0; i < indices.shape[0]; ++i) {
    if (values[i] < begin || values[i] >= end) {
      refuse(ErrorKind::index, op, indices, concat("holds ", values[i], " at index ", i),
             concat(begin, " to ", end - 1, ", ", what));
    }
  }
}

RowLayout require_logits(const char* op, const Tensor& logits) {
  require_dtype(op, logits, DType::float32, "");
  require_ndim(op, logits, 2, "(rows, vocab)");
  const RowLayout rows = require_rows(op, logits);
  require_writable(op, logits);
  return rows;
}

}  // namespace vllm::ops
