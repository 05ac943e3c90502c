// The arguments of the embedding.
#pragma once

#include "params/types.h"

namespace vllm {

// out[t, :] = table[ids[t], :]. An id out of range makes a row of NaN on CUDA; on the CPU the
// caller has checked all ids.
struct EmbeddingParams {
  void* out;          // [tokens, width]
  const void* table;  // [rows, width]
  const i64* ids;     // [tokens], each in [0, rows)
  i64 tokens;
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 table_stride;
  i64 first;  // CUDA: the token that a launch begins with
};

// Packs of an embedding that a CUDA thread loads before it stores them.
constexpr int kEmbeddingPacks = 2;

}  // namespace vllm
