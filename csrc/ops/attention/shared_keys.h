// Which sequences of a step begin with the same blocks of the cache.
#pragma once

#include <vector>

#include "params/types.h"

namespace vllm::ops {

// Sequences [first, first + count), which all begin with the same `keys` keys.
struct SharedRun {
  i64 first;
  i64 count;
  i64 keys;
};

// What find_runs looks at. tables: [sequences, stride], the blocks of each sequence.
struct Tables {
  const int* tables;
  i64 stride;
  i64 block_size;
  const int* context_lens;
  const int* query_starts;
  i64 sequences;
};

// Runs of neighbours with one query token each that share enough for it to be read once. At least
// one key of each is its own. Keys are a multiple of `align`.
std::vector<SharedRun> find_runs(const Tables& step, i64 align);

}  // namespace vllm::ops
