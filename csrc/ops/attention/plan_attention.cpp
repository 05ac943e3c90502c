// Divides the attention of a step into work items, on the host, once for all layers of one kind.
//
// Decoding (few query rows, many keys) is bound by reading keys and values. The keys of all
// sequences, one after another, are cut into pieces of about the same length, one for each CTA
// (thread block), so that all CTAs read equally much. The KV heads of a sequence are cut at the
// same keys, so that CTAs that read adjacent memory do so at about the same time. A cut inside of a
// sequence makes partial results, which the last of its CTAs to finish merges. A prefill (many
// rows) becomes tiles of rows, which are split over keys only if there are too few to occupy all
// CTAs.
//
// If adjacent sequences of a step begin with the same KV blocks (a shared prefix), the rows of all
// of them become tiles against these keys, like a prefill's. The results stay partial, and the
// decode items for the rest of each sequence merge them into theirs.
//
// The order of items: the first item of each CTA's list of decode items; an item whose `rows` is
// the number of prefill items; the prefill items; the other decode items. So the prefill items of
// every step begin at the same index, and a grid that was captured for more of them (a CUDA graph)
// reads how many there are.
#include <algorithm>
#include <vector>

#include "ops/attention/block_lists.h"
#include "ops/attention/prefill_items.h"
#include "ops/attention/shared_keys.h"
#include "ops/common/checks.h"
#include "ops/ops.h"
#include "params/attention.h"
#include "params/attention_shape.h"
#include "runtime/text.h"

namespace vllm::ops {
namespace {

constexpr const char* kOp = "plan_attention";

// Up to so many turns of a cluster's warps cost less than a cut.
constexpr i64 kCutTurns = 2;

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
  require_ndim(kOp, tables, 2, "(sequences, KV blocks)");
  require_contiguous_last(kOp, tables);
  if (tables.device_type != DeviceType::cpu || tables.shape[0] != sequences) {
    refuse(ErrorKind::value, kOp, tables, concat("has shape ", shape_text(tables)),
           concat("(", sequences, ", KV blocks) on the CPU, a row for each sequence"));
  }
  if (block_size < 1) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'block_size' is ", block_size,
                                         "; it takes the tokens of a KV block, 1 or more"));
  }
}

[[noreturn]] void refuse_number(const char* name, i64 value, i64 least, const char* what) {
  throw Error(ErrorKind::value, concat(kOp, ": argument '", name, "' is ", value, "; it takes ",
                                       what, ", ", least, " or more"));
}

void require_number(const char* name, i64 value, i64 least, const char* what) {
  if (value < least || value > kMaxWidth) refuse_number(name, value, least, what);
}

}  // namespace

AttentionPlanSizes attention_plan_sizes(int64_t tokens, int64_t sequences, int64_t heads,
                                        int64_t kv_heads, int64_t head_size, int64_t blocks) {
  // Decode items: one for each CTA, and one for each head of a sequence, since lists may also
  // change sequences. Prefill items: the one that holds their number, the full tiles, one tile that
  // is not full for each sequence, and at most `blocks` pieces of split tiles, once for prefills
  // and once for shared keys. Partial results: of at most two decode items of a CTA, the first and
  // the last; and of each piece, for all KV heads.
  const i64 slots = (kDecodeSlots + kPrefillSlots + kSharedSlots) * blocks;
  const i64 tiles = tokens * (heads / kv_heads) / kPrefillRows + sequences + 2 * blocks;
  return {1 + blocks + sequences * heads + tiles, kItemInts, slots + kTickets,
          slots * kDecodeRows * (head_size + 2), tiles};
}

AttentionPlanCounts plan_attention(const Tensor& items, const Tensor& context_lens,
                                   const Tensor& query_starts, int64_t heads, int64_t kv_heads,
                                   int64_t sliding_window, int64_t blocks, int64_t prefill_blocks,
                                   const Tensor* block_tables, int64_t block_size, int64_t cluster,
                                   int64_t few_items) {
  for (const Tensor* tensor : {&items, &context_lens, &query_starts}) {
    require_dtype(kOp, *tensor, DType::int32, "");
    if (tensor->device_type != DeviceType::cpu) {
      refuse(ErrorKind::value, kOp, *tensor, concat("is on cuda:", tensor->device_index),
             "a tensor on the CPU");
    }
  }
  require_contiguous_last(kOp, items);
  require_contiguous_last(kOp, context_lens);
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
  require_number("blocks", blocks, 1, "thread blocks to divide the work among");
  require_number("prefill_blocks", prefill_blocks, 1, "thread blocks to divide prefills among");
  require_number("cluster", cluster, 0, "thread blocks that share a list, or 0");
  require_number("few_items", few_items, 0, "what few_prefill_items returns, a number of items");
  if (cluster > blocks) {
    throw Error(ErrorKind::value, concat(kOp, ": argument 'cluster' is ", cluster,
                                         "; it takes at most 'blocks', ", blocks));
  }
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

  std::vector<AttentionItem> decode, prefill;
  decode.reserve(static_cast<size_t>(sequences));
  for (i64 i = 0; i < sequences; ++i) {
    const i64 tile = step.decodes(i) ? kDecodeRows : kPrefillRows;
    for (i64 row = 0; row < step.rows(i); row += tile) {
      AttentionItem item = step.item(i, row, std::min(tile, step.rows(i) - row));
      if (step.decodes(i)) {
        shared.shorten(item);
        decode.push_back(item);
      } else {
        prefill.push_back(item);
      }
    }
  }

  prefill = cut_prefill(prefill, kv_heads, std::min(prefill_blocks, blocks), kDecodeSlots * blocks,
                        few_items);
  prefill.insert(prefill.end(), shared.items().begin(), shared.items().end());
  const auto tiles = static_cast<i64>(prefill.size());
  // The kernel that also rotates takes decode items only.
  if (tiles > 0) cluster = 0;
  const Teams teams = cluster == 0 ? Teams{blocks, kAttentionWarps, 0}
                                   : Teams{blocks / cluster, kNewestWarps * cluster, kCutTurns};
  const i64 lanes = lanes_of(kv_heads, teams.count);
  i64 total = 0;
  for (const AttentionItem& item : decode) total += chunks(item) * (kv_heads / lanes);
  BlockLists lists(to, capacity, teams, blocks + tiles + 1, lanes, total);
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
  return {lists.count(), blocks, tiles, lists.used(), cluster};
}

}  // namespace vllm::ops
