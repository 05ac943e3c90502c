// Arguments of every op, as plain data with shapes beside pointers. One definition serves the
// CPU kernels, the CUDA launchers and the device code, so it may include nothing (NVRTC has no
// standard headers) and must have the same layout for every compiler.
//
// Shapes are in elements; strides are in elements between neighbours of that dimension.
// The last dimension of every tensor is contiguous.
#pragma once

namespace vllm {

using i64 = long long;

// out[r, :] = norm(input[r, :]) * weight, where norm(x) = x / sqrt(mean(x^2) + epsilon).
// With `residual` set: residual[r, :] += input[r, :] first, rounded to its dtype, and the norm is
// that of the stored sum.
struct RmsNormParams {
  void* out;           // [rows, width]
  const void* input;   // [rows, width]
  void* residual;      // [rows, width] or null
  const void* weight;  // [width]
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
  i64 residual_stride;
  float epsilon;
  int row_bits;  // CUDA: 2^row_bits threads share a row; kWholeBlock for all of a block
};

// `row_bits` of a block that has one row: a shift by it makes any thread index 0.
constexpr int kWholeBlock = 31;

// Packs of a row that a CUDA thread keeps in registers: 64 bytes in flight, with the residual's.
constexpr int kNormPacks = 4;
constexpr int kAddNormPacks = 2;

// Packs of an embedding that a CUDA thread asks for at once.
constexpr int kEmbeddingPacks = 2;

// out[r, i] = silu(input[r, i]) * input[r, width + i], where silu(x) = x / (1 + exp(-x)).
struct SiluAndMulParams {
  void* out;          // [rows, width]
  const void* input;  // [rows, 2 * width]
  i64 rows;
  i64 width;
  i64 out_stride;
  i64 input_stride;
  i64 first;  // CUDA: the row that a launch begins with
};

// Slot s of a paged cache is token s % block_size of block s / block_size.
// key_cache[slot of slots[t]] = key[t], and the same for the values; a negative slot skips a token,
// and so does one out of range on CUDA; on the CPU the caller has looked for these.
struct ReshapeAndCacheParams {
  const void* key;    // [tokens, kv_heads, head_size]
  const void* value;  // [tokens, kv_heads, head_size]
  void* key_cache;    // [blocks, block_size, kv_heads, head_size]
  void* value_cache;  // [blocks, block_size, kv_heads, head_size]
  const i64* slots;   // [tokens], each -1 or in [0, capacity)
  i64 tokens;
  i64 kv_heads;
  i64 head_size;
  i64 block_size;
  i64 capacity;  // blocks * block_size
  i64 key_token_stride;
  i64 key_head_stride;
  i64 value_token_stride;
  i64 value_head_stride;
  i64 key_block_stride;
  i64 key_slot_stride;
  i64 key_cache_head_stride;
  i64 value_block_stride;
  i64 value_slot_stride;
  i64 value_cache_head_stride;
  i64 first;  // CUDA: the token that a launch begins with
};

// Rotates the first `rotary_size` elements of every head by the angle of its position, in place.
// NeoX pairs element i with i + rotary_size / 2; GPT-J pairs 2i with 2i + 1.
// With `query_weight` and `key_weight` set, each head becomes norm(head) * weight first, all of it.
// With `write.slots` set, `key` is not written: what it would become goes to its slot of the cache,
// with its value; the tensors of `write` but for `key` are as for that op.
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
  int head_bits;  // CUDA: 2^head_bits threads share a head, at most a warp
  ReshapeAndCacheParams write;
};

// out[t, :] = table[ids[t], :]. An id out of range makes a row of NaN on CUDA; on the CPU the
// caller has looked for these.
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

// Causal attention of new tokens over a paged cache that holds them and everything before them.
// Query rows query_starts[i] .. query_starts[i + 1] are the last tokens of sequence i, whose
// context_lens[i] tokens are in blocks block_tables[i, :], block_size to a block. Query head h
// reads KV head h / (heads / kv_heads). With q the query and k a key that it may see:
//   score = scale * (q . k), then soft_cap * tanh(score / soft_cap) where soft_cap > 0;
//   out = the values' mean, weighted by exp(score).
// A token sees itself and what is before it; with sliding_window w > 0, the last w of these.
// Neither tables nor blocks are read where no query may see.
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
  int rows;        // at most kDecodeRows or kPrefillRows; 0 where there is nothing to do
  int begin;       // the first key
  int end;         // past the last key
  int first_slot;  // where the partial results of all splits of these rows begin
  int split;       // which of them this is
  int splits;      // 1: the result is final
  int next;        // the item that the same block does next, or -1
};
constexpr int kItemInts = sizeof(AttentionItem) / sizeof(int);

constexpr int kDecodeRows = 8;    // rows of a decode item: the width of a tensor core's tile
constexpr int kPrefillRows = 64;  // rows of a prefill item
constexpr int kChunk = 16;        // keys that a decode block's warp takes at once

// What the CUDA kernels are launched with.
struct AttentionLaunchParams {
  PagedAttentionParams attention;
  const AttentionItem* items;
  // Of split items: unnormalised results [slots, kDecodeRows, head_size], then for each row the
  // greatest score and the sum of the weights [slots, kDecodeRows, 2].
  float* partials;
  float* weights;
  int* arrivals;  // [slots], all 0 between launches: how many splits of a row tile are done
  int settled;    // items and block tables may be read before the kernels before are done
};

// Changes single logits in place: x = logits[rows[i], tokens[i]] becomes, where it is positive,
// x / repetition[i], elsewhere x * repetition[i]; then subtract[i] is subtracted.
struct PenalizeParams {
  void* logits;             // [rows, vocab]
  const i64* rows;          // [changes], each in [0, num_rows)
  const i64* tokens;        // [changes], each in [0, vocab); no pair of row and token comes twice
  const float* repetition;  // [changes]
  const float* subtract;    // [changes], infinite where a token is forbidden
  i64 changes;
  i64 num_rows;
  i64 vocab;
  i64 stride;
};

// Draws a token from every row. With m the largest logit x, z = (m - x) * (1 / temperature) and
// w = exp(-z), in float32:
//   top-k keeps the tokens whose z is at most the k-th least;
//   top-p then those for which all kept tokens of lesser z have less than p of the kept mass;
//   min-p then those whose w is at least min_p;
//   the draw is the first token, by id, at which the sum of kept w exceeds u times the whole sum,
//   where u is the uniform number of (seed, draw), in sampling_random.h.
// Tokens of equal z are kept or dropped together. Temperature 0: the first token of the largest
// logit. NaN and -inf are never drawn; of a row with nothing else, token 0. Where there is +inf,
// one of them is drawn. A token with w below 2^-32 is never drawn.
struct SampleParams {
  i64* out;                   // [rows]
  const void* logits;         // [rows, vocab]
  const float* temperatures;  // [rows], or null: all 0
  const i64* top_k;           // [rows], or null; below 1: all tokens
  const float* top_p;         // [rows], or null; 1 or above: all tokens
  const float* min_p;         // [rows], or null
  const i64* seeds;           // [rows]; null only where temperatures is
  const i64* draws;           // [rows]; likewise
  void* workspace;            // on CUDA: [rows, blocks of kSampleBlock tokens] SampleBlock
  i64 rows;
  i64 vocab;
  i64 stride;
  int dtype;  // of logits: 0, 1, 2 for float32, float16, bfloat16
  int packs;  // on CUDA: every row can be read in 16-byte packs
};

// What the CUDA kernels note of each kSampleBlock neighbouring tokens of a row.
struct SampleBlock {
  float max;                // at most the largest finite number
  float mass;               // sum of exp((x - max) / temperature)
  unsigned long long kept;  // sum of w over the kept tokens, in units of 2^-32
};
constexpr i64 kSampleBlock = 256;

// The CUDA kernel that selects among the tokens of a row comes for blocks of so many threads. Two
// of the smaller run on a multiprocessor at once.
constexpr unsigned kSampleThreads = 512;
constexpr unsigned kWideSampleThreads = 1024;
constexpr unsigned kSampleCluster = 8;  // blocks of a cluster at most

}  // namespace vllm
