// A step as its plan sees it: sequences, their query rows and their keys.
#pragma once

#include <algorithm>

#include "params/attention.h"
#include "params/attention_shape.h"

namespace vllm::ops {

inline constexpr i64 kAlign = 128;  // keys of a tile, in every prefill kernel

// Slots for partial results, per thread block: of decode items, of prefill items that are split,
// and of shared keys.
inline constexpr i64 kDecodeSlots = 2, kPrefillSlots = kRowGroups, kSharedSlots = 16;

inline i64 divide_up(i64 a, i64 b) { return (a + b - 1) / b; }

// The arguments, as numbers.
struct Step {
  const int* context_lens;
  const int* query_starts;
  i64 sequences;
  i64 group;  // query heads of a KV head
  i64 kv_heads;
  i64 window;

  i64 queries(i64 i) const { return query_starts[i + 1] - query_starts[i]; }
  i64 rows(i64 i) const { return queries(i) * group; }
  bool decodes(i64 i) const { return queries(i) == 1 || rows(i) <= kDecodeRows; }

  // Rows [row, row + count) of sequence i, and the keys that one of them sees.
  AttentionItem item(i64 i, i64 row, i64 count) const {
    const i64 position = context_lens[i] - queries(i);
    const i64 first = position + row / group, last = position + (row + count - 1) / group;
    AttentionItem item{};
    item.sequence = static_cast<int>(i);
    item.token = query_starts[i];
    item.position = static_cast<int>(position);
    item.row = static_cast<int>(row);
    item.rows = static_cast<int>(count);
    item.begin = static_cast<int>(window > 0 ? std::max<i64>(first + 1 - window, 0) : 0);
    item.end = static_cast<int>(last + 1);
    item.splits = 1;
    item.next = -1;
    return item;
  }
};

}  // namespace vllm::ops
