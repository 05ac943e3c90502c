// Shared by the two sampling kernels: a row of logits in token blocks of kSampleBlock tokens, each
// read by one warp, and the weight of a token.
#pragma once

#include "kernels/common/cluster.cuh"
#include "kernels/common/float_types.cuh"
#include "kernels/common/reduce.cuh"
#include "kernels/common/scan.cuh"
#include "params/sampling.h"

namespace vllm {

constexpr float kLargest = 0x1.fffffep127f;  // as a logit, +inf counts as this
constexpr unsigned kBlock = kSampleBlock;    // tokens
constexpr unsigned kHeld = kBlock / 32;      // of them in each lane

// 0 means greedy; 1 / temperature is never 0.
__device__ inline float inverse_temperature(const SampleParams& p, i64 row) {
  const float temperature = p.temperatures == nullptr ? 0.0f : p.temperatures[row];
  return temperature > 0.0f ? fminf(1.0f / temperature, kLargest) : 0.0f;
}

__device__ inline bool truncates_by_count(const SampleParams& p, i64 row) {
  return p.top_k != nullptr && p.top_k[row] > 0 && p.top_k[row] < p.vocab;
}

// exp(-z); 0 for NaN, 1 for an infinitely likely token.
__device__ inline float weight(float z) { return __saturatef(__expf(-z)); }

// A sum of weights as a whole number of 2^-32: such sums do not depend on their order.
__device__ inline u64 fixed(float mass) { return static_cast<u64>(mass * 0x1p32f); }

// Loads this lane's tokens of some token blocks, with all loads in flight together: kHeld / N times
// N adjacent tokens. With N = kHeld all of the lane's tokens are adjacent; with N of 16 bytes the
// warp's loads are coalesced. Tokens past the end of the row are -inf.
template <int N, int kBlocks, typename T>
__device__ void load_blocks(const T* logits, unsigned vocab, bool packs,
                            const unsigned (&blocks)[kBlocks], float (&x)[kBlocks][kHeld]) {
  constexpr unsigned kPack = kVector<T> < N ? kVector<T> : N;
  const unsigned lane = threadIdx.x % 32;
  const auto token = [&](int k, unsigned i) {
    return blocks[k] * kBlock + (i / N * 32 + lane) * N + i % N;
  };
  bool whole = packs;
#pragma unroll
  for (const unsigned block : blocks) whole = whole && block * kBlock + kBlock <= vocab;
  if (whole) {
    Pack<T, kPack> pack[kBlocks][kHeld / kPack];
#pragma unroll
    for (int k = 0; k < kBlocks; ++k) {
#pragma unroll
      for (unsigned i = 0; i < kHeld; i += kPack) {
        pack[k][i / kPack] = load<T, kPack>(logits + token(k, i));
      }
    }
#pragma unroll
    for (int k = 0; k < kBlocks; ++k) {
#pragma unroll
      for (unsigned i = 0; i < kHeld; ++i) x[k][i] = pack[k][i / kPack].get(i % kPack);
    }
  } else {
#pragma unroll
    for (int k = 0; k < kBlocks; ++k) {
#pragma unroll
      for (unsigned i = 0; i < kHeld; ++i) {
        const unsigned at = token(k, i);
        x[k][i] = at < vocab ? to_float(logits[at]) : negative_infinity();
      }
    }
  }
}

// A row of logits, with the results of the first kernel.
struct Row {
  const void* logits;
  SampleBlock* blocks;
  unsigned vocab;
  unsigned num_blocks;
  int dtype;
  bool packs;
  float max;      // the largest logit
  float inverse;  // of the temperature

  // 0 for +inf too; NaN stays NaN, for which every comparison is false.
  __device__ float z(float x) const {
    const float z = (max - x) * inverse;
    return z < 0.0f ? 0.0f : z;
  }

  // The sum of the weights of a token block.
  __device__ u64 mass_of(const SampleBlock& block) const {
    return fixed(block.mass * weight(z(block.max)));
  }

  // The dtype is a branch here, not a template parameter: the kernel that reads only parts of a row
  // again is compiled once.
  __device__ void load(unsigned block, float (&x)[kHeld]) const {
    const unsigned one[1] = {block};
    auto& to = reinterpret_cast<float (&)[1][kHeld]>(x);
    if (dtype == 0) {
      load_blocks<kHeld>(static_cast<const float*>(logits), vocab, packs, one, to);
    } else if (dtype == 1) {
      load_blocks<kHeld>(static_cast<const Half*>(logits), vocab, packs, one, to);
    } else {
      load_blocks<kHeld>(static_cast<const BFloat16*>(logits), vocab, packs, one, to);
    }
  }
  __device__ static unsigned token(unsigned block, unsigned i) {
    return block * kBlock + threadIdx.x % 32 * kHeld + i;
  }
};

// The token blocks that a CTA has to read again.
template <unsigned kThreads>
struct Visited {
  unsigned blocks[kThreads];
  unsigned count;
};

// Reads the token blocks with a token of z <= high, each by one warp of the cluster, and calls
// visit(block, x) for each of them until it returns false. All threads of a CTA call it.
template <unsigned kThreads, typename Visit>
__device__ void visit_blocks(const Row& row, float high, Visited<kThreads>& visited,
                             const Cluster& cluster, Visit visit) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned first = 0; first < row.num_blocks; first += cluster.size * kThreads) {
    __syncthreads();
    if (threadIdx.x == 0) visited.count = 0;
    __syncthreads();
    // Each thread checks whether one token block must be read; the warps then divide those.
    const unsigned mine = first + threadIdx.x * cluster.size + cluster.rank;
    const bool wanted = mine < row.num_blocks && row.z(row.blocks[mine].max) <= high;
    if (!wanted && mine < row.num_blocks) row.blocks[mine].kept = 0;
    const unsigned lanes = __ballot_sync(kFullWarp, wanted);
    unsigned place = 0;
    if (lane == 0) place = add_shared(&visited.count, __popc(lanes));
    place = __shfl_sync(kFullWarp, place, 0) + __popc(lanes & ((1u << lane) - 1));
    if (wanted) visited.blocks[place] = mine;
    __syncthreads();
    for (unsigned i = threadIdx.x / 32; i < visited.count; i += kThreads / 32) {
      float x[kHeld];
      row.load(visited.blocks[i], x);
      if (!visit(visited.blocks[i], x)) break;
    }
  }
}

}  // namespace vllm
