// The counters of tokens, as arguments of ops.
#pragma once

#include "ops/common/checks.h"
#include "params/sampling.h"

namespace vllm::ops {

// int32 [counters, vocab / 32 rounded up] and [counters, vocab], both written.
TokenCounters require_counters(const char* op, const Tensor& seen, const Tensor& uses);

// The data of an int64 vector that is only read. `why` explains its length in the error.
const i64* require_indices(const char* op, const Tensor& tensor, i64 length, const char* why,
                           const Tensor& beside);

// The same, of float32.
const float* require_reals(const char* op, const Tensor& tensor, i64 length, const char* why,
                           const Tensor& beside);

// On the CPU, before anything is written: each is in [begin, end), or IndexError.
void require_in_range(const char* op, const Tensor& indices, i64 begin, i64 end, const char* what);

// float32 [rows, vocab], written.
RowLayout require_logits(const char* op, const Tensor& logits);

}  // namespace vllm::ops
