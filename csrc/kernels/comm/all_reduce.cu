// All-reduce of a tensor over the ranks of one host, optionally fused with what follows it in a
// model: the addition to the residual stream and its norm.
//
// A CTA (thread block) processes a row; the same row is processed in every rank. One-shot: each
// rank sends its row to all others, and each adds up all rows. Two-shot: only the row's owner adds
// up, and sends the sum: two transfers in sequence, but fewer bytes with more than two ranks.
//
// Why no row is overwritten before it was read: each row is double-buffered. A rank sends row r for
// the third time only after it has received it for the second time. The other ranks have sent it a
// second time by then, so their first kernel, which read and emptied the buffer, has ended. Which
// of the two buffers is next is stored on the device, because a CUDA graph replays the same
// arguments.
//
// Why there is no deadlock: all ranks make the same calls, and the grid has no more CTAs than run
// at once, so every row that is waited for is sent by a CTA that runs, or that waits only for
// earlier kernels. If a rank has died, the host sets *stop.
#include "kernels/common/early_launch.cuh"
#include "kernels/common/float_types.cuh"
#include "kernels/common/peer_memory.cuh"
#include "kernels/common/reduce.cuh"
#include "params/comm.h"

namespace vllm {

template <typename T>
__device__ void add_words(float (&sum)[kVector<T>], const Words& words) {
  const auto& pack = reinterpret_cast<const Pack<T, kVector<T>>&>(words);
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) sum[i] += pack.get(i);
}

template <typename T>
__device__ Words rounded(const float (&values)[kVector<T>]) {
  Pack<T, kVector<T>> pack;
  pack.set(values);
  return reinterpret_cast<const Words&>(pack);
}

// kTwoShots: see above. kNorm: with the addition to the residual and its norm.
template <typename T, bool kTwoShots, bool kNorm>
struct AllReduce {
  static constexpr int N = kVector<T>;
  const AllReduceParams& params;
  const int ranks = params.layout.ranks;
  const unsigned packs = static_cast<unsigned>(params.width / N);

  __device__ unsigned* turn_of(i64 row) const {
    return reinterpret_cast<unsigned*>(params.memory[params.rank]) + row;
  }
  // The address of a row from rank `source` in the memory of rank `there`.
  __device__ char* place(int there, unsigned turn, int source, i64 row, unsigned pack) const {
    return params.memory[there] + params.layout.place(turn, source, row) + pack * i64{16};
  }
  __device__ Words input(i64 row, unsigned pack) const {
    const T* from = static_cast<const T*>(params.input) + row * params.input_stride;
    return reinterpret_cast<const Words*>(from)[pack];
  }
  __device__ int owner(i64 row) const {
    return static_cast<int>((row % gridDim.x + row / gridDim.x) % ranks);
  }

  // Calls `visit` with each pack of a row that this thread has.
  template <typename Visit>
  __device__ void for_packs(const Visit& visit) const {
#pragma unroll
    for (unsigned k = 0; k < kRowPacks; ++k) {
      const unsigned pack = threadIdx.x + k * blockDim.x;
      if (pack < packs) visit(k, pack);
    }
  }

  __device__ void send(i64 row) const {
    const unsigned turn = load_system_word(turn_of(row));
    Words words[kRowPacks];
    for_packs([&](unsigned k, unsigned pack) { words[k] = without_empty(input(row, pack)); });
#pragma unroll 1
    for (int next = 1; next < ranks; ++next) {  // each rank begins with a different one
      const int there = (params.rank + next) % ranks;
      if (kTwoShots && there != owner(row)) continue;
      for_packs([&](unsigned k, unsigned pack) {
        store_system(place(there, turn, params.rank, row, pack), words[k]);
      });
    }
  }

  // Waits for a row that rank `source` has sent, and empties its places.
  __device__ void receive(Words (&got)[kRowPacks], unsigned turn, int source, i64 row) const {
    unsigned missing = 0;
    for_packs([&](unsigned k, unsigned) { missing |= 1u << k; });
    for (unsigned polls = 1; missing != 0; ++polls) {
      for_packs([&](unsigned k, unsigned pack) {  // issues all loads before it uses one
        if (missing >> k & 1) got[k] = load_system(place(params.rank, turn, source, row, pack));
      });
      const bool gives_up = must_stop(polls, params.stop);
      for_packs([&](unsigned k, unsigned pack) {
        if ((missing >> k & 1) == 0 || !(is_whole(got[k]) || gives_up)) return;
        empty(place(params.rank, turn, source, row, pack));
        missing &= ~(1u << k);
      });
    }
  }

  // Waits for this row of all ranks; the rounded sum.
  __device__ void add_up(Words (&held)[kRowPacks], i64 row, unsigned turn) const {
    float sum[kRowPacks][N] = {};
#pragma unroll 1
    for (int source = 0; source < ranks; ++source) {
      if (source == params.rank) {
        for_packs([&](unsigned k, unsigned pack) { held[k] = input(row, pack); });
      } else {
        receive(held, turn, source, row);
      }
      for_packs([&](unsigned k, unsigned) { add_words<T>(sum[k], held[k]); });
    }
    for_packs([&](unsigned k, unsigned) { held[k] = rounded<T>(sum[k]); });
  }

  __device__ void finish(i64 row, unsigned& parity) const {
    const unsigned turn = load_system_word(turn_of(row));
    const bool sums = !kTwoShots || owner(row) == params.rank;
    T* out = static_cast<T*>(params.out) + row * params.out_stride;
    T* residual = static_cast<T*>(params.residual) + row * params.residual_stride;
    Words held[kRowPacks], old[kRowPacks], factors[kRowPacks];
    float squares = 0.0f;
    if constexpr (kNorm) {  // while the rows of other ranks are in flight
      for_packs([&](unsigned k, unsigned pack) {
        old[k] = reinterpret_cast<const Words*>(residual)[pack];
        factors[k] = static_cast<const Words*>(params.weight)[pack];
      });
    }
    if (sums) {
      add_up(held, row, turn);
#pragma unroll 1
      for (int there = 0; kTwoShots && there < ranks; ++there) {
        if (there == params.rank) continue;
        for_packs([&](unsigned k, unsigned pack) {
          store_system(place(there, turn, ranks, row, pack), without_empty(held[k]));
        });
      }
    } else {
      receive(held, turn, ranks, row);
    }
    for_packs([&](unsigned k, unsigned pack) {
      if constexpr (kNorm) {
        float values[N] = {};
        add_words<T>(values, held[k]);
        add_words<T>(values, old[k]);
        held[k] = rounded<T>(values);
        reinterpret_cast<Words*>(residual)[pack] = held[k];
        const auto& stored = reinterpret_cast<const Pack<T, N>&>(held[k]);
#pragma unroll
        for (int i = 0; i < N; ++i) squares += stored.get(i) * stored.get(i);
      } else {
        reinterpret_cast<Words*>(out)[pack] = held[k];
      }
    });
    if constexpr (kNorm) {
      const float sum = block_sum(squares, parity);
      const float scale = norm_scale(sum, static_cast<float>(params.width), params.epsilon);
      for_packs([&](unsigned k, unsigned pack) {
        const auto& stored = reinterpret_cast<const Pack<T, N>&>(held[k]);
        const auto& weight = reinterpret_cast<const Pack<T, N>&>(factors[k]);
        float values[N];
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = stored.get(i) * scale * weight.get(i);
        reinterpret_cast<Words*>(out)[pack] = rounded<T>(values);
      });
    } else {
      __syncthreads();
    }
    // All threads have read the turn: block_sum or __syncthreads has synchronised them.
    if (threadIdx.x == 0) *turn_of(row) = turn ^ 1;
    parity ^= 1;
  }

  __device__ void run() const {
    wait_for_kernels_before();
    const i64 step = gridDim.x;
#pragma unroll 1
    for (i64 row = blockIdx.x; row < params.rows; row += step) send(row);
    // Not at once: a product that prefetches its weights would delay the input (measured: a step of
    // one sequence of a 14B takes 4.43 instead of 4.21 ms).
    allow_kernels_after();
    unsigned parity = 0;
    // Own rows first: other ranks wait for them, and they depend only on `send` of other ranks.
#pragma unroll 1
    for (i64 row = blockIdx.x; row < params.rows; row += step) {
      if (!kTwoShots || owner(row) == params.rank) finish(row, parity);
    }
#pragma unroll 1
    for (i64 row = blockIdx.x; kTwoShots && row < params.rows; row += step) {
      if (owner(row) != params.rank) finish(row, parity);
    }
  }
};

}  // namespace vllm

#define VLLM_ALL_REDUCE_KERNEL(name, T, kTwoShots, kNorm)                  \
  extern "C" __global__ void __launch_bounds__(vllm::kMostBlockThreads, 1) \
      name(vllm::AllReduceParams p) {                                      \
    vllm::AllReduce<T, kTwoShots, kNorm>{p}.run();                         \
  }

#define VLLM_ALL_REDUCES(name, T)                                        \
  VLLM_ALL_REDUCE_KERNEL(all_reduce_##name, T, false, false)             \
  VLLM_ALL_REDUCE_KERNEL(all_reduce_##name##_two_shots, T, true, false)  \
  VLLM_ALL_REDUCE_KERNEL(all_reduce_add_rms_norm_##name, T, false, true) \
  VLLM_ALL_REDUCE_KERNEL(all_reduce_add_rms_norm_##name##_two_shots, T, true, true)

VLLM_ALL_REDUCES(f32, float)
VLLM_ALL_REDUCES(f16, vllm::Half)
VLLM_ALL_REDUCES(bf16, vllm::BFloat16)
