// The arguments of the sampling ops, from logits to tokens.
#pragma once

#include "params/types.h"

namespace vllm {

// Token counters, one per sequence: which tokens its prompt and output contain, and how often its
// output contains each.
struct TokenCounters {
  int* seen;  // [counters, words]: a bit for each token of prompt or output, 32 to a word
  int* uses;  // [counters, vocab]: how often it is in the output; only of tokens that are seen
  i64 counters;
  i64 vocab;
  i64 words;
};

// Resets counters: counters[i] then counts the tokens [starts[i], starts[i + 1]), and no others.
struct CountTokensParams {
  TokenCounters state;
  const i64* counters;  // [lists], none twice; below 0: the list is left out
  const i64* starts;    // [lists + 1], rising, from 0
  const i64* tokens;    // none twice in a list
  const i64* uses;      // of each token
  i64 lists;
};

// Penalises the tokens that a sequence contains. First counts inputs[r], the token after which row
// r predicts: it is now seen, and its uses grow by counts[r]. Then the logit x of each seen token
// becomes x / repetition if x is positive, else x * repetition, minus presence + frequency * uses
// if the token has been used.
struct PenalizeParams {
  float* logits;            // [rows, vocab]
  const i64* inputs;        // [rows]
  const i64* counters;      // [rows], none twice; below 0: the row is left alone
  const i64* counts;        // [rows], 0 or 1
  const float* repetition;  // [rows]
  const float* presence;    // [rows]
  const float* frequency;   // [rows]
  TokenCounters state;
  i64 rows;
  i64 stride;
};

// Adds amounts[i] to logits[rows[i], tokens[i]], where after[i] is below 0 or the row's input. One
// logit may be changed several times: the amounts add up.
struct BiasLogitsParams {
  float* logits;         // [rows, vocab]
  const i64* rows;       // [changes]; below 0: the change is left out
  const i64* tokens;     // [changes]
  const float* amounts;  // [changes]; minus infinity forbids the token
  const i64* after;      // [changes]
  const i64* inputs;     // [rows]
  i64 changes;
  i64 num_rows;
  i64 vocab;
  i64 stride;
};

// Tokens of a row whose masks a warp processes on CUDA.
constexpr i64 kMaskWarpTokens = 4096;

// Forbids tokens: logits[rows[i], token] becomes minus infinity where mask i has no bit for it.
struct MaskLogitsParams {
  void* logits;     // [num_rows, vocab]
  const i64* rows;  // [masks], as bits perhaps in pinned host memory; below 0: the mask is left out
  const int* bits;  // [masks, words]: a bit for each token, 32 to a word, the lowest first
  i64 masks;
  i64 num_rows;
  i64 vocab;
  i64 stride;
  i64 words;  // from one mask to the next
  int packs;  // on CUDA: every row can be written in 16-byte packs
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

// What the first CUDA kernel stores for each token block: kSampleBlock adjacent tokens of a row.
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
