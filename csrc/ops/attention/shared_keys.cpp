#include "ops/attention/shared_keys.h"

#include <algorithm>

namespace vllm::ops {
namespace {

// Tokens whose repeated reads must be saved. Reading a shared prefix once costs a launch and the
// merge of partial results, about 15 microseconds (H200); in that time the keys and values of so
// many tokens are read from L2.
constexpr i64 kWorth = 32768;
constexpr i64 kLeastKeys = 256;

// Keys that two adjacent sequences share: whole KV blocks, without the last key of either.
i64 common_keys(const Tables& step, i64 one, i64 align) {
  const int* a = step.tables + one * step.stride;
  const int* b = a + step.stride;
  const i64 least = std::min(step.context_lens[one], step.context_lens[one + 1]) - 1;
  const i64 most = std::min(least / step.block_size, step.stride);
  const i64 blocks = std::mismatch(a, a + most, b).first - a;
  return blocks * step.block_size / align * align;
}

bool decodes(const Tables& step, i64 i) {
  return i < step.sequences && step.query_starts[i + 1] - step.query_starts[i] == 1;
}

bool is_worth_it(const SharedRun& run) { return (run.count - 1) * run.keys >= kWorth; }

}  // namespace

std::vector<SharedRun> find_runs(const Tables& step, i64 align) {
  std::vector<SharedRun> runs;
  for (i64 i = 0; i < step.sequences;) {
    SharedRun run{i, 1, 0};
    for (; decodes(step, i) && decodes(step, i + 1); ++i) {
      const i64 keys = common_keys(step, i, align);
      // A sequence that shares much less would shorten the shared prefix of the whole run.
      if (keys < kLeastKeys || 2 * keys < run.keys) break;
      if (run.count > 1 && keys > 2 * run.keys) {  // and here the earlier ones have shortened it
        if (is_worth_it(run)) break;
        run = {i, 1, 0};
      }
      run.keys = run.count == 1 ? keys : std::min(run.keys, keys);
      ++run.count;
    }
    ++i;
    if (is_worth_it(run)) runs.push_back(run);
  }
  return runs;
}

}  // namespace vllm::ops
