// Merges the partial results of a prefill item that is split over keys, by all of its CTAs (thread
// blocks) together: each merges an equal part of the rows.
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

// Waits until all CTAs of the item have written their partial results. So all of them must get a
// multiprocessor: the grid has at most one CTA for each, work that has one ends without this
// kernel, and kernels that depend on this one are launched after all of its CTAs. In a green
// context with fewer multiprocessors, it would wait forever.
__device__ inline void wait_for_splits(const AttentionLaunchParams& p, const AttentionItem& item,
                                       int slot) {
  Consumers::wait();
  if (Consumers::thread() == 0) {
    int* arrivals = p.arrivals + slot;
    int count;
    // Acquire and release: this CTA sees what the others wrote before they arrived.
    asm volatile("atom.add.acq_rel.gpu.global.s32 %0, [%1], 1;"
                 : "=r"(count)
                 : "l"(arrivals)
                 : "memory");
    for (++count; count < item.splits;) {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(count) : "l"(arrivals) : "memory");
    }
    // The last CTA to leave resets the counter for the next launch.
    if (atomicAdd(arrivals, 1) == 2 * item.splits - 1) *arrivals = 0;
  }
  Consumers::wait();
}

// Four adjacent elements of a row from all splits: their sum, not yet divided by the weights'.
struct MergedQuad {
  float greatest = lowest_score(), sum = 0.0f;
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

  template <int kSplits>
  __device__ __forceinline__ void add(const float2 (&weights)[kSplits],
                                      const float4 (&partials)[kSplits]) {
    float now = greatest;
#pragma unroll
    for (int i = 0; i < kSplits; ++i) now = fmaxf(now, weights[i].x);
    if (now == lowest_score()) return;  // no split so far has a key that the row attends to
    const float before = exp2f(greatest - now);
    greatest = now;
    sum *= before;
    total.x *= before, total.y *= before, total.z *= before, total.w *= before;
#pragma unroll
    for (int i = 0; i < kSplits; ++i) {
      const float factor = exp2f(weights[i].x - now);
      sum += weights[i].y * factor;
      total.x += partials[i].x * factor, total.y += partials[i].y * factor;
      total.z += partials[i].z * factor, total.w += partials[i].w * factor;
    }
  }
};

// Merges this CTA's part of the rows, and writes it to the output. A thread merges kQuads times
// four elements at once, and loads kSplits partial results of each at once.
template <typename T, int kHead, int kQuads, int kSplits>
__device__ __forceinline__ void merge_part(const AttentionLaunchParams& p,
                                           const AttentionItem& item, int first_slot) {
  constexpr int kRowQuads = kHead / 4;
  const int quads = item.rows * kRowQuads, step = Consumers::kThreads * item.splits;
  const int thread = Consumers::thread();
  // CTAs take turns with 32 adjacent quads, which a warp merges.
  const int first = (thread / 32 * item.splits + item.split) * 32 + thread % 32;
#pragma unroll 1
  for (int begin = first; begin < quads; begin += kQuads * step) {
    MergedQuad merged[kQuads];
#pragma unroll 1
    for (int split = 0; split < item.splits; split += kSplits) {
      float2 weights[kQuads][kSplits];
      float4 partials[kQuads][kSplits];
#pragma unroll
      for (int k = 0; k < kQuads; ++k) {
        const int at = begin + k * step, row = at / kRowQuads, quad = at % kRowQuads;
        const int slot = first_slot + row / kDecodeRows * item.splits + split;
        const i64 from = static_cast<i64>(slot) * kDecodeRows + row % kDecodeRows;
#pragma unroll
        for (int i = 0; i < kSplits; ++i) {
          if (at < quads && split + i < item.splits) {  // from L2: other CTAs wrote them
            const i64 of_split = from + i * kDecodeRows;
            weights[k][i] = __ldcg(reinterpret_cast<const float2*>(p.weights) + of_split);
            partials[k][i] =
                __ldcg(reinterpret_cast<const float4*>(p.partials) + of_split * kRowQuads + quad);
          } else {
            weights[k][i] = make_float2(lowest_score(), 0.0f);
            partials[k][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kQuads; ++k) merged[k].add(weights[k], partials[k]);
    }
#pragma unroll
    for (int k = 0; k < kQuads; ++k) {
      const int at = begin + k * step;
      if (at >= quads) break;
      const RowPlace place = place_row(p.attention, item, item.kv_head, item.row + at / kRowQuads);
      const float scale = __fdividef(1.0f, merged[k].sum);
      const float4& total = merged[k].total;
      *reinterpret_cast<uint2*>(out_row<T>(p.attention, place) + at % kRowQuads * 4) =
          make_uint2(from_floats<T>(total.x * scale, total.y * scale),
                     from_floats<T>(total.z * scale, total.w * scale));
    }
  }
}

// Called by all consumers of an item's CTAs, after they have written their partial results.
template <typename T, int kHead>
__device__ __forceinline__ void merge_together(const AttentionLaunchParams& p,
                                               const AttentionItem& item) {
  const int first_slot = row_group(item, item.kv_head, 0).first_slot;
  wait_for_splits(p, item, first_slot);
  // 16 loads at once, which is as fast as one.
  if (item.splits <= 4) {
    merge_part<T, kHead, 4, 4>(p, item, first_slot);
  } else if (item.splits <= 8) {
    merge_part<T, kHead, 2, 8>(p, item, first_slot);
  } else {
    merge_part<T, kHead, 1, 16>(p, item, first_slot);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace vllm
