// Merges the partial results of a prefill item that is split over keys, by all of its CTAs (thread
// blocks) together: each merges an equal part of the rows, its share.
#pragma once

#include "kernels/attention/attention_item.cuh"

namespace vllm {

#if __CUDA_ARCH_FEAT_SM90_ALL

// The threads of both consumer warpgroups, which synchronise at a named barrier.
struct Consumers {
  static constexpr int kThreads = 256;
  __device__ static int thread() { return static_cast<int>(threadIdx.x) - 128; }
  __device__ static void wait() { asm volatile("bar.sync 1, 256;" ::: "memory"); }
};

// How the CTAs of an item meet. One word in global memory has, in its lower half, the number of
// CTAs that have written their partial results, and in its upper half a bit for each CTA that
// waited for the others in vain and left its share to the last one. So a CTA never waits for one
// that gets no multiprocessor as long as this one has its own: with fewer multiprocessors than CTAs
// (a green context, other kernels at the same time) the result takes longer, and is the same.
class Meeting {
 public:
  // slot: the index of the item's counters, of which it uses two.
  __device__ Meeting(const AttentionLaunchParams& p, int slot, int split, int splits)
      : word_(reinterpret_cast<unsigned long long*>(p.arrivals + slot)),
        split_(split),
        splits_(splits) {}

  // The shares that this CTA has to merge, a bit for each split. Called by one thread.
  __device__ unsigned arrive() const {
    constexpr int kPolls = 64;  // of about 0.7 microseconds (H200)
    // Acquire and release: this CTA sees what the others wrote before they arrived.
    unsigned long long now;
    asm volatile("atom.add.acq_rel.gpu.global.u64 %0, [%1], 1;"
                 : "=l"(now)
                 : "l"(word_)
                 : "memory");
    unsigned shares = 1u << split_;
    if (arrived(++now) == splits_) {
      shares |= left(now);
    } else {
      for (int polls = 0; arrived(now) < splits_;) {
        if (polls++ < kPolls) {
          asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(now) : "l"(word_) : "memory");
        } else if (leave(now)) {
          return 0;
        }
      }
    }
    depart(left(now));
    return shares;
  }

 private:
  __device__ static int arrived(unsigned long long word) {
    return static_cast<int>(word & 0xffffffff);
  }
  __device__ static unsigned left(unsigned long long word) {
    return static_cast<unsigned>(word >> 32);
  }

  // Leaves, unless the word changed; then `now` is what it is.
  __device__ bool leave(unsigned long long& now) const {
    const unsigned long long before = now, after = now | 1ull << (32 + split_);
    asm volatile("atom.cas.acq_rel.gpu.global.b64 %0, [%1], %2, %3;"
                 : "=l"(now)
                 : "l"(word_), "l"(before), "l"(after)
                 : "memory");
    return now == before;
  }

  // The last CTA that did not leave resets the word, for the next launch. It may do so before the
  // merge, because nobody reads it any more.
  __device__ void depart(unsigned gone) const {
    const unsigned long long before = atomicAdd(word_, 1ull);
    if (arrived(before) + 1 == 2 * splits_ - __popc(gone)) *word_ = 0;
  }

  unsigned long long* word_;
  const int split_, splits_;
};

// Where the CTAs of an item leave their partial results, in the item's slots: for each split, what
// the lanes of each consumer warp hold of a block of 8 columns, two elements of two rows (see
// WgmmaSoftmax), then for each quad of lanes the weights of its rows. Each access is of 16 bytes,
// and of a warp's 512 adjacent ones.
template <int kHead>
class Fragments {
  static constexpr int kBlocks = kHead / 8;  // of columns

 public:
  static constexpr int kWarps = 8;
  static constexpr int kAll = kWarps * kBlocks * 32;  // of a split

  // slot: the item's first one of this KV head.
  __device__ Fragments(const AttentionLaunchParams& p, int slot)
      : values_(reinterpret_cast<float4*>(p.partials) +
                static_cast<i64>(slot) * (kDecodeRows * kHead / 4)),
        weights_(reinterpret_cast<float4*>(p.weights) +
                 static_cast<i64>(slot) * (kDecodeRows / 2)) {}

  // Fragment `index` of kAll: ((warp * kBlocks) + block) * 32 + lane.
  __device__ float4* values(int split, int index) const { return values_ + split * kAll + index; }
  // The greatest scores and sums of the weights of its two rows.
  __device__ float4* weights(int split, int index) const {
    return weights_ + (split * kWarps + warp_of(index)) * 8 + index % 32 / 4;
  }

  __device__ static int index_of(int warp, int block, int lane) {
    return (warp * kBlocks + block) * 32 + lane;
  }
  __device__ static int warp_of(int index) { return index / (32 * kBlocks); }
  __device__ static int first_row_of(int index) { return 16 * warp_of(index) + index % 32 / 4; }
  __device__ static int column_of(int index) { return index / 32 % kBlocks * 8 + index % 4 * 2; }

 private:
  float4* values_;
  float4* weights_;
};

// A fragment summed over splits: of two rows, two elements each, not yet divided by the sums of
// their weights.
struct MergedFragment {
  float greatest[2] = {lowest_score(), lowest_score()}, sum[2] = {0.0f, 0.0f};
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

  template <int kSplits>
  __device__ __forceinline__ void add(const float4 (&weights)[kSplits],
                                      const float4 (&values)[kSplits]) {
    float now[2] = {greatest[0], greatest[1]};
#pragma unroll
    for (int i = 0; i < kSplits; ++i) {
      now[0] = fmaxf(now[0], weights[i].x);
      now[1] = fmaxf(now[1], weights[i].z);
    }
    // Avoids -infinity - -infinity if no split so far has a key that the row attends to.
    const float from[2] = {now[0] == lowest_score() ? 0.0f : now[0],
                           now[1] == lowest_score() ? 0.0f : now[1]};
    const float before[2] = {exp2f(greatest[0] - from[0]), exp2f(greatest[1] - from[1])};
    sum[0] *= before[0], sum[1] *= before[1];
    total.x *= before[0], total.y *= before[0], total.z *= before[1], total.w *= before[1];
#pragma unroll
    for (int i = 0; i < kSplits; ++i) {
      const float first = exp2f(weights[i].x - from[0]), second = exp2f(weights[i].z - from[1]);
      sum[0] += weights[i].y * first, sum[1] += weights[i].w * second;
      total.x += values[i].x * first, total.y += values[i].y * first;
      total.z += values[i].z * second, total.w += values[i].w * second;
    }
    greatest[0] = now[0], greatest[1] = now[1];
  }
};

// Merges a share of an item, and writes it to the output. A thread merges kAtOnce fragments at
// once, and loads those of kSplits splits at once.
template <typename T, int kHead, int kAtOnce, int kSplits>
__device__ __forceinline__ void merge_part(const PagedAttentionParams& p, const AttentionItem& item,
                                           const Fragments<kHead>& all, int share) {
  using Of = Fragments<kHead>;
  const int count = (item.rows + 15) / 16 * (Of::kAll / Of::kWarps);
  const int step = Consumers::kThreads * item.splits, thread = Consumers::thread();
  // Shares take turns with the 32 fragments of a warp.
  const int first = (thread / 32 * item.splits + share) * 32 + thread % 32;
#pragma unroll 1
  for (int begin = first; begin < count; begin += kAtOnce * step) {
    MergedFragment merged[kAtOnce];
#pragma unroll 1
    for (int split = 0; split < item.splits; split += kSplits) {
      float4 weights[kAtOnce][kSplits], values[kAtOnce][kSplits];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kSplits; ++i) {
          weights[k][i] = make_float4(lowest_score(), 0.0f, lowest_score(), 0.0f);
          values[k][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
          const int index = begin + k * step;
          if (index < count && split + i < item.splits) {  // from L2: other CTAs wrote them
            weights[k][i] = __ldcg(all.weights(split + i, index));
            values[k][i] = __ldcg(all.values(split + i, index));
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) merged[k].add(weights[k], values[k]);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int index = begin + k * step;
      if (index >= count) break;
      const float4& total = merged[k].total;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = Of::first_row_of(index) + 8 * i;
        if (row >= item.rows) break;
        const RowPlace place = place_row(p, item, item.kv_head, item.row + row);
        const float scale = __fdividef(1.0f, merged[k].sum[i]);
        *reinterpret_cast<unsigned*>(out_row<T>(p, place) + Of::column_of(index)) =
            i == 0 ? from_floats<T>(total.x * scale, total.y * scale)
                   : from_floats<T>(total.z * scale, total.w * scale);
      }
    }
  }
}

// Called by all consumers of an item's CTAs, after they have written their partial results. shared:
// room for a word in shared memory.
template <typename T, int kHead>
__device__ __forceinline__ void merge_together(const AttentionLaunchParams& p,
                                               const AttentionItem& item, unsigned* shared) {
  const int slot = row_group(item, item.kv_head, 0).first_slot;
  const Fragments<kHead> all(p, slot);
  Consumers::wait();
  if (Consumers::thread() == 0) {
    *shared = Meeting(p, slot, item.split, item.splits).arrive();
  }
  Consumers::wait();
  for (unsigned shares = *shared; shares != 0; shares &= shares - 1) {
    const int share = __ffs(static_cast<int>(shares)) - 1;
    // 16 loads at once: it is their latency that takes time.
    if (item.splits <= 2) {
      merge_part<T, kHead, 4, 2>(p.attention, item, all, share);
    } else if (item.splits <= 4) {
      merge_part<T, kHead, 4, 4>(p.attention, item, all, share);
    } else if (item.splits <= 8) {
      merge_part<T, kHead, 2, 8>(p.attention, item, all, share);
    } else {
      merge_part<T, kHead, 1, 16>(p.attention, item, all, share);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
