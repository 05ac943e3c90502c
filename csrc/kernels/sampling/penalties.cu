// In-place changes of logits before sampling: penalties and biases.
#include "kernels/common/early_launch.cuh"
#include "params/sampling.h"

namespace vllm {

constexpr int kThreads = 512;  // of a CTA, which processes a whole counter

__device__ inline bool has(const TokenCounters& state, i64 counter) {
  return counter >= 0 && counter < state.counters;
}

}  // namespace vllm

extern "C" __global__ void __launch_bounds__(vllm::kThreads)
    count_tokens(vllm::CountTokensParams p) {
  using vllm::i64;
  vllm::wait_for_kernels_before();
  for (i64 list = blockIdx.x; list < p.lists; list += gridDim.x) {
    const i64 counter = p.counters[list];
    if (!vllm::has(p.state, counter)) continue;  // uniform across the CTA
    int* seen = p.state.seen + counter * p.state.words;
    int* uses = p.state.uses + counter * p.state.vocab;
    for (i64 word = threadIdx.x; word < p.state.words; word += blockDim.x) seen[word] = 0;
    __syncthreads();
    for (i64 i = p.starts[list] + threadIdx.x; i < p.starts[list + 1]; i += blockDim.x) {
      const i64 token = p.tokens[i];
      if (token < 0 || token >= p.state.vocab) continue;
      atomicOr(seen + token / 32, static_cast<int>(1u << (token % 32)));
      uses[token] = static_cast<int>(p.uses[i]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(vllm::kThreads) penalize(vllm::PenalizeParams p) {
  using vllm::i64;
  vllm::wait_for_kernels_before();
  for (i64 row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const i64 counter = p.counters[row];
    if (!vllm::has(p.state, counter)) continue;  // uniform across the CTA
    int* seen = p.state.seen + counter * p.state.words;
    int* uses = p.state.uses + counter * p.state.vocab;
    const i64 input = p.inputs[row];
    if (threadIdx.x == 0 && input >= 0 && input < p.state.vocab) {
      const int bit = static_cast<int>(1u << (input % 32)), before = seen[input / 32];
      seen[input / 32] = before | bit;
      uses[input] = (before & bit ? uses[input] : 0) + static_cast<int>(p.counts[row]);
    }
    __syncthreads();
    float* logits = p.logits + row * p.stride;
    const float repetition = p.repetition[row];
    const float presence = p.presence[row], frequency = p.frequency[row];
    for (i64 word = threadIdx.x; word < p.state.words; word += blockDim.x) {
      for (auto bits = static_cast<unsigned>(seen[word]); bits != 0; bits &= bits - 1) {
        const i64 token = 32 * word + __ffs(static_cast<int>(bits)) - 1;
        const int used = uses[token];
        const float x = logits[token], repeated = x > 0.0f ? x / repetition : x * repetition;
        logits[token] = repeated - (used > 0 ? presence + frequency * used : 0.0f);
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) bias_logits(vllm::BiasLogitsParams p) {
  using vllm::i64;
  vllm::wait_for_kernels_before();
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < p.changes; i += step) {
    const i64 row = p.rows[i], token = p.tokens[i];
    if (row < 0 || row >= p.num_rows || token < 0 || token >= p.vocab) continue;
    if (p.after[i] >= 0 && p.after[i] != p.inputs[row]) continue;
    atomicAdd(p.logits + row * p.stride + token, p.amounts[i]);
  }
}
