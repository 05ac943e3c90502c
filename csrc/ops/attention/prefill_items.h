// Tiles of rows for the prefill kernel: of prefills, and of decoding sequences with a shared
// prefix.
#pragma once

#include <vector>

#include "ops/attention/plan_step.h"
#include "ops/attention/shared_keys.h"

namespace vllm::ops {

// Splits prefill items over keys, so that the longest piece is as short as possible, if they would
// occupy at most half of `blocks`, the CTAs that run at once. slots: the first slot for partial
// results after those of decode items. few_items: the most items of the kernel for few of them; 0
// without it.
std::vector<AttentionItem> cut_prefill(const std::vector<AttentionItem>& whole, i64 kv_heads,
                                       i64 blocks, i64 slots, i64 few_items);

// Puts the tiles of a sequence next to each other: CTAs that run at the same time then read the
// same keys, and all but the first read them from L2. Longer sequences and longer tiles come first,
// so that the last tiles to run are short.
void sort_prefill(std::vector<AttentionItem>& items, i64 sequences);

// The tiles of sequences that share keys, and the slots where each sequence finds their results.
class SharedTiles {
 public:
  // blocks: of the decode kernel, for which there are slots; prefill_blocks: of the prefill kernel.
  SharedTiles(const Step& step, const std::vector<SharedRun>& runs, i64 blocks, i64 prefill_blocks);

  const std::vector<AttentionItem>& items() const { return items_; }

  // Removes the shared keys of its sequence from a decode item.
  void shorten(AttentionItem& item) const;

 private:
  // Returns false where there are not enough slots.
  bool add(const Step& step, const SharedRun& run, i64 splits, i64 slots_end);

  std::vector<AttentionItem> items_;
  std::vector<AttentionItem> found_;  // by sequence
  i64 slot_ = 0;
};

}  // namespace vllm::ops
