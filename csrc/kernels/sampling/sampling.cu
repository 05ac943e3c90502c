// Sampling in two launches. The first reads all logits once, at memory bandwidth, one warp per
// token block (kSampleBlock consecutive tokens of a row). The second has a CTA (thread block) or a
// cluster of CTAs for each row, and reads only those token blocks again that can contain the token.
#include "kernels/common/early_launch.cuh"
#include "kernels/sampling/sampling_select.cuh"
#include "params/sampling_random.h"

namespace vllm {

constexpr unsigned kAtOnce = 2;  // token blocks that a warp loads together

// Stores the maximum of each token block, and the sum of its weights relative to that.
template <typename T>
__device__ void summarize(const SampleParams& p) {
  wait_for_kernels_before();
  const unsigned vocab = static_cast<unsigned>(p.vocab);
  const unsigned num_blocks = (vocab + kBlock - 1) / kBlock;
  const unsigned warp = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
  const unsigned step = gridDim.y * (blockDim.x / 32) * kAtOnce;

  for (i64 row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const T* logits = static_cast<const T*>(p.logits) + row * p.stride;
    SampleBlock* blocks = static_cast<SampleBlock*>(p.workspace) + row * num_blocks;
    const float inverse = inverse_temperature(p, row);
    const bool needs_mass = inverse > 0.0f && !truncates_by_count(p, row);
    for (unsigned first = warp * kAtOnce; first < num_blocks; first += step) {
      unsigned at_once[kAtOnce];
#pragma unroll
      for (unsigned k = 0; k < kAtOnce; ++k) at_once[k] = min(first + k, num_blocks - 1);
      float x[kAtOnce][kHeld];
      load_blocks<kVector<T>>(logits, vocab, p.packs != 0, at_once, x);
#pragma unroll
      for (unsigned k = 0; k < kAtOnce; ++k) {
        if (first + k >= num_blocks) break;
        float most = negative_infinity();
        for (unsigned i = 0; i < kHeld; ++i) most = fmaxf(most, x[k][i]);
        most = fminf(warp_max(most), kLargest);
        float mass = 0.0f;
        if (needs_mass) {
          for (unsigned i = 0; i < kHeld; ++i) mass += weight((most - x[k][i]) * inverse);
          mass = warp_sum(mass);
        }
        if (threadIdx.x % 32 == 0) blocks[first + k] = {most, mass, 0};
      }
    }
  }
}

// The first token with the largest logit. Called by the first warp.
__device__ inline unsigned most_likely(const Row& row, unsigned block) {
  float x[kHeld];
  row.load(block, x);
  unsigned mine = kHeld;
  for (unsigned i = kHeld; i-- > 0;) {
    if (x[i] >= row.max) mine = i;
  }
  const int lane = __ffs(static_cast<int>(__ballot_sync(kFullWarp, mine < kHeld))) - 1;
  return __shfl_sync(kFullWarp, Row::token(block, mine), lane);
}

// The token of a token block at `rest` of its kept mass. Called by the first warp.
__device__ inline unsigned draw_in_block(const Row& row, unsigned block, float limit, u64 rest,
                                         u64 mass) {
  // Relative to the maximum of the block, weights are whole numbers of enough bits.
  const float most = row.blocks[block].max;
  float x[kHeld];
  row.load(block, x);
  unsigned weights[kHeld], sum = 0;
  for (unsigned i = 0; i < kHeld; ++i) {
    const bool kept = row.z(x[i]) <= limit;
    weights[i] = kept ? static_cast<unsigned>(weight((most - x[i]) * row.inverse) * 0x1p23f) : 0;
    sum += weights[i];
  }
  const unsigned up_to = warp_scan(sum);
  const unsigned total = __shfl_sync(kFullWarp, up_to, 31);
  const double share = static_cast<double>(rest) / static_cast<double>(mass);
  const unsigned target = min(static_cast<unsigned>(share * total), total - 1);
  const int lane = __ffs(static_cast<int>(__ballot_sync(kFullWarp, up_to > target))) - 1;
  unsigned reached = up_to - sum, passed = 0;
  for (unsigned i = 0; i < kHeld; ++i) {
    reached += weights[i];
    if (reached <= target) ++passed;
  }
  return __shfl_sync(kFullWarp, Row::token(block, passed), lane);
}

// The token of a row at u / 2^24 of the mass of its allowed tokens.
__device__ inline unsigned draw(const Row& row, float limit, bool truncated, unsigned u) {
  __shared__ unsigned chosen;
  __shared__ u64 rest, mass;
  const auto kept = [&](unsigned b) {
    const SampleBlock& block = row.blocks[b];
    // Not from L1: atomics have changed it in L2.
    return truncated ? __ldcg(&block.kept) : row.mass_of(block);
  };
  const unsigned each = (row.num_blocks + blockDim.x - 1) / blockDim.x;
  const unsigned begin = min(threadIdx.x * each, row.num_blocks);
  const unsigned end = min(begin + each, row.num_blocks);
  u64 sum = 0;
  for (unsigned b = begin; b < end; ++b) sum += kept(b);
  const Scan scan = block_scan(sum);
  const u64 target = __umul64hi(scan.total, static_cast<u64>(u) << 40);
  if (scan.before <= target && target < scan.before + sum) {
    u64 reached = scan.before;
    unsigned b = begin;
    for (; reached + kept(b) <= target; ++b) reached += kept(b);
    chosen = b;
    rest = target - reached;
    mass = kept(b);
  }
  __syncthreads();
  return threadIdx.x < 32 ? draw_in_block(row, chosen, limit, rest, mass) : 0;
}

// Run by CTAs of kThreads or, if no row is truncated, of fewer threads.
template <unsigned kThreads>
__device__ void pick(const SampleParams& p) {
  wait_for_kernels_before();
  __shared__ Candidates<kThreads> candidates;
  const Cluster cluster;
  Row row;
  row.dtype = p.dtype;
  row.vocab = static_cast<unsigned>(p.vocab);
  row.num_blocks = (row.vocab + kBlock - 1) / kBlock;
  row.packs = p.packs != 0;

  for (i64 r = blockIdx.x / cluster.size; r < p.rows; r += gridDim.x / cluster.size) {
    row.logits = static_cast<const char*>(p.logits) + r * p.stride * (p.dtype == 0 ? 4 : 2);
    row.blocks = static_cast<SampleBlock*>(p.workspace) + r * row.num_blocks;
    row.inverse = inverse_temperature(p, r);

    float most = negative_infinity();
    unsigned where = 0;
    for (unsigned b = threadIdx.x; b < row.num_blocks; b += blockDim.x) {
      const float max = row.blocks[b].max;
      if (max > most) {
        most = max;
        where = b;
      }
    }
    // Not -0: (max - x) is then never -0, and z orders as its bits do.
    row.max = block_max(most) + 0.0f;

    unsigned token = 0;
    if (row.max == negative_infinity()) {
      // No token can be sampled.
    } else if (row.inverse == 0.0f) {
      if (threadIdx.x == 0) candidates.found = row.num_blocks;
      __syncthreads();
      if (most == row.max) atomicMin(&candidates.found, where);
      __syncthreads();
      if (threadIdx.x < 32) token = most_likely(row, candidates.found);
    } else {
      const u64 k = truncates_by_count(p, r) ? static_cast<u64>(p.top_k[r]) : 0;
      const float top_p = p.top_p == nullptr ? 1.0f : p.top_p[r];
      const float min_p = p.min_p == nullptr ? 0.0f : p.min_p[r];
      const bool truncated = k > 0 || top_p < 1.0f || min_p > 0.0f;
      float limit = kHorizon;
      if (truncated) {
        u64 total = 0;
        if (k == 0 && top_p < 1.0f) {
          for (unsigned b = threadIdx.x; b < row.num_blocks; b += blockDim.x) {
            total += row.mass_of(row.blocks[b]);
          }
          total = block_scan(total).total;
        }
        limit = truncate(row, k, top_p, min_p, total, candidates, cluster);
      }
      if (cluster.rank == 0) {
        token = draw(row, limit, truncated, random_bits(p.seeds[r], p.draws[r]));
      }
    }
    if (threadIdx.x == 0 && cluster.rank == 0) p.out[r] = token;
    cluster.sync();  // shared memory is reused for the next row
  }
}

}  // namespace vllm

#define VLLM_SUMMARIZE(name, T)                       \
  extern "C" __global__ void __launch_bounds__(256)   \
      sample_summarize_##name(vllm::SampleParams p) { \
    vllm::summarize<T>(p);                            \
  }

VLLM_SUMMARIZE(f32, float)
VLLM_SUMMARIZE(f16, vllm::Half)
VLLM_SUMMARIZE(bf16, vllm::BFloat16)

extern "C" __global__ void __launch_bounds__(vllm::kSampleThreads, 2)
    sample_pick(vllm::SampleParams p) {
  vllm::pick<vllm::kSampleThreads>(p);
}

extern "C" __global__ void __launch_bounds__(vllm::kWideSampleThreads)
    sample_pick_wide(vllm::SampleParams p) {
  vllm::pick<vllm::kWideSampleThreads>(p);
}
