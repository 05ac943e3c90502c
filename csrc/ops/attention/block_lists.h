// Decode items, in a list for each thread block of the decode kernel, or for each of its clusters.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/attention/plan_step.h"

namespace vllm::ops {

// The chunks of keys that an item reads.
i64 chunks(const AttentionItem& item);

// The number of KV heads that are cut at the same keys, one for each team of a group: the largest
// that leaves few of `teams` without work.
i64 lanes_of(i64 kv_heads, i64 teams);

// What processes a list of items: a CTA, or a cluster of CTAs.
struct Teams {
  i64 count;
  i64 warps;         // of each; they divide the chunks round-robin
  i64 spared_turns;  // an item's last turns that are not cut off; 0: derived from the quota
};

// Fills the lists, one group of teams after another, with about the same number of chunks each. The
// teams of a group read the same keys, each for a different KV head.
class BlockLists {
 public:
  // first: the index of the first item that does not begin a list. total: the chunks that will be
  // added, each for `lanes` KV heads.
  BlockLists(AttentionItem* items, i64 capacity, const Teams& teams, i64 first, i64 lanes,
             i64 total);

  // Adds an item for `lanes` KV heads, from that of `whole` on; cuts it where a group's quota is
  // used up.
  void add(const AttentionItem& whole);

  i64 count() const { return last_.front() < 0 ? 0 : (group_ + 1) * lanes(); }
  i64 used() const { return used_; }  // items, also beyond the capacity

 private:
  i64 lanes() const { return static_cast<i64>(last_.size()); }
  AttentionItem* at(i64 index) { return index < capacity_ ? items_ + index : nullptr; }
  void next_group();
  void append(AttentionItem piece);
  void number_splits();

  AttentionItem* items_;
  i64 capacity_;
  i64 groups_;
  i64 turn_;   // chunks that the warps of a team process at once
  i64 quota_;  // of a group, in chunks
  i64 slack_;  // by which a group may exceed its quota or fall short of it
  i64 used_;
  i64 left_;  // chunks not yet in a list
  i64 room_;  // chunks left of the group's quota
  i64 group_ = 0;
  std::vector<i64> last_;  // of each team of the group, the newest item; -1 before the first
  int slots_ = 0;
  std::vector<i64> pieces_;  // items that the added one became: [cut][KV head]
};

}  // namespace vllm::ops
