// Divides the attention of a step into work items, on the host, once for all layers of one kind.
//
// Few query rows against many keys (decoding) are limited by reading keys and values. Each tile of
// rows of each KV head is cut into pieces; its results are then partial, and the last block to be
// done with one merges them. Short work is cut into one piece for each block, all of the same
// length. Long work is cut into pieces that shrink towards the end, and blocks take one after
// another ("guided self-scheduling", Polychronopoulos and Kuck 1987): multiprocessors do not all
// read equally fast. Where the cuts are depends on lengths alone, so results do not vary.
// Many rows (a prefill) become tiles of rows that need no cut, the longest first.
#include <algorithm>
#include <vector>

#include "kernels/attention_shape.h"
#include "ops/checks.h"
#include "ops/ops.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "plan_attention";

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
    return item;
  }
};

i64 chunks(const AttentionItem& item) { return divide_up(item.end, kChunk) - item.begin / kChunk; }

constexpr i64 kTurn = kAttentionWarps;  // chunks that keep all warps of a block busy
constexpr i64 kLeastPiece = 2 * kTurn;

// How much longer than the mean the pieces of one each may be, in chunks: what a second item costs.
constexpr i64 kSecondItem = 10;

i64 round_up(i64 a, i64 multiple) { return divide_up(a, multiple) * multiple; }

// What there is to decode: for each tile of rows of each sequence, the keys of every KV head.
struct Decoding {
  std::vector<AttentionItem> tiles;
  i64 kv_heads;
  i64 total = 0;    // chunks
  i64 longest = 0;  // chunks of a tile

  void add(const AttentionItem& tile) {
    tiles.push_back(tile);
    total += kv_heads * chunks(tile);
    longest = std::max(longest, chunks(tile));
  }

  i64 pieces(i64 length) const {
    i64 count = 0;
    for (const AttentionItem& tile : tiles) count += divide_up(chunks(tile), length);
    return count * kv_heads;
  }

  // The least length of pieces of which there are no more than `blocks`; 0 where there is none.
  i64 length_of_one_each(i64 blocks) const {
    if (static_cast<i64>(tiles.size()) * kv_heads > blocks) return 0;
    i64 low = 0, high = divide_up(longest, kTurn);  // in turns; high will do
    while (high - low > 1) {
      const i64 middle = (low + high) / 2;
      (pieces(middle * kTurn) <= blocks ? high : low) = middle;
    }
    return high * kTurn;
  }
};

// Writes items as long as there is room, and counts them in any case.
class ItemWriter {
 public:
  ItemWriter(AttentionItem* items, i64 capacity) : items_(items), capacity_(capacity) {}

  // A tile of one KV head, as pieces of `length` chunks.
  void add(const AttentionItem& tile, i64 length) {
    const i64 begin = tile.begin / kChunk, end = begin + chunks(tile);
    const int splits = static_cast<int>(divide_up(end - begin, length));
    for (int split = 0; split < splits; ++split) {
      const i64 chunk = begin + split * length;
      AttentionItem piece = tile;
      piece.begin = static_cast<int>(std::max<i64>(tile.begin, chunk * kChunk));
      piece.end = static_cast<int>(std::min<i64>(tile.end, (chunk + length) * kChunk));
      piece.first_slot = splits > 1 ? slots_ : 0;
      piece.split = split;
      piece.splits = splits;
      if (used_ < capacity_) items_[used_] = piece;
      ++used_;
    }
    if (splits > 1) slots_ += splits;
  }

  i64 used() const { return used_; }

 private:
  AttentionItem* items_;
  i64 capacity_;
  i64 used_ = 0;
  int slots_ = 0;
};

void cut(const Decoding& decoding, i64 blocks, ItemWriter& writer) {
  const i64 share = divide_up(decoding.total, blocks);
  const i64 one_each = decoding.length_of_one_each(blocks);
  const bool is_short = one_each > 0 && one_each <= share - share / 25 + kSecondItem;
  const i64 least = std::max(kLeastPiece, round_up(share / 64, kTurn));
  i64 left = decoding.total;
  for (const AttentionItem& tile : decoding.tiles) {
    for (i64 kv_head = 0; kv_head < decoding.kv_heads; ++kv_head) {
      i64 length = one_each;
      if (!is_short) {
        const i64 piece = std::max(least, divide_up(left, 2 * blocks));
        const i64 count = std::max<i64>((chunks(tile) + piece / 2) / piece, 1);
        length = round_up(divide_up(chunks(tile), count), kTurn);
      }
      AttentionItem item = tile;
      item.kv_head = static_cast<int>(kv_head);
      writer.add(item, length);
      left -= chunks(tile);
    }
  }
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

void require_number(const char* name, i64 value, i64 least, const char* what) {
  if (value < least || value > kMaxWidth) {
    throw Error(ErrorKind::value, concat(kOp, ": argument '", name, "' is ", value, "; it takes ",
                                         what, ", ", least, " or more"));
  }
}

}  // namespace

AttentionPlanCounts plan_attention(const Tensor& items, const Tensor& context_lens,
                                   const Tensor& query_starts, int64_t heads, int64_t kv_heads,
                                   int64_t sliding_window, int64_t blocks) {
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

  auto* to = static_cast<AttentionItem*>(items.data);
  const i64 capacity = items.shape[0];
  std::fill_n(to, std::min<i64>(blocks, capacity), AttentionItem{});  // nothing to do

  Decoding decoding{{}, kv_heads};
  std::vector<AttentionItem> prefill;
  for (i64 i = 0; i < sequences; ++i) {
    const i64 height = step.decodes(i) ? kDecodeRows : kPrefillRows;
    for (i64 row = 0; row < step.rows(i); row += height) {
      const AttentionItem tile = step.item(i, row, std::min(height, step.rows(i) - row));
      if (step.decodes(i)) {
        decoding.add(tile);
      } else {
        prefill.push_back(tile);
      }
    }
  }
  ItemWriter writer(to, capacity);
  cut(decoding, blocks, writer);
  const i64 decode_items = writer.used();
  for (i64 i = 0; i < std::min(decode_items, capacity); ++i) {
    to[i].items = static_cast<int>(decode_items);
  }

  std::stable_sort(prefill.begin(), prefill.end(),
                   [](const AttentionItem& a, const AttentionItem& b) {
                     return a.end - a.begin > b.end - b.begin;
                   });
  const i64 prefill_first = std::max<i64>(decode_items, blocks);
  const i64 needed = prefill_first + static_cast<i64>(prefill.size());
  if (needed > capacity) {
    refuse(ErrorKind::value, kOp, items, concat("has room for ", capacity, " items"),
           concat("(", needed, ", ", kItemInts, ") for this step"));
  }
  std::copy(prefill.begin(), prefill.end(), to + prefill_first);
  return {std::min<i64>(decode_items, blocks), prefill_first, static_cast<i64>(prefill.size())};
}

}  // namespace vllm::ops
