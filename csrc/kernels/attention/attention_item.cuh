// Shared by the attention kernels: work items, the keys that a row attends to, and the merge of
// partial results if a long context is split among items.
#pragma once

#include "kernels/common/float_types.cuh"
#include "kernels/common/tensor_core.cuh"
#include "params/attention.h"
#include "params/attention_shape.h"

namespace vllm {

constexpr float kLog2E = 1.4426950408889634f;

// At most the score of any key: the initial value of a running maximum.
__device__ inline float lowest_score() { return __uint_as_float(0xff800000); }  // -infinity

// Loads an item; volatile, so that the compiler does not move the load.
__device__ inline AttentionItem read_item(const AttentionItem* items, int index) {
  AttentionItem item;
  const int4* from = reinterpret_cast<const int4*>(items + index);
  int4* to = reinterpret_cast<int4*>(&item);
  for (int i = 0; i < static_cast<int>(sizeof(AttentionItem) / sizeof(int4)); ++i) {
    asm volatile("ld.global.nc.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[i].x), "=r"(to[i].y), "=r"(to[i].z), "=r"(to[i].w)
                 : "l"(from + i));
  }
  return item;
}

// The number of prefill items, which is stored in the first of `items`.
__device__ inline int num_prefill_items(const AttentionItem* items) { return __ldg(&items->rows); }

// The items of a CTA, one after another; each is loaded while the one before it is processed.
class ItemList {
 public:
  __device__ explicit ItemList(const AttentionItem* items) : items_(items) {}

  __device__ void start() {
    ahead_ = read_item(items_, blockIdx.x);
    more_ = true;
  }
  __device__ bool more() const { return more_; }
  __device__ AttentionItem take() {
    const AttentionItem item = ahead_;
    more_ = item.next >= 0;
    if (more_) ahead_ = read_item(items_, item.next);
    return item;
  }
  __device__ const AttentionItem& ahead() const { return ahead_; }  // the next one, if there is one

 private:
  const AttentionItem* items_;
  AttentionItem ahead_;
  bool more_ = false;
};

// The query token and head of a row of an item, and the keys [first, last) that it attends to.
struct RowPlace {
  int token;  // of query
  int head;
  int first;
  int last;
};

// Query heads of a KV head.
__device__ inline int group_of(const PagedAttentionParams& p) {
  return static_cast<int>(p.heads) / static_cast<int>(p.kv_heads);
}

__device__ inline RowPlace place_row(const PagedAttentionParams& p, const AttentionItem& item,
                                     int kv_head, int row) {
  const int group = group_of(p);
  const int token = row / group;
  const int last = item.position + token + 1;
  const int window = static_cast<int>(p.sliding_window);
  return {item.token + token, kv_head * group + row % group,
          window > 0 && last > window ? last - window : 0, last};
}

template <typename T>
__device__ T* out_row(const PagedAttentionParams& p, const RowPlace& place) {
  return static_cast<T*>(p.out) + place.token * p.out_token_stride + place.head * p.out_head_stride;
}

// Converts query . key to a score in units of log(2), for exp2.
struct Scoring {
  float scale;  // the factor for the product if there is no cap
  float cap;    // the soft cap in units of log(2); 0: none
  float share;  // scale / cap: the argument of tanh is share * product

  __device__ explicit Scoring(const PagedAttentionParams& p)
      : scale(p.scale * kLog2E),
        cap(p.soft_cap * kLog2E),
        share(p.soft_cap > 0.0f ? __fdividef(p.scale, p.soft_cap) : 0.0f) {}

  __device__ float operator()(float product) const {
    return cap > 0.0f ? cap * tanh_of(product) : product * scale;
  }

  // tanh(share * product): a capped score in units of the cap.
  __device__ float tanh_of(float product) const {
    // tanh(x) = 1 - 2 / (exp(2x) + 1), which is correct at both infinities.
    return 1.0f - __fdividef(2.0f, exp2_fast(product * (2.0f * kLog2E * share)) + 1.0f);
  }
};

// tanh(share * product) near zero, without exponential and reciprocal, which cost as much as 8
// multiplications each: the minimax odd polynomial on [-0.75, 0.75], with a relative error of at
// most 1.2e-5. The powers of share are folded into its coefficients.
struct TanhOfSmall {
  float greatest;  // the largest |product| that this is for; 0 if powers of share would underflow
  float first, third, fifth, seventh;

  __device__ explicit TanhOfSmall(float share)
      : greatest(fabsf(share) > 1e-5f ? __fdividef(0.75f, fabsf(share)) : 0.0f),
        first(0.999988973f * share),
        third(-0.332696706f * share * share * share),
        fifth(0.127426967f * share * share * share * share * share),
        seventh(-0.035452783f * share * share * share * share * share * share * share) {}

  __device__ float operator()(float product) const {
    const float square = product * product;
    return product * (((seventh * square + fifth) * square + third) * square + first);
  }
};

// The threads that process an item together: here, a CTA.
struct BlockTeam {
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int size() { return static_cast<int>(blockDim.x); }
  __device__ static void wait() { __syncthreads(); }
  __device__ static bool any(bool value) { return __syncthreads_or(value) != 0; }  // and waits
};

// Whether this team is the last of `count` teams to have written its partial result: the one that
// adds them up. `slot`: the index of their counter. All threads call it, after they have written
// the partial result.
template <typename Team = BlockTeam>
__device__ bool is_last(const AttentionLaunchParams& p, int slot, int count,
                        const Team& team = Team()) {
  int* arrivals = p.arrivals + slot;
  team.wait();
  bool last = false;
  if (team.thread() == 0) {
    // Acquire and release: the last CTA sees what the others wrote before they arrived.
    int before;
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(arrivals)
                 : "memory");
    last = before == count - 1;
    if (last) *arrivals = 0;  // for the next launch
  }
  return team.any(last);
}

// The slot that stands for the output, in write_quad and add_up: the result is final, not partial.
constexpr int kFinal = -1;

// Merges into four elements of a decode row the partial results for the keys that its sequence
// shares with others. Prefill items of an earlier launch have computed them.
__device__ inline void add_shared(const AttentionLaunchParams& p, const AttentionItem& item,
                                  int row, int quad, int head_size, float4& values, float& greatest,
                                  float& sum) {
  const int at = item.shared_row + item.row + row;
  const int tile = at / kPrefillRows * static_cast<int>(p.attention.kv_heads) + item.kv_head;
  const int group = tile * kRowGroups + at % kPrefillRows / kDecodeRows;
  const int first = item.shared_slot + group * item.shared_splits;
  for (int split = 0; split < item.shared_splits; ++split) {
    const i64 from = static_cast<i64>(first + split) * kDecodeRows + at % kDecodeRows;
    const float2 weight = __ldcg(reinterpret_cast<const float2*>(p.weights) + from);
    const float4 part =
        __ldcg(reinterpret_cast<const float4*>(p.partials) + from * (head_size / 4) + quad);
    const float now = fmaxf(greatest, weight.x);
    const float mine = exp2f(greatest - now), theirs = exp2f(weight.x - now);
    values.x = values.x * mine + part.x * theirs, values.y = values.y * mine + part.y * theirs;
    values.z = values.z * mine + part.z * theirs, values.w = values.w * mine + part.w * theirs;
    sum = sum * mine + weight.y * theirs;
    greatest = now;
  }
}

// Writes four adjacent elements of a row, not yet divided by its sum of weights: as a partial
// result to `slot`, or, if that is kFinal, as the final result.
template <typename T>
__device__ void write_quad(const AttentionLaunchParams& p, const AttentionItem& item, int slot,
                           int row, int quad, int head_size, float4 values, float greatest,
                           float sum) {
  if (slot == kFinal) {
    add_shared(p, item, row, quad, head_size, values, greatest, sum);
    T* out = out_row<T>(p.attention, place_row(p.attention, item, item.kv_head, item.row + row)) +
             4 * quad;
    const float scale = 1.0f / sum;
    out[0] = from_float<T>(values.x * scale);
    out[1] = from_float<T>(values.y * scale);
    out[2] = from_float<T>(values.z * scale);
    out[3] = from_float<T>(values.w * scale);
    return;
  }
  const i64 at = static_cast<i64>(slot) * kDecodeRows + row;
  reinterpret_cast<float4*>(p.partials)[at * (head_size / 4) + quad] = values;
  if (quad == 0) reinterpret_cast<float2*>(p.weights)[at] = make_float2(greatest, sum);
}

// Adds up the partial results of `count` slots from `first` on, in order; loads kBatch at a time.
template <typename T, int kBatch = 16, typename Team = BlockTeam>
__device__ void add_up(const AttentionLaunchParams& p, const AttentionItem& item, int first,
                       int count, int to, int head_size, const Team& team = Team()) {
  const int quads = head_size / 4;
  for (int index = team.thread(); index < item.rows * quads; index += team.size()) {
    const int row = index / quads, quad = index % quads;
    const float2* weights = reinterpret_cast<const float2*>(p.weights) + first * kDecodeRows + row;
    const float4* partials = reinterpret_cast<const float4*>(p.partials) +
                             (static_cast<i64>(first) * kDecodeRows + row) * quads + quad;
    float greatest = lowest_score(), sum = 0.0f;
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int begin = 0; begin < count; begin += kBatch) {
      float2 weight[kBatch];
      float4 partial[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (begin + i < count) {  // from L2: other CTAs wrote them
          weight[i] = __ldcg(weights + (begin + i) * kDecodeRows);
          partial[i] = __ldcg(partials + static_cast<i64>(begin + i) * kDecodeRows * quads);
        } else {
          weight[i] = make_float2(lowest_score(), 0.0f);
          partial[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
      }
      float now = greatest;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) now = fmaxf(now, weight[i].x);
      if (now == lowest_score()) continue;  // no split so far has a key that the row attends to
      const float before = exp2f(greatest - now);
      greatest = now;
      sum *= before;
      total.x *= before, total.y *= before, total.z *= before, total.w *= before;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float factor = exp2f(weight[i].x - now);
        sum += weight[i].y * factor;
        total.x += partial[i].x * factor, total.y += partial[i].y * factor;
        total.z += partial[i].z * factor, total.w += partial[i].w * factor;
      }
    }
    write_quad<T>(p, item, to, row, quad, head_size, total, greatest, sum);
  }
}

// Rows 8 g to 8 g + 8 of a prefill item, for one KV head, as a decode item. If the item is split,
// the partial results of these rows are in consecutive slots, as those of a decode item are.
__device__ inline AttentionItem row_group(const AttentionItem& item, int kv_head, int g) {
  AttentionItem part = item;
  part.kv_head = kv_head;
  part.row += kDecodeRows * g;
  part.rows = min(kDecodeRows, item.rows - kDecodeRows * g);
  part.first_slot += (kv_head * kRowGroups + g) * item.splits;
  return part;
}

// The slot of an item's result.
__device__ inline int slot_of(const AttentionItem& item) {
  return item.splits == 1 ? kFinal : item.first_slot + item.split;
}

// Adds up the results of an item's splits; the last CTA to finish one does it. If there are many
// splits, one CTA would read them too slowly: then the last CTA of each group of splits adds up the
// group, into a slot after theirs, and the last group's CTA adds up the groups. All threads call
// it, after they have written the split's result.
template <typename T, int kBatch = 16>
__device__ void merge_splits(const AttentionLaunchParams& p, const AttentionItem& item,
                             int head_size) {
  int first = item.first_slot, count = item.splits, to = kFinal;
  const int groups_first = first + count;
  if (count > kMergedAtOnce) {
    const int group = item.split / kMergeGroup;
    first += group * kMergeGroup;
    count = min(kMergeGroup, groups_first - first);
    to = groups_first + group;
  }
  while (is_last(p, first, count)) {
    add_up<T, kBatch>(p, item, first, count, to, head_size);
    if (to == kFinal) return;
    first = groups_first;
    count = merge_groups(item.splits);
    to = kFinal;
  }
}

}  // namespace vllm
