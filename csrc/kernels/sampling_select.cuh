// Which tokens of a row may be drawn, without sorting it: a block of threads, or the blocks of
// a cluster, work on one row.
//
// What has been noted of each block of tokens bounds how unlikely a token may be; the few that lie
// within the bounds are listed and sorted. Where they are too many, a histogram of the row narrows
// the bounds first.
#pragma once

#include "sampling_candidates.cuh"

namespace vllm {

constexpr int kBinBits = 12;        // of the width of a bin at most: 2048 bins for each power of 2
constexpr float kFirstLook = 7.0f;  // up to which z to look for the end of a nucleus at first
constexpr float kHorizon = 23.0f;   // where weights are below 2^-32

// Narrows (low, high] to a part in which the measure of all tokens up to z reaches `target`: their
// number or, by mass, their mass, of which `total` is the most there can be.
__device__ inline void narrow(const Row& row, bool by_mass, u64 target, u64 total, float& low,
                              float& high, Candidates& c, const Cluster& cluster) {
  const unsigned bottom = ordinal(low), top = ordinal(high);
  int shift = 0;
  while (shift < kBinBits && (top - bottom - 1) >> shift >= kBins) ++shift;
  // A mass in a bin is a whole number of units, of which there can be 2^31; cutting it short loses
  // less than one for each token.
  const float vocab = static_cast<float>(row.vocab);
  const float most = fminf(static_cast<float>(total), vocab * weight(fmaxf(low, 0.0f)) * 0x1p32f);
  const float units = by_mass ? 0x1p63f / most : 0.0f;
  const u64 slack = by_mass ? row.vocab : 0;

  cluster.sync();  // the readers of what was here are done
  for (unsigned i = threadIdx.x; i < kBins; i += blockDim.x) c.part.bins[i] = 0;
  if (threadIdx.x == 0) c.low_bin = c.bin = c.high_bin = kBins - 1;
  __syncthreads();
  u64 below = 0;
  visit_blocks(row, high, cluster, [&](unsigned, const float (&x)[kHeld]) {
    float mass = 0.0f;
#pragma unroll
    for (unsigned i = 0; i < kHeld; ++i) {
      const float z = row.z(x[i]);
      if (z <= low) {
        mass += weight(z);
        if (!by_mass) ++below;
      } else if (z <= high) {
        const unsigned bin = (top - ordinal(z)) >> shift;  // from the top, where it must be fine
        const unsigned measure = by_mass ? static_cast<unsigned>(weight(z) * units) : 1;
        atomicAdd(&c.part.bins[kBins - 1 - min(bin, kBins - 1)], measure);
      }
    }
    mass = warp_sum(mass);
    if (by_mass && threadIdx.x % 32 == 0) below += fixed(mass);
    return true;
  });
  publish_below(by_mass ? 0 : below, by_mass ? below : 0, c, cluster);
  below = by_mass ? published(c, cluster).mass : published(c, cluster).count;
  for (unsigned i = threadIdx.x; i < kBins; i += kSampleThreads) {
    unsigned sum = 0;
#pragma unroll
    for (unsigned rank = 0; rank < kSampleCluster; ++rank) {
      if (rank < cluster.size) sum += cluster.of(&c.part, rank)->bins[i];
    }
    c.bins[i] = sum;
  }
  __syncthreads();
  if (below >= target) {  // by what rounds differently: nothing is left to look at
    high = low;
    return;
  }
  target -= below;
  if (by_mass) target = static_cast<u64>(static_cast<float>(target) * (units * 0x1p-32f));

  constexpr unsigned kEach = kBins / kSampleThreads;
  u64 sum = 0;
  for (unsigned i = 0; i < kEach; ++i) sum += c.bins[threadIdx.x * kEach + i];
  u64 before = block_scan(sum).before;
  for (unsigned i = 0; i < kEach; ++i) {
    const unsigned bin = threadIdx.x * kEach + i;
    const u64 reached = before + c.bins[bin];
    const auto crosses = [&](u64 level) {
      return reached >= level && (before < level || bin == 0);
    };
    if (crosses(target > slack ? target - slack : 0)) c.low_bin = bin;
    if (crosses(target)) c.bin = bin;
    if (crosses(target + slack)) c.high_bin = bin;
    before = reached;
  }
  __syncthreads();
  unsigned first = c.low_bin, last = c.high_bin;
  if (first == 0 && last == kBins - 1) first = last = c.bin;  // no narrower: go by the best guess
  const unsigned width = (kBins - first) << shift;            // from its lower end to the top
  if (first > 0 && top - bottom > width) low = z_at(top - width);
  high = z_at(top - ((kBins - 1 - last) << shift));
}

// At least k tokens have a z up to this, for as many blocks have such a token.
__device__ inline float bound_of_count(const Row& row, u64 k) {
  if (k > row.num_blocks || row.num_blocks > kSampleThreads) return kHorizon;
  const bool has_block = threadIdx.x < row.num_blocks;
  const unsigned mine = has_block ? ordinal(row.z(row.blocks[threadIdx.x].max)) : 0xffffffffu;
  unsigned bound = 0;
#pragma unroll 1
  for (unsigned bit = 1u << 30; bit > 0; bit /= 2) {
    const unsigned tried = bound + bit - 1;
    if (__syncthreads_count(has_block && mine <= tried) < k) bound += bit;
  }
  return fminf(z_at(bound), kHorizon);
}

// Less than 1 - p of the mass lies beyond, even if every token had the weight of this z.
__device__ inline float bound_of_mass(const Row& row, float p, u64 total) {
  const float rest = (1.0f - p) * (static_cast<float>(total) * 0x1p-32f);
  return fminf(logf(static_cast<float>(row.vocab) / rest) + 0.01f, kHorizon);
}

__device__ inline u64 part_of(u64 total, float p) {
  const u64 part = static_cast<u64>(static_cast<double>(p) * static_cast<double>(total));
  return part > 0 ? part : 1;
}

// The largest z that may be drawn, by top-k (below 1: none) and top-p (1: none); notes in each
// block the mass of what is kept. `total`: the mass of the row, for top-p without top-k.
__device__ inline float truncate(const Row& row, u64 k, float p, float min_p, u64 total,
                                 Candidates& c, const Cluster& cluster) {
  const float least = min_p > 0.0f ? fmaxf(-logf(min_p), 0.0f) : kHorizon;
  bool by_mass = k == 0;
  float limit = kHorizon, low = kNothing;
  unsigned listed = 0;
  if (k > 0 || p < 1.0f) {
    u64 target = by_mass ? part_of(total, p) : k;
    const float bound = by_mass ? bound_of_mass(row, p, total) : bound_of_count(row, k);
    // Most nuclei end long before the bound.
    bool first_look = by_mass && bound > kFirstLook;
    float high = first_look ? kFirstLook : bound;
    for (;;) {
      Collected below = collect(row, low, high, c, cluster);
      while (below.listed > kListed) {
        narrow(row, by_mass, target, total, low, high, c, cluster);
        if (ordinal(high) - ordinal(low) == 1) low = high;  // equal tokens, all kept
        below = collect(row, low, high, c, cluster);
      }
      listed = below.listed;
      sort(c, listed);

      const unsigned i = threadIdx.x;
      const bool in_list = i < listed;
      const u64 reached =
          by_mass ? below.mass + (in_list ? c.list.mass[i] : 0) : below.count + i + 1;
      const unsigned last = first_thread(in_list && reached >= target, listed, c);
      const bool is_below = (by_mass ? below.mass : below.count) >= target;
      limit = is_below ? low : last < listed ? z_of(c.list.sorted[last]) : high;
      if (first_look && !is_below && last == listed) {
        first_look = false;
        high = bound;
        continue;
      }
      if (by_mass || !(p < 1.0f)) break;

      // Top-p among what top-k keeps, which the list and what lies below it hold.
      const unsigned after = first_thread(in_list && z_of(c.list.sorted[i]) > limit, listed, c);
      total = below.mass + (after > 0 ? c.list.mass[after - 1] : 0);
      target = part_of(total, p);
      if (target > below.mass) {
        const bool enough = i < after && below.mass + c.list.mass[i] >= target;
        const unsigned end = first_thread(enough, after, c);
        if (end < after) limit = z_of(c.list.sorted[end]);
        break;
      }
      by_mass = true;
      high = low;
      low = kNothing;
    }
  }
  limit = fminf(limit, least);
  if (limit < low || (k == 0 && !(p < 1.0f))) {  // min-p alone, or below what was listed
    listed = collect(row, limit, limit, c, cluster).listed;
  }
  if (cluster.rank == 0 && threadIdx.x < listed && z_of(c.list.sorted[threadIdx.x]) <= limit) {
    const u64 entry = c.list.sorted[threadIdx.x];
    atomicAdd(&row.blocks[token_of(entry) / kBlock].kept, fixed(weight(z_of(entry))));
  }
  __syncthreads();
  return limit;
}

}  // namespace vllm
