// The embedding: a row of the table for each token id. Internal to the isa_*.cpp files: see
// cpu/table.h.
#pragma once

#include "params/embedding.h"

namespace vllm::cpu {
namespace {

template <typename T>
inline void embedding(const EmbeddingParams& p, i64 begin, i64 end) {
  for (i64 token = begin; token < end; ++token) {
    __builtin_memcpy(static_cast<T*>(p.out) + token * p.out_stride,
                     static_cast<const T*>(p.table) + p.ids[token] * p.table_stride,
                     static_cast<unsigned long>(p.width) * sizeof(T));
  }
}

}  // namespace
}  // namespace vllm::cpu
