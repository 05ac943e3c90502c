// What the two sampling kernels share: a row of logits in blocks of kSampleBlock tokens, each read
// by one warp, and the weight of a token.
#pragma once

#include "float_types.cuh"
#include "params.h"
#include "reduce.cuh"
#include "scan.cuh"

namespace vllm {

constexpr float kLargest = 0x1.fffffep127f;  // as a logit, +inf counts as this
constexpr unsigned kBlock = kSampleBlock;    // tokens
constexpr unsigned kHeld = kBlock / 32;      // of them in each lane

// 0 stands for greedy, for 1 / temperature is never 0.
__device__ inline float inverse_temperature(const SampleParams& p, i64 row) {
  const float temperature = p.temperatures == nullptr ? 0.0f : p.temperatures[row];
  return temperature > 0.0f ? fminf(1.0f / temperature, kLargest) : 0.0f;
}

__device__ inline bool truncates_by_count(const SampleParams& p, i64 row) {
  return p.top_k != nullptr && p.top_k[row] > 0 && p.top_k[row] < p.vocab;
}

// exp(-z), where NaN gives 0 and what is infinitely likely 1.
__device__ inline float weight(float z) { return __saturatef(__expf(-z)); }

// A sum of weights as a whole number of 2^-32: such sums do not depend on their order.
__device__ inline u64 fixed(float mass) { return static_cast<u64>(mass * 0x1p32f); }

// This lane's tokens of a block, in packs of N: lane by lane, kHeld / N times over. N may be kHeld
// (each lane has neighbours) or fill 16 bytes (the warp reads without gaps). -inf past the end.
template <int N, typename T>
__device__ void load_block(const T* logits, unsigned vocab, bool packs, unsigned block,
                           float (&x)[kHeld]) {
  constexpr unsigned kPack = kVector<T> < N ? kVector<T> : N;
  const unsigned first = block * kBlock, lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned i = 0; i < kHeld; i += kPack) {
    const unsigned token = first + (i / N * 32 + lane) * N + i % N;
    if (packs && first + kBlock <= vocab) {
      const Pack<T, kPack> pack = load<T, kPack>(logits + token);
#pragma unroll
      for (unsigned j = 0; j < kPack; ++j) x[i + j] = pack.get(j);
    } else {
      for (unsigned j = 0; j < kPack; ++j) {
        x[i + j] = token + j < vocab ? to_float(logits[token + j]) : negative_infinity();
      }
    }
  }
}

// A row of logits, with what has been noted of it.
struct Row {
  const void* logits;
  SampleBlock* blocks;
  unsigned vocab;
  unsigned num_blocks;
  int dtype;
  bool packs;
  float max;      // the largest logit
  float inverse;  // of the temperature

  // 0 for +inf too; NaN stays, and is neither above nor below anything.
  __device__ float z(float x) const {
    const float z = (max - x) * inverse;
    return z < 0.0f ? 0.0f : z;
  }

  // The dtype is a branch here and no template parameter: kernels that read only parts of a row
  // again are compiled once.
  __device__ void load(unsigned block, float (&x)[kHeld]) const {
    if (dtype == 0) {
      load_block<kHeld>(static_cast<const float*>(logits), vocab, packs, block, x);
    } else if (dtype == 1) {
      load_block<kHeld>(static_cast<const Half*>(logits), vocab, packs, block, x);
    } else {
      load_block<kHeld>(static_cast<const BFloat16*>(logits), vocab, packs, block, x);
    }
  }
  __device__ static unsigned token(unsigned block, unsigned i) {
    return block * kBlock + threadIdx.x % 32 * kHeld + i;
  }
};

}  // namespace vllm
