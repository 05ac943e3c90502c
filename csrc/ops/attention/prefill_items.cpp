#include "ops/attention/prefill_items.h"

#include <algorithm>
#include <tuple>

namespace vllm::ops {

namespace {

i64 keys_of(const AttentionItem& item) { return item.end - item.begin; }

// How many pieces items are split into.
class Pieces {
 public:
  // room: for pieces of all items. few: whether all CTAs of an item merge its pieces, instead of
  // one.
  Pieces(const std::vector<AttentionItem>& items, i64 room, bool few) : few_(few) {
    i64 keys = 0;
    for (const AttentionItem& item : items) keys += keys_of(item);
    length_ = divide_up(divide_up(keys, room), kAlign) * kAlign;
    while (of(items) > room) length_ += kAlign;
  }

  i64 of(const AttentionItem& item) const {
    const i64 most = std::clamp<i64>(keys_of(item) / least_keys(item), 1, kMergedAtOnce);
    return std::min(divide_up(keys_of(item), length_), most);
  }

 private:
  // A piece of fewer keys takes less time than merging it (H200).
  i64 least_keys(const AttentionItem& item) const {
    return !few_ ? 1024 : item.rows > kPrefillRows / 2 ? 512 : 256;
  }

  i64 of(const std::vector<AttentionItem>& items) const {
    i64 count = 0;
    for (const AttentionItem& item : items) count += of(item);
    return count;
  }

  const bool few_;
  i64 length_;  // of a piece, at most
};

}  // namespace

std::vector<AttentionItem> cut_prefill(const std::vector<AttentionItem>& whole, i64 kv_heads,
                                       i64 blocks, i64 slots, i64 few_items) {
  const i64 most = blocks / kv_heads, room = few_items > 0 ? std::min(few_items, most) : most;
  if (whole.empty() || static_cast<i64>(whole.size()) * 2 > room) return whole;
  const Pieces counts(whole, room, few_items > 0);
  std::vector<AttentionItem> pieces;
  for (AttentionItem item : whole) {
    const i64 first = item.begin / kAlign, tiles = divide_up(item.end, kAlign) - first;
    const i64 splits = std::min(counts.of(item), tiles), end = item.end;
    item.splits = static_cast<int>(splits);
    item.first_slot = splits > 1 ? static_cast<int>(slots) : 0;
    for (i64 split = 0; split < splits; ++split) {
      item.split = static_cast<int>(split);
      item.end = static_cast<int>(
          std::min(end, (first + divide_up((split + 1) * tiles, splits)) * kAlign));
      pieces.push_back(item);
      item.begin = item.end;
    }
    if (splits > 1) slots += splits * kv_heads * kRowGroups;
  }
  return pieces;
}

void sort_prefill(std::vector<AttentionItem>& items, i64 sequences) {
  if (items.size() < 2) return;
  const auto keys = [](const AttentionItem& item) { return static_cast<int>(keys_of(item)); };
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
