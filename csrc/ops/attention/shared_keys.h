// Which sequences of a step begin with the same KV blocks.
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

// Runs of consecutive sequences with one query token each that share enough keys for reading them
// once to pay off. Each sequence keeps at least one key of its own. `keys` is a multiple of
// `align`.
std::vector<SharedRun> find_runs(const Tables& step, i64 align);

}  // namespace vllm::ops
