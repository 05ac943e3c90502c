// The arguments of the rotary embeddings.
#pragma once

#include "params/cache.h"

namespace vllm {

// Rotates the first `rotary_size` elements of every head by the angle of its position, in place.
// NeoX pairs element i with i + rotary_size / 2; GPT-J pairs 2i with 2i + 1.
// With `query_weight` and `key_weight` set, each head becomes norm(head) * weight first, all of it.
// With `write.slots` set, `key` is not changed: the rotated key is written to its slot of the
// cache, together with the value. `write` then has the arguments of reshape_and_cache, except its
// `key`, which is not used.
struct RotaryEmbeddingParams {
  const i64* positions;      // [tokens], each in [0, max_position)
  void* query;               // [tokens, query_heads, head_size]
  void* key;                 // [tokens, key_heads, head_size] or null
  const void* cos_sin;       // [max_position, rotary_size]: cosines, then sines; dtype of query
  const void* query_weight;  // [head_size] or null
  const void* key_weight;    // [head_size] or null
  i64 tokens;
  i64 query_heads;
  i64 key_heads;
  i64 head_size;
  i64 rotary_size;
  i64 max_position;
  i64 query_token_stride;
  i64 query_head_stride;
  i64 key_token_stride;
  i64 key_head_stride;
  i64 cos_sin_stride;
  float epsilon;
  int is_neox;
  int head_bits;        // CUDA: 2^head_bits threads share a head, at most a warp
  bool metadata_ready;  // CUDA: as in ops::rotary_and_cache
  ReshapeAndCacheParams write;
};

}  // namespace vllm
