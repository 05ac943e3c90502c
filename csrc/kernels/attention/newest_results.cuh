// How attention_newest.cu merges the results of the warps of a cluster.
#pragma once

#include "kernels/attention/attention_item.cuh"
#include "kernels/common/cluster.cuh"
#include "kernels/common/mbarrier.cuh"
#include "kernels/common/tensor_core.cuh"

namespace vllm {

#if __CUDA_ARCH__ >= 800

// Sends results from the warps of a cluster to its first CTA: by st.async and an mbarrier, or with
// CUDA 11.8, which has no st.async, by plain stores and a cluster barrier.
class Delivery {
  const Cluster& cluster;
  const unsigned barrier;
  unsigned parity = 0;

 public:
  __device__ Delivery(const Cluster& all, unsigned at) : cluster(all), barrier(at) {
#if __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
    if (cluster.size > 1 && threadIdx.x == 0) {
      make_barrier(barrier, 1);
      publish_barriers();
    }
#endif
  }

  // Stores 16 bytes in the first CTA's shared memory, at the address that corresponds to `to`.
  __device__ void send(float4* to, const float4& x) const {
#if __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
    unsigned there, counter;
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(there) : "r"(shared_address(to)));
    asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(counter) : "r"(barrier));
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
        "[%5];" ::"r"(there),
        "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w), "r"(counter)
        : "memory");
#else
    *cluster.of(to, 0) = x;
#endif
  }

  // Makes the first CTA wait for `bytes` bytes from the others. All threads of the cluster call it,
  // after they have sent theirs.
  __device__ void complete(int bytes) {
    if (cluster.size == 1) return;
#if __CUDA_ARCH__ >= 900 && __CUDACC_VER_MAJOR__ >= 12
    if (cluster.rank > 0 || bytes == 0) return;
    if (threadIdx.x == 0) arrive_and_expect(barrier, bytes);
    vllm::wait(barrier, parity);
    parity ^= 1;
#else
    cluster.sync();
#endif
  }
};

// The results of all warps of a cluster, in the first CTA's shared memory: its own warps' results
// overwrite their stages, the others' come after all stages.
template <typename T, int kHead>
class NewestResults {
  static constexpr int kWarps = kNewestWarps, kTiles = kHead / 16;
  static constexpr int kStageBytes = 2 * kChunk * SharedRows<kHead>::kPitch;
  static constexpr int kWeightsAt = 0, kBarrierAt = kWarps * 4 * 16, kReceivedAt = kBarrierAt + 16;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rank, ranks, bits;  // ranks = 2^bits
  unsigned char* const stages;
  unsigned char* const after_stages;
  Delivery delivery;

 public:
  // of_stages: the stages of all warps. rest: shared memory for the weights, an mbarrier, and what
  // other CTAs send.
  __device__ NewestResults(const Cluster& cluster, unsigned char* of_stages, unsigned char* rest)
      : rank(static_cast<int>(cluster.rank)),
        ranks(static_cast<int>(cluster.size)),
        bits(31 - __clz(ranks)),
        stages(of_stages),
        after_stages(rest),
        delivery(cluster, shared_address(rest) + kBarrierAt) {}

  // Stores or sends this warp's result for `rows` rows. A lane has rows 2 * (lane % 4) and the
  // next: the greatest scores, its part of the sums of the weights, and for each tile the sums of
  // the values.
  __device__ void deliver(int rows, const float (&greatest)[2], const float (&sum)[2],
                          const float (&out)[kTiles][4]) const {
    float both[2] = {sum[0], sum[1]};
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) {
      both[0] += __shfl_xor_sync(kFullWarp, both[0], distance);
      both[1] += __shfl_xor_sync(kFullWarp, both[1], distance);
    }
    const int pair = lane % 4, pairs = (rows + 1) / 2;
    if (pair >= pairs) return;
    const float4 weight = make_float4(greatest[0], both[0], greatest[1], both[1]);
    const int at = pair * kTiles * 8 + lane / 4;
    if (rank == 0) {
      if (lane < 4) weights()[warp * 4 + pair] = weight;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        results(warp)[at + 8 * tile] =
            make_float4(out[tile][0], out[tile][1], out[tile][2], out[tile][3]);
      }
    } else {
      float4* to = received(warp, rank, pairs);
      if (lane < 4) delivery.send(to + pairs * kTiles * 8 + pair, weight);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        delivery.send(to + at + 8 * tile,
                      make_float4(out[tile][0], out[tile][1], out[tile][2], out[tile][3]));
      }
    }
  }

  // Waits until the results of `used` warps of the cluster have arrived. All threads call it.
  __device__ void wait_for(int rows, int used) {
    __syncthreads();
    const int own = (used + ranks - 1) >> bits;  // of the first CTA
    delivery.complete((used - own) * newest_result_bytes(kHead, rows));
  }

  // Merges the results of `used` warps, and writes them. Four lanes share a fragment and divide the
  // warps round-robin; each then writes one element. group: query heads of a KV head.
  __device__ void add_up(const AttentionLaunchParams& p, const AttentionItem& item, int group,
                         int used) const {
    const int part = lane / 8, column = lane % 8, pairs = (item.rows + 1) / 2;
#pragma unroll 1
    for (int at = warp; at < pairs * kTiles; at += kWarps) {
      const int pair = at / kTiles, tile = at % kTiles, fragment = at * 8 + column;
      Total total{{lowest_score(), lowest_score()}, {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll 2
      for (int from = part; from < used; from += 4) {
        const float4 weight = weight_of(from, pair, pairs);
        total.most[0] = fmaxf(total.most[0], weight.x);
        total.most[1] = fmaxf(total.most[1], weight.z);
      }
#pragma unroll
      for (int distance = 8; distance < 32; distance *= 2) {
        total.most[0] = fmaxf(total.most[0], __shfl_xor_sync(kFullWarp, total.most[0], distance));
        total.most[1] = fmaxf(total.most[1], __shfl_xor_sync(kFullWarp, total.most[1], distance));
      }
#pragma unroll 2
      for (int from = part; from < used; from += 4) {
        const int of_rank = from & (ranks - 1), of_warp = from >> bits;
        const float4* fragments =
            of_rank == 0 ? results(of_warp) : received(of_warp, of_rank, pairs);
        total.add(weight_of(from, pair, pairs), fragments[fragment]);
      }
#pragma unroll
      for (int distance = 8; distance < 32; distance *= 2) {
#pragma unroll
        for (float& each : total.of) each += __shfl_xor_sync(kFullWarp, each, distance);
      }
      const bool odd = part % 2 != 0;
      const int row = 2 * pair + (odd ? 1 : 0), to = tile * 16 + part / 2 * 8 + column;
      if (row >= item.rows) continue;
      const float even = part == 0 ? total.of[0] : total.of[2];
      const float value = odd ? (part == 1 ? total.of[1] : total.of[3]) : even;
      const float all = odd ? total.of[5] : total.of[4];
      if (item.splits == 1) {
        T* head = static_cast<T*>(p.attention.out) + item.token * p.attention.out_token_stride +
                  (item.kv_head * group + item.row + row) * p.attention.out_head_stride;
        head[to] = from_float<T>(__fdividef(value, all));
      } else {
        const i64 slot = static_cast<i64>(item.first_slot + item.split) * kDecodeRows + row;
        p.partials[slot * kHead + to] = value;
        if (to == 0) {
          reinterpret_cast<float2*>(p.weights)[slot] =
              make_float2(odd ? total.most[1] : total.most[0], all);
        }
      }
    }
  }

 private:
  // In the stage of a warp of the first CTA: for each pair of rows and each tile of columns, the
  // fragments of 8 lanes.
  __device__ float4* results(int of_warp) const {
    return reinterpret_cast<float4*>(stages + of_warp * kStageBytes);
  }
  // [warp][pair of rows]: greatest score and sum of the first, and of the second.
  __device__ float4* weights() const {
    return reinterpret_cast<float4*>(after_stages + kWeightsAt);
  }
  // What a warp of another CTA has sent: the fragments of `pairs` as above, then their weights.
  __device__ float4* received(int of_warp, int of_rank, int pairs) const {
    const int at = of_warp * (ranks - 1) + of_rank - 1;
    return reinterpret_cast<float4*>(after_stages + kReceivedAt) + at * pairs * (kTiles * 8 + 1);
  }

  // Merged results of two rows: four elements as in a fragment, and the sums of weights.
  struct Total {
    float most[2], of[6];

    __device__ void add(const float4& weight, const float4& fragment) {
      const float factor[2] = {exp2_fast(weight.x - most[0]), exp2_fast(weight.z - most[1])};
      of[0] += fragment.x * factor[0], of[1] += fragment.y * factor[1];
      of[2] += fragment.z * factor[0], of[3] += fragment.w * factor[1];
      of[4] += weight.y * factor[0], of[5] += weight.w * factor[1];
    }
  };

  // The weights of two rows of a warp. turn: its index in the round-robin order of the cluster.
  __device__ float4 weight_of(int turn, int pair, int pairs) const {
    const int of_rank = turn & (ranks - 1), of_warp = turn >> bits;
    return of_rank == 0 ? weights()[of_warp * 4 + pair]
                        : received(of_warp, of_rank, pairs)[pairs * kTiles * 8 + pair];
  }
};

#endif  // __CUDA_ARCH__ >= 800

}  // namespace vllm
