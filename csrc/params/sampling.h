// The arguments of what makes tokens of logits.
#pragma once

#include "params/types.h"

namespace vllm {

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
