#include "ops/attention/prefill_items.h"

#include <algorithm>
#include <tuple>

namespace vllm::ops {

std::vector<AttentionItem> cut_prefill(const std::vector<AttentionItem>& whole, i64 kv_heads,
                                       i64 blocks, i64 slots) {
  constexpr i64 kLeastPiece = 1024;  // keys
  if (static_cast<i64>(whole.size()) * kv_heads * 2 >= blocks) return whole;
  i64 keys = 0;
  for (const AttentionItem& item : whole) keys += item.end - item.begin;
  const i64 most = std::max(divide_up(keys * kv_heads, blocks), kLeastPiece);
  std::vector<AttentionItem> pieces;
  for (AttentionItem item : whole) {
    // Rounded down: with all KV heads there are no more pieces than blocks.
    const i64 count = std::clamp<i64>((item.end - item.begin) / most, 1, kMergedAtOnce);
    const i64 first = item.begin / kAlign * kAlign, end = item.end;
    const i64 length = divide_up(divide_up(end - first, count), kAlign) * kAlign;
    const i64 splits = divide_up(end - first, length);
    item.splits = static_cast<int>(splits);
    item.first_slot = splits > 1 ? static_cast<int>(slots) : 0;
    for (i64 split = 0; split < splits; ++split) {
      item.split = static_cast<int>(split);
      item.begin = std::max(item.begin, static_cast<int>(first + split * length));
      item.end = static_cast<int>(std::min(end, first + (split + 1) * length));
      pieces.push_back(item);
    }
    if (splits > 1) slots += splits * kv_heads * kRowGroups;
  }
  return pieces;
}

void sort_prefill(std::vector<AttentionItem>& items, i64 sequences) {
  if (items.size() < 2) return;
  const auto keys = [](const AttentionItem& item) { return item.end - item.begin; };
  std::vector<int> longest(static_cast<size_t>(sequences), 0);
  const auto longest_of = [&](const AttentionItem& item) -> int& {
    return longest[static_cast<size_t>(item.sequence)];
  };
  for (const AttentionItem& item : items) {
    longest_of(item) = std::max(longest_of(item), keys(item));
  }
  std::stable_sort(items.begin(), items.end(), [&](const AttentionItem& a, const AttentionItem& b) {
    return std::make_tuple(-longest_of(a), a.sequence, -keys(a)) <
           std::make_tuple(-longest_of(b), b.sequence, -keys(b));
  });
}

SharedTiles::SharedTiles(const Step& step, const std::vector<SharedRun>& runs, i64 blocks,
                         i64 prefill_blocks)
    : found_(runs.empty() ? 0 : static_cast<size_t>(step.sequences)) {
  if (runs.empty()) return;
  i64 tiles = 0;
  for (const SharedRun& run : runs) tiles += divide_up(run.count * step.group, kPrefillRows);
  const i64 wanted = prefill_blocks / std::max<i64>(tiles * step.kv_heads, 1);
  const i64 first = (kDecodeSlots + kPrefillSlots) * blocks;
  slot_ = first;
  for (const SharedRun& run : runs) {
    const i64 splits = std::clamp<i64>(wanted, 1, run.keys / (2 * kAlign));
    add(step, run, splits, first + kSharedSlots * blocks) ||
        add(step, run, 1, first + kSharedSlots * blocks);
  }
}

void SharedTiles::shorten(AttentionItem& item) const {
  if (found_.empty()) return;
  const AttentionItem& found = found_[static_cast<size_t>(item.sequence)];
  if (found.shared_splits == 0) return;
  item.begin = found.end;
  item.shared_slot = found.shared_slot;
  item.shared_row = found.shared_row;
  item.shared_splits = found.shared_splits;
}

bool SharedTiles::add(const Step& step, const SharedRun& run, i64 splits, i64 slots_end) {
  const i64 length = divide_up(divide_up(run.keys, splits), kAlign) * kAlign;
  splits = divide_up(run.keys, length);
  const i64 rows = run.count * step.group, slots = step.kv_heads * kRowGroups * splits;
  const i64 tiles = divide_up(rows, kPrefillRows);
  if (slot_ + tiles * slots > slots_end) return false;
  for (i64 tile = 0; tile < tiles; ++tile) {
    AttentionItem item{};
    item.sequence = static_cast<int>(run.first);
    item.token = step.query_starts[run.first];
    item.position = static_cast<int>(run.keys - 1);  // so all rows see all of the keys
    item.row = static_cast<int>(tile * kPrefillRows);
    item.rows = static_cast<int>(std::min<i64>(kPrefillRows, rows - tile * kPrefillRows));
    item.first_slot = static_cast<int>(slot_ + tile * slots);
    item.splits = static_cast<int>(splits);
    item.next = kForDecode;
    for (i64 split = 0; split < splits; ++split) {
      item.split = static_cast<int>(split);
      item.begin = static_cast<int>(split * length);
      item.end = static_cast<int>(std::min(run.keys, (split + 1) * length));
      items_.push_back(item);
    }
  }
  for (i64 i = 0; i < run.count; ++i) {
    AttentionItem& found = found_[static_cast<size_t>(run.first + i)];
    found.end = static_cast<int>(run.keys);
    found.shared_slot = static_cast<int>(slot_);
    found.shared_row = static_cast<int>(i * step.group);
    found.shared_splits = static_cast<int>(splits);
  }
  slot_ += tiles * slots;
  return true;
}

}  // namespace vllm::ops
