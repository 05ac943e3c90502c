// The arguments of attention over a paged KV cache.
#pragma once

#include "params/rotary.h"
#include "params/types.h"

namespace vllm {

// Causal attention of new tokens over a paged KV cache that holds them and all tokens before them.
// Query rows query_starts[i] .. query_starts[i + 1] are the last tokens of sequence i, whose
// context_lens[i] tokens are in KV blocks block_tables[i, :], block_size tokens each. Query head h
// reads KV head h / (heads / kv_heads). With q the query and k a key that it attends to:
//   score = scale * (q . k), then soft_cap * tanh(score / soft_cap) where soft_cap > 0;
//   out = the values' mean, weighted by exp(score).
// A token attends to itself and the tokens before it; with sliding_window w > 0, to the last w of
// these. Table entries and KV blocks that no query attends to are not read.
struct PagedAttentionParams {
  void* out;                // [tokens, heads, head_size]
  const void* query;        // [tokens, heads, head_size]
  const void* key_cache;    // [blocks, block_size, kv_heads, head_size]
  const void* value_cache;  // [blocks, block_size, kv_heads, head_size]
  const int* block_tables;  // [sequences, max_blocks]
  const int* context_lens;  // [sequences]
  const int* query_starts;  // [sequences + 1], rising from 0 to tokens
  i64 tokens;
  i64 sequences;
  i64 blocks;
  i64 heads;
  i64 kv_heads;
  i64 head_size;
  i64 block_size;
  i64 out_token_stride;
  i64 out_head_stride;
  i64 query_token_stride;
  i64 query_head_stride;
  i64 key_block_stride;
  i64 key_slot_stride;
  i64 key_head_stride;
  i64 value_block_stride;
  i64 value_slot_stride;
  i64 value_head_stride;
  i64 block_tables_stride;
  i64 sliding_window;
  float scale;
  float soft_cap;
};

// A piece of a step's attention on CUDA: some query rows of one KV head against some of their
// keys. Row r of a sequence is query token r / group and head r % group of those that share the KV
// head, so that one read of keys and values serves them all. Made by plan_attention on the host.
struct alignas(16) AttentionItem {
  int sequence;    // row of block_tables
  int token;       // row of query where the sequence's query tokens begin
  int position;    // of that token in the sequence
  int kv_head;     // of a decode item; a prefill item is for all of them
  int row;         // the first row
  int rows;        // at most kDecodeRows or kPrefillRows; 0: nothing to do
  int begin;       // the first key
  int end;         // past the last key
  int first_slot;  // the slot of the first split's partial result of these rows; see row_group
  int split;       // the index of this split
  int splits;      // 1: the result is final
  int next;        // the next item of the same list, or -1; see kForDecode
  // For a decode item whose sequence shares its first keys with others: the slot of the results of
  // the prefill items of these keys, the sequence's first row in them, and their number of splits;
  // 0 without shared keys.
  int shared_slot;
  int shared_row;
  int shared_splits;
  int unused;
};
// `next` of a prefill item whose results stay partial: decode items add them to their results.
constexpr int kForDecode = -2;
constexpr int kItemInts = sizeof(AttentionItem) / sizeof(int);

constexpr int kDecodeRows = 8;     // rows of a decode item: the narrow side of an mma tile
constexpr int kPrefillRows = 128;  // rows of a prefill item
constexpr int kRowGroups = kPrefillRows / kDecodeRows;
constexpr int kChunk = 16;  // keys that a warp of the decode kernel processes at once

// At the end of a plan's arrivals: two counters of the prefill kernel that draws its items by
// tickets.
constexpr int kTickets = 2;

// The arguments of the CUDA kernels.
struct AttentionLaunchParams {
  PagedAttentionParams attention;
  const AttentionItem* items;
  // Of split items: unnormalised results [slots, kDecodeRows, head_size], then for each row the
  // greatest score and the sum of the weights [slots, kDecodeRows, 2].
  float* partials;
  float* weights;
  // [slots + kTickets], all 0 between launches: how many splits of a row tile are done.
  int* arrivals;
  int metadata_ready;  // items and block tables may be read before earlier kernels are done
};

// The arguments of the decode kernel that also rotates the newest token of each sequence and writes
// it to the cache (attention_newest.cu). Each item has one query token. The query is
// `rotary.query`; positions come from the items.
struct RotatingAttentionParams {
  AttentionLaunchParams launch;
  RotaryEmbeddingParams rotary;
  int group;  // query heads of a KV head
};

}  // namespace vllm
