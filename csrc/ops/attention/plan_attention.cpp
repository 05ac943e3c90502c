// Divides the attention of a step into work items, on the host, once for all layers of one kind.
//
// Few query rows against many keys (decoding) are limited by reading keys and values: all of these,
// of all sequences in a row, are cut into pieces of about the same length, one for each block, so
// that every block reads equally much and none waits. The KV heads of a sequence are cut alike, so
// that the blocks that read what lies side by side do so at about the same time. Where a cut falls
// inside of a sequence its results are partial, and the last block to be done merges them. Many
// rows (a prefill) become tiles of rows, which are cut only where there are too few to keep every
// block busy.
//
// Where neighbours in a step begin with the same blocks of the cache, their rows make tiles against
// these keys, as a prefill's do; the results stay partial, and the decode items of what each has
// beside that add them to theirs.
//
// The items: the first of each block's list of decode items; one whose rows are the number of
// prefill items, and these; the other decode items. So a kernel finds the prefill items of any step
// at the same place, and with a grid for more of them those that there are.
#include <algorithm>
#include <tuple>
#include <vector>

#include "ops/attention/shared_keys.h"
#include "ops/common/checks.h"
#include "ops/ops.h"
#include "params/attention.h"
#include "params/attention_shape.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "plan_attention";

constexpr i64 kAlign = 128;  // keys of a prefill tile, of whichever kernel

// Slots of partial results, for each block: of decode items, of prefill items that are split, and
// of those that sequences share.
constexpr i64 kDecodeSlots = 2, kPrefillSlots = kRowGroups, kSharedSlots = 16;

i64 divide_up(i64 a, i64 b) { return (a + b - 1) / b; }

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

i64 chunks(const AttentionItem& item) { return divide_up(item.end, kChunk) - item.begin / kChunk; }

// The KV heads that are cut alike, each for a block of its own: as many as leave few blocks without
// work.
i64 lanes_of(i64 kv_heads, i64 blocks) {
  i64 lanes = kv_heads;
  while (lanes > 1 && (kv_heads % lanes != 0 || blocks % lanes * 32 > blocks)) --lanes;
  return lanes;
}

// Hands pieces of work to one group of blocks after another, each about as many chunks: to each
// block of a group the same keys, of one KV head after another.
class BlockLists {
 public:
  // first: where items go that do not begin a list. total: the chunks that will be added, each for
  // `lanes` KV heads.
  BlockLists(AttentionItem* items, i64 capacity, i64 blocks, i64 first, i64 lanes, i64 total)
      : items_(items),
        capacity_(capacity),
        groups_(blocks / lanes),
        // A block's warps take chunks in turn: a whole number of turns keeps them all busy.
        quota_(std::max<i64>(divide_up(divide_up(total, groups_), kAttentionWarps), 1) *
               kAttentionWarps),
        slack_(std::min(kCutChunks, quota_ / 8 / kAttentionWarps * kAttentionWarps)),
        used_(first),
        left_(total),
        room_(quota_),
        last_(static_cast<size_t>(lanes), -1) {}

  // All rows' keys of some KV heads, the first of which is in `whole`; cut where a group has
  // enough.
  void add(const AttentionItem& whole) {
    pieces_.clear();
    const i64 end = divide_up(whole.end, kChunk);
    for (i64 chunk = whole.begin / kChunk; chunk < end;) {
      if (room_ == 0) next_group();
      i64 count = std::min(room_, end - chunk);
      if (end - chunk - count <= slack_) count = end - chunk;
      AttentionItem piece = whole;
      piece.begin = static_cast<int>(std::max<i64>(whole.begin, chunk * kChunk));
      piece.end = static_cast<int>(std::min<i64>(whole.end, (chunk + count) * kChunk));
      append(piece);
      chunk += count;
      left_ -= count;
      room_ = std::max<i64>(room_ - count, 0);
      // What is left of a group's room is given up where the other groups have enough.
      if (room_ <= slack_ && left_ <= quota_ * (groups_ - 1 - group_)) room_ = 0;
    }
    number_splits();
  }

  i64 blocks() const { return last_.front() < 0 ? 0 : (group_ + 1) * lanes(); }
  i64 used() const { return used_; }  // items, also beyond the capacity

 private:
  // A cut costs a block about the time in which it reads 8 chunks (H200); so does the one that it
  // spares its neighbour.
  static constexpr i64 kCutChunks = 16;

  i64 lanes() const { return static_cast<i64>(last_.size()); }
  AttentionItem* at(i64 index) { return index < capacity_ ? items_ + index : nullptr; }

  void next_group() {
    ++group_;
    std::fill(last_.begin(), last_.end(), -1);
    room_ = quota_;
  }

  // To each block of the group the piece of its KV head.
  void append(AttentionItem piece) {
    for (i64 lane = 0; lane < lanes(); ++lane, ++piece.kv_head) {
      i64& last = last_[static_cast<size_t>(lane)];
      // A block's list begins at its own number.
      const i64 index = last < 0 ? group_ * lanes() + lane : used_++;
      if (last >= 0 && at(last) != nullptr) at(last)->next = static_cast<int>(index);
      if (at(index) != nullptr) *at(index) = piece;
      last = index;
      pieces_.push_back(index);
    }
  }

  void number_splits() {
    const int splits = static_cast<int>(static_cast<i64>(pieces_.size()) / lanes());
    if (splits <= 1) return;
    const int slots = splits + merge_groups(splits);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      AttentionItem* piece = at(pieces_[i]);
      if (piece == nullptr) continue;
      const int lane = static_cast<int>(i % last_.size());
      piece->first_slot = slots_ + lane * slots;
      piece->split = static_cast<int>(i / last_.size());
      piece->splits = splits;
    }
    slots_ += static_cast<int>(lanes()) * slots;
  }

  AttentionItem* items_;
  i64 capacity_;
  i64 groups_;
  i64 quota_;  // of a group, in chunks
  i64 slack_;  // that a group may have more or less
  i64 used_;
  i64 left_;  // of all chunks
  i64 room_;  // of the group
  i64 group_ = 0;
  std::vector<i64> last_;  // of each block of the group, the newest item; -1 before the first
  int slots_ = 0;
  std::vector<i64> pieces_;  // of what is added: cut by cut, the KV heads
};

// Cuts prefill items into pieces of about equal length where there are fewer than half as many as
// blocks. A piece costs the writing and adding up of its results: it has kLeastPiece keys at least.
// slots: where those of its partial results begin, behind those of decode items.
std::vector<AttentionItem> cut_prefill(const std::vector<AttentionItem>& whole, i64 kv_heads,
                                       i64 blocks, i64 slots) {
  constexpr i64 kLeastPiece = 1024;
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

// The rows of sequences that share keys against these; and where each of the sequences finds the
// results.
class SharedTiles {
 public:
  // blocks: of the decode kernel, for which there are slots; prefill_blocks: of the prefill kernel.
  SharedTiles(const Step& step, const std::vector<SharedRun>& runs, i64 blocks, i64 prefill_blocks)
      : found_(static_cast<size_t>(step.sequences)) {
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

  const std::vector<AttentionItem>& items() const { return items_; }

  // A decode item without the keys that its sequence shares.
  void shorten(AttentionItem& item) const {
    const AttentionItem& found = found_[static_cast<size_t>(item.sequence)];
    if (found.shared_splits == 0) return;
    item.begin = found.end;
    item.shared_slot = found.shared_slot;
    item.shared_row = found.shared_row;
    item.shared_splits = found.shared_splits;
  }

 private:
  // False where there are not enough slots.
  bool add(const Step& step, const SharedRun& run, i64 splits, i64 slots_end) {
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

  std::vector<AttentionItem> items_;
  std::vector<AttentionItem> found_;  // by sequence
  i64 slot_ = 0;
};

// The tiles of a sequence one after another, so that blocks that run at the same time read the same
// keys, and L2 serves all but one; the longest first, of sequences and in each, so that the blocks
// end with short ones.
void sort_prefill(std::vector<AttentionItem>& items, i64 sequences) {
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

void require_step(const Step& step, const Tensor& context_lens, const Tensor& query_starts) {
  if (step.query_starts[0] != 0) {
    refuse(ErrorKind::value, kOp, query_starts, concat("begins with ", step.query_starts[0]), "0");
  }
  for (i64 i = 0; i < step.sequences; ++i) {
    if (step.queries(i) < 0) {
      refuse(ErrorKind::value, kOp, query_starts,
             concat("falls from ", step.query_starts[i], " to ", step.query_starts[i + 1]),
             "numbers that never fall");
    }
    if (step.context_lens[i] < step.queries(i)) {
      refuse(ErrorKind::value, kOp, context_lens,
             concat("holds ", step.context_lens[i], " at index ", i),
             concat(step.queries(i), " or more, the query tokens of that sequence"));
    }
  }
}

void require_tables(const Tensor& tables, i64 sequences, i64 block_size) {
  require_dtype(kOp, tables, DType::int32, "");
  require_ndim(kOp, tables, 2, "(sequences, blocks)");
  require_contiguous_last(kOp, tables);
  if (tables.device_type != DeviceType::cpu || tables.shape[0] != sequences) {
    refuse(ErrorKind::value, kOp, tables, concat("has shape ", shape_text(tables)),
           concat("(", sequences, ", blocks) on the CPU, a row for each sequence"));
  }
  if (block_size < 1) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'block_size' is ", block_size,
                                         "; it takes the tokens of a block, 1 or more"));
  }
}

void require_number(const char* name, i64 value, i64 least, const char* what) {
  if (value < least || value > kMaxWidth) {
    throw Error(ErrorKind::value, concat(kOp, ": argument '", name, "' is ", value, "; it takes ",
                                         what, ", ", least, " or more"));
  }
}

}  // namespace

AttentionPlanSizes attention_plan_sizes(int64_t tokens, int64_t sequences, int64_t heads,
                                        int64_t kv_heads, int64_t head_size, int64_t blocks) {
  // Decoding: an item for each block and, where sequences meet, for each of their heads. Prefill:
  // one that holds the number of tiles, a tile less than full for each sequence, and no more pieces
  // of tiles than blocks, of those that are shared and of others. Two decode items of a block may
  // be partial, its first and its last; a piece is for each KV head.
  const i64 slots = (kDecodeSlots + kPrefillSlots + kSharedSlots) * blocks;
  return {1 + 3 * blocks + sequences * (heads + 1) + tokens * (heads / kv_heads) / kPrefillRows,
          kItemInts, slots + kTickets, slots * kDecodeRows * (head_size + 2)};
}

AttentionPlanCounts plan_attention(const Tensor& items, const Tensor& context_lens,
                                   const Tensor& query_starts, int64_t heads, int64_t kv_heads,
                                   int64_t sliding_window, int64_t blocks, int64_t prefill_blocks,
                                   const Tensor* block_tables, int64_t block_size) {
  for (const Tensor* tensor : {&items, &context_lens, &query_starts}) {
    require_dtype(kOp, *tensor, DType::int32, "");
    if (tensor->device_type != DeviceType::cpu) {
      refuse(ErrorKind::value, kOp, *tensor, concat("is on cuda:", tensor->device_index),
             "a tensor on the CPU");
    }
    require_contiguous_last(kOp, *tensor);
  }
  require_writable(kOp, items);
  if (items.ndim != 2 || items.shape[1] != kItemInts ||
      (items.shape[0] > 1 && items.strides[0] != kItemInts)) {
    refuse(ErrorKind::value, kOp, items, concat("has shape ", shape_text(items)),
           concat("(items, ", kItemInts, "), contiguous"));
  }
  require_ndim(kOp, context_lens, 1, "(sequences,)");
  const i64 sequences = context_lens.shape[0];
  require_vector(kOp, query_starts, sequences + 1, "one more than 'context_lens'");
  require_number("kv_heads", kv_heads, 1, "KV heads");
  require_number("heads", heads, 1, "query heads");
  require_number("sliding_window", sliding_window, 0, "a number of tokens, or 0 for no window");
  require_number("blocks", blocks, 1, "blocks to divide the work among");
  require_number("prefill_blocks", prefill_blocks, 1, "blocks to divide prefills among");
  if (heads % kv_heads != 0) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'heads' is ", heads,
                                         "; it takes a multiple of 'kv_heads', ", kv_heads));
  }
  const Step step{static_cast<const int*>(context_lens.data),
                  static_cast<const int*>(query_starts.data),
                  sequences,
                  heads / kv_heads,
                  kv_heads,
                  sliding_window};
  require_step(step, context_lens, query_starts);
  std::vector<SharedRun> runs;
  if (block_tables != nullptr && sliding_window == 0) {
    require_tables(*block_tables, sequences, block_size);
    runs = find_runs({static_cast<const int*>(block_tables->data), block_tables->strides[0],
                      block_size, step.context_lens, step.query_starts, sequences},
                     kAlign);
  }
  const SharedTiles shared(step, runs, blocks, std::min(prefill_blocks, blocks));

  auto* to = static_cast<AttentionItem*>(items.data);
  const i64 capacity = items.shape[0];
  AttentionItem idle{};
  idle.splits = 1;
  idle.next = -1;
  std::fill_n(to, std::min<i64>(blocks, capacity), idle);

  const i64 lanes = lanes_of(kv_heads, blocks);
  std::vector<AttentionItem> decode, prefill;
  i64 total = 0;
  for (i64 i = 0; i < sequences; ++i) {
    const i64 tile = step.decodes(i) ? kDecodeRows : kPrefillRows;
    for (i64 row = 0; row < step.rows(i); row += tile) {
      AttentionItem item = step.item(i, row, std::min(tile, step.rows(i) - row));
      if (step.decodes(i)) {
        shared.shorten(item);
        total += chunks(item) * (kv_heads / lanes);
        decode.push_back(item);
      } else {
        prefill.push_back(item);
      }
    }
  }

  prefill = cut_prefill(prefill, kv_heads, std::min(prefill_blocks, blocks), kDecodeSlots * blocks);
  prefill.insert(prefill.end(), shared.items().begin(), shared.items().end());
  const auto tiles = static_cast<i64>(prefill.size());
  BlockLists lists(to, capacity, blocks, blocks + tiles + 1, lanes, total);
  for (AttentionItem& item : decode) {
    for (; item.kv_head < kv_heads; item.kv_head += static_cast<int>(lanes)) lists.add(item);
  }

  sort_prefill(prefill, sequences);
  if (lists.used() > capacity) {
    refuse(ErrorKind::value, kOp, items, concat("has room for ", capacity, " items"),
           concat("(", lists.used(), ", ", kItemInts, ") for this step"));
  }
  to[blocks] = idle;
  to[blocks].rows = static_cast<int>(tiles);
  std::copy(prefill.begin(), prefill.end(), to + blocks + 1);
  return {lists.blocks(), blocks, tiles, lists.used()};
}

}  // namespace vllm::ops
