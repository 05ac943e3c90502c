// Decode attention of few sequences, for short latency. It is fused with the operations before it:
// the norms and the rotation of query and key, and the write to the cache. With PDL it reads keys
// and values of older tokens while the projections of the newest token still run. An item has one
// query token, and all CTAs (thread blocks) of a cluster share it.
//
// The warps of the cluster divide an item's chunks of 16 keys round-robin; each warp has its own
// stage in shared memory. Scores are transposed as in attention_decode.cu. At the end, the first
// CTA's warps write their results over their stages, and the other CTAs' warps send theirs to the
// first CTA's shared memory, by asynchronous stores that an mbarrier counts (st.async). All threads
// of the first CTA merge them.
#include "kernels/attention/attention_item.cuh"
#include "kernels/attention/newest_chunks.cuh"
#include "kernels/attention/newest_heads.cuh"
#include "kernels/attention/newest_results.cuh"
#include "kernels/common/cluster.cuh"
#include "kernels/common/early_launch.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// Out of line: it is rare here, and needs registers.
template <typename T, int kHead>
__device__ __noinline__ void merge(const AttentionLaunchParams& p, const AttentionItem& item) {
  merge_splits<T, 4>(p, item, kHead);
}

template <typename T, int kHead>
class NewestAttention {
  static constexpr int kWarps = kNewestWarps;
  static constexpr int kTiles = kHead / 16;
  using Rows = SharedRows<kHead>;
  using Copies = ChunkCopies<T, kHead>;

  const AttentionLaunchParams& p;
  const Cluster& cluster;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned query_rows;
  const Copies copies;
  NewestHeads<T, kHead> newest;
  NewestResults<T, kHead> results;
  float greatest[2], sum[2];  // of rows 2 * (lane % 4) and the next; a lane's part of the sum
  float out[kTiles][4];

  static constexpr int kQueryAt = kWarps * 2 * Copies::kBytes;
  static constexpr int kResultsAt = kQueryAt + (kDecodeRows + 2) * Rows::kPitch;

 public:
  __device__ NewestAttention(const RotatingAttentionParams& params, const Cluster& all,
                             unsigned char* shared)
      : p(params.launch),
        cluster(all),
        query_rows(shared_address(shared) + kQueryAt),
        copies(p.attention, shared_address(shared) + warp * 2 * Copies::kBytes),
        newest(params.rotary, query_rows),
        results(all, shared, shared + kResultsAt) {}

  __device__ void run(int group) {
    const int ranks = static_cast<int>(cluster.size), rank = static_cast<int>(cluster.rank);
    const int bits = 31 - __clz(ranks);  // ranks = 2^bits
    const int list = static_cast<int>(blockIdx.x) >> bits, step = kWarps * ranks;
    cluster.announce();
    for (int index = list, is_first = 1; index >= 0; is_first = 0) {
      const AttentionItem item = read_item(p.items, index);
      index = item.next;
      // CTAs without work exit at once, except those of list 0: one CTA must wait for earlier
      // kernels, so that the end of this kernel implies the end of those.
      if (item.rows == 0 && list > 0) return;
      const int first_chunk = item.begin / kChunk;
      const int count = (item.end + kChunk - 1) / kChunk - first_chunk;  // of chunks
      const int last_chunk = first_chunk + count - 1;
      const bool has_newest = item.end == item.position + 1 && ((count - 1) & (ranks - 1)) == rank;
      const int old_end = min(item.end, item.position);
      const int first_head = item.kv_head * group + item.row;
      int chunk = first_chunk + rank + (warp << bits);
      if (!is_first) __syncthreads();  // the results in the stages have been read
      if (chunk <= last_chunk) copies.start(item, chunk, item.begin, old_end);
      if (chunk + step <= last_chunk) copies.look_ahead(item, chunk + step);
      newest.read_early(item, first_head, has_newest);
      cluster.wait();  // the first CTA can receive
      if (is_first) wait_for_kernels_before();
      newest.transform(item, first_head, has_newest);
      __syncthreads();
      const int used = min(step, count);  // warps of the cluster that have a result
      const bool has_result = chunk <= last_chunk;
#pragma unroll 1
      for (bool is_first_chunk = true; chunk <= last_chunk; chunk += step) {
        attend(item, chunk, is_first_chunk, has_newest && chunk == last_chunk, old_end,
               chunk + step <= last_chunk ? chunk + step : -1);
        is_first_chunk = false;
      }
      if (has_result) results.deliver(item.rows, greatest, sum, out);
      results.wait_for(item.rows, used);
      if (rank == 0) results.add_up(p, item, group, used);
      if (index >= 0) cluster.arrive();
      if (rank == 0 && item.splits > 1) merge<T, kHead>(p, item);
    }
  }

 private:
  // Processes the chunk in this warp's stage, then starts to copy chunk `next` into it (-1: none).
  __device__ void attend(const AttentionItem& item, int chunk, bool is_first, bool has_newest,
                         int old_end, int next) {
    copies_wait<1>();  // the keys
    __syncwarp();
    if (has_newest) {
      copies_wait<0>();
      __syncwarp();
      newest.put(copies.keys(), copies.values(), item.position % kChunk);
      __syncwarp();
    }
    const int query_row = min(lane % 8, item.rows - 1);  // rows that do not exist repeat the last
    float scores[4] = {0.0f, 0.0f, 0.0f, 0.0f}, odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    constexpr int kPart = kTiles < 8 ? kTiles : 8;  // fragments loaded before they are used
#pragma unroll
    for (int part = 0; part < kTiles; part += kPart) {
      unsigned query[kPart / 2][4], keys[kPart][4];
#pragma unroll
      for (int k = 0; k < kPart; ++k) {
        if (k % 2 == 0) {
          load_matrices(query[k / 2],
                        query_rows + Rows::offset(query_row, 2 * (part + k) + lane / 8));
        }
        load_matrices(keys[k], copies.keys() + Rows::offset(lane % 16, 2 * (part + k) + lane / 16));
      }
#pragma unroll
      for (int k = 0; k < kPart; k += 2) {
        multiply_add<T>(scores, keys[k], query[k / 2][0], query[k / 2][1]);
        multiply_add<T>(odd, keys[k + 1], query[k / 2][2], query[k / 2][3]);
      }
    }
    const Scoring scoring(p.attention);
    if (scoring.cap > 0.0f) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[i] = scoring(scores[i] + odd[i]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[i] = (scores[i] + odd[i]) * scoring.scale;
    }
    const int key = chunk * kChunk + lane / 4;
    const bool seen[2] = {key >= item.begin && key < item.end,
                          key + 8 >= item.begin && key + 8 < item.end};
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[i] = seen[i / 2] ? scores[i] : lowest_score();
    weigh(scores, is_first);
    const unsigned weights0 = transpose_matrix(from_floats<T>(scores[0], scores[1]));
    const unsigned weights1 = transpose_matrix(from_floats<T>(scores[2], scores[3]));
    copies_wait<0>();
    __syncwarp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      unsigned values[4];
      load_matrices_transposed(values, copies.values() + Rows::offset(lane % 8 + lane / 16 * 8,
                                                                      2 * tile + lane / 8 % 2));
      multiply_add<T>(out[tile], values, weights0, weights1);
    }
    __syncwarp();  // all lanes have read the stage
    if (next >= 0) copies.start(item, next, item.begin, old_end);
  }

  // Avoids -infinity - -infinity if the row has seen no key yet.
  __device__ static float base_of(float most) { return most == lowest_score() ? 0.0f : most; }

  // Converts scores to weights, and rescales the results to the new maximum.
  __device__ void weigh(float (&scores)[4], bool is_first) {
    float now[2] = {fmaxf(scores[0], scores[2]), fmaxf(scores[1], scores[3])};
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) {
      now[0] = fmaxf(now[0], __shfl_xor_sync(kFullWarp, now[0], distance));
      now[1] = fmaxf(now[1], __shfl_xor_sync(kFullWarp, now[1], distance));
    }
    if (is_first) {
      sum[0] = sum[1] = 0.0f;
#pragma unroll
      for (auto& tile : out) tile[0] = tile[1] = tile[2] = tile[3] = 0.0f;
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        now[i] = fmaxf(now[i], greatest[i]);
        const float before = exp2_fast(greatest[i] - base_of(now[i]));
        sum[i] *= before;
#pragma unroll
        for (auto& tile : out) {
          tile[i] *= before;
          tile[i + 2] *= before;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      greatest[i] = now[i];
      scores[i] = exp2_fast(scores[i] - base_of(now[i]));
      scores[i + 2] = exp2_fast(scores[i + 2] - base_of(now[i]));
      sum[i] += scores[i] + scores[i + 2];
    }
  }
};

#endif  // __CUDA_ARCH__ >= 800

template <typename T, int kHead>
__device__ void attend_newest(const RotatingAttentionParams& p) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(128) unsigned char shared[];
  allow_kernels_after();  // at once: the next kernel (few_rows) prefetches its weights meanwhile
  const Cluster cluster;
  NewestAttention<T, kHead>(p, cluster, shared).run(p.group);
#endif
}

}  // namespace vllm

#define VLLM_ATTEND_NEWEST(name, T, head)                                                      \
  extern "C" __global__ void __launch_bounds__(32 * vllm::kNewestWarps, 2)                     \
      attend_newest_##name##_##head(__grid_constant__ const vllm::RotatingAttentionParams p) { \
    vllm::attend_newest<T, head>(p);                                                           \
  }
#define VLLM_ATTEND_NEWEST_HEADS(name, T) \
  VLLM_ATTEND_NEWEST(name, T, 64)         \
  VLLM_ATTEND_NEWEST(name, T, 128)        \
  VLLM_ATTEND_NEWEST(name, T, 256)

VLLM_ATTEND_NEWEST_HEADS(f16, vllm::Half)
VLLM_ATTEND_NEWEST_HEADS(bf16, vllm::BFloat16)
