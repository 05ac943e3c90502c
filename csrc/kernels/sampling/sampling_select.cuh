// Finds which tokens of a row top-k and top-p keep, without sorting the row. A CTA or a cluster of
// CTAs processes a row.
//
// The maxima and sums of the token blocks bound the z of the last kept token; the few tokens within
// the bounds are listed and sorted. If they are too many, a histogram of the row narrows the bounds
// first.
#pragma once

#include "kernels/sampling/sampling_candidates.cuh"

namespace vllm {

constexpr int kBinBits = 12;  // the width of a bin is at most 2^this: 2048 bins for each power of 2
constexpr unsigned kCountStep = 0x4000;  // precision of bound_of_count, in ordinals: 1/512 of z
constexpr float kNextLook = 2.0f;        // how far a range that ended too early is extended
constexpr float kHorizon = 23.0f;        // where weights are below 2^-32

// Narrows (low, high] to a part in which the measure of all tokens up to z reaches `target`. The
// measure is their number or, if by_mass, their mass, which is at most `total`.
template <unsigned kThreads>
__device__ void narrow(const Row& row, bool by_mass, u64 target, u64 total, float& low, float& high,
                       Candidates<kThreads>& c, const Cluster& cluster) {
  const unsigned bottom = ordinal(low), top = ordinal(high);
  int shift = 0;
  while (shift < kBinBits && (top - bottom - 1) >> shift >= kBins) ++shift;
  // Bins count mass in whole units, at most 2^31 in all; rounding down loses less than one unit per
  // token.
  const float vocab = static_cast<float>(row.vocab);
  const float most = fminf(static_cast<float>(total), vocab * weight(fmaxf(low, 0.0f)) * 0x1p32f);
  const float units = by_mass ? 0x1p63f / most : 0.0f;
  const u64 slack = by_mass ? row.vocab : 0;

  cluster.sync();  // all CTAs have read the old contents
  for (unsigned i = threadIdx.x; i < kBins; i += kThreads) c.part.bins[i] = 0;
  if (threadIdx.x == 0) c.low_bin = c.bin = c.high_bin = kBins - 1;
  __syncthreads();
  unsigned count = 0;
  u64 mass_below = 0;  // in lane 0
  visit_blocks(row, high, c.visited, cluster, [&](unsigned, const float (&x)[kHeld]) {
    float mass = 0.0f;
#pragma unroll
    for (unsigned i = 0; i < kHeld; ++i) {
      const float z = row.z(x[i]);
      if (z <= low) {
        mass += weight(z);
        ++count;
      } else if (z <= high) {
        const unsigned bin = (top - ordinal(z)) >> shift;  // from the top; the rest is in bin 0
        const unsigned measure = by_mass ? static_cast<unsigned>(weight(z) * units) : 1;
        atomicAdd(&c.part.bins[kBins - 1 - min(bin, kBins - 1)], measure);
      }
    }
    mass = warp_sum(mass);
    if (threadIdx.x % 32 == 0) mass_below += fixed(mass);
    return true;
  });
  publish_below(count, mass_below, c, cluster);
  const Below all = published(c, cluster);
  const u64 below = by_mass ? all.mass : all.count;
  for (unsigned i = threadIdx.x; i < kBins; i += kThreads) {
    unsigned sum = 0;
#pragma unroll
    for (unsigned rank = 0; rank < kSampleCluster; ++rank) {
      if (rank < cluster.size) sum += cluster.of(&c.part, rank)->bins[i];
    }
    c.bins[i] = sum;
  }
  __syncthreads();
  if (below >= target) {  // sums were rounded differently: nothing is left to search
    high = low;
    return;
  }
  target -= below;
  if (by_mass) target = static_cast<u64>(static_cast<float>(target) * (units * 0x1p-32f));

  constexpr unsigned kEach = kBins / kThreads;
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
  if (first == 0 && last == kBins - 1) first = last = c.bin;  // not narrower: take the best guess
  const unsigned width = (kBins - first) << shift;            // from its lower end to the top
  if (first > 0 && top - bottom > width) low = z_at(top - width);
  high = z_at(top - ((kBins - 1 - last) << shift));
}

// An upper bound of the k-th least z: k groups of token blocks each have a token with at most this
// z. Token block b is in group b % kListed, whatever the number of threads.
template <unsigned kThreads>
__device__ float bound_of_count(const Row& row, u64 k) {
  if (k > min(row.num_blocks, kListed)) return kHorizon;
  unsigned mine[kEntries<kThreads>];
  visit_list<kThreads>(kListed, [&](unsigned group, unsigned e) {
    mine[e] = 0xffffffffu;
    for (unsigned b = group; b < row.num_blocks; b += kListed) {
      mine[e] = min(mine[e], ordinal(row.z(row.blocks[b].max)));
    }
  });
  unsigned bound = 0;
#pragma unroll 1
  for (unsigned bit = 1u << 30; bit >= kCountStep; bit /= 2) {
    const unsigned tried = bound + bit - 1;
    unsigned count = 0;
    visit_list<kThreads>(
        kListed, [&](unsigned, unsigned e) { count += __syncthreads_count(mine[e] <= tried); });
    if (count < k) bound += bit;
  }
  return fminf(z_at(bound + kCountStep - 1), kHorizon);
}

// The z up to which to search for the end of the top-p nucleus first; kNothing if too many tokens
// would be listed.
//
// A token block whose smallest z is beyond some z has no mass up to that z. So the nucleus does not
// end before the smallest z at which the token blocks that have begun have enough mass. It ends
// soon after that if these blocks are few, because then a block's likeliest token has most of its
// mass.
template <unsigned kThreads>
__device__ float first_look(const Row& row, u64 target, u64 total, Candidates<kThreads>& c) {
  constexpr unsigned kSteps = 64;  // of z, two to a lane
  constexpr float kStep = 0.25f;
  const unsigned lane = threadIdx.x % 32;
  unsigned* masses = c.bins;  // of the blocks that begin in each step
  unsigned* counts = c.bins + kSteps;
  __syncthreads();
  if (threadIdx.x < 2 * kSteps) c.bins[threadIdx.x] = 0;
  __syncthreads();
  const float units = 0x1p30f / static_cast<float>(total);
  for (unsigned b = threadIdx.x; b < row.num_blocks; b += kThreads) {
    const SampleBlock& block = row.blocks[b];
    const float z = row.z(block.max);
    if (!(z < kSteps * kStep)) continue;
    const auto step = static_cast<unsigned>(z * (1.0f / kStep));
    const auto mass = static_cast<float>(row.mass_of(block));
    atomicAdd(&masses[step], static_cast<unsigned>(mass * units));
    atomicAdd(&counts[step], 1u);
  }
  __syncthreads();
  const auto needed = static_cast<unsigned>(static_cast<float>(target) * units);
  const unsigned second = masses[2 * lane + 1];
  const unsigned up_to = warp_scan(masses[2 * lane] + second);
  const unsigned enough = __ballot_sync(kFullWarp, up_to >= needed);
  if (enough == 0) return kNothing;
  const bool in_first =
      (__ballot_sync(kFullWarp, up_to - second >= needed) & enough & -enough) != 0;
  const unsigned step = 2 * __ffs(static_cast<int>(enough)) - (in_first ? 2 : 1);
  // The share of the blocks that begin up to the end of a step.
  const auto begun = [&](unsigned end) {
    const unsigned mine =
        (2 * lane <= end ? counts[2 * lane] : 0) + (2 * lane + 1 <= end ? counts[2 * lane + 1] : 0);
    return static_cast<float>(warp_total(mine)) / static_cast<float>(row.num_blocks);
  };
  // Fitted to where the nuclei of normal and of Zipf distributions end.
  const unsigned look = step + 3 + static_cast<unsigned>(12.0f * begun(step));
  // If so many token blocks have begun, too many tokens would be listed.
  if (look >= kSteps || begun(look) > 0.85f) return kNothing;
  return static_cast<float>(look + 1) * kStep;
}

// A bound of z beyond which less than 1 - p of the mass lies, even if all tokens were there.
__device__ inline float bound_of_mass(const Row& row, float p, u64 total) {
  const float rest = (1.0f - p) * (static_cast<float>(total) * 0x1p-32f);
  return fminf(logf(static_cast<float>(row.vocab) / rest) + 0.01f, kHorizon);
}

__device__ inline u64 part_of(u64 total, float p) {
  const u64 part = static_cast<u64>(static_cast<double>(p) * static_cast<double>(total));
  return part > 0 ? part : 1;
}

// The largest z that may be drawn, by top-k (k: 0 for none), top-p (p: 1 for none) and min-p (0 for
// none). Stores the kept mass of each token block. `total`: the mass of the row, for top-p without
// top-k.
template <unsigned kThreads>
__device__ float truncate(const Row& row, u64 k, float p, float min_p, u64 total,
                          Candidates<kThreads>& c, const Cluster& cluster) {
  const float least = min_p > 0.0f ? fmaxf(-logf(min_p), 0.0f) : kHorizon;
  bool by_mass = k == 0;
  float limit = kHorizon, low = kNothing;
  unsigned listed = 0;
  if (k > 0 || p < 1.0f) {
    u64 target = by_mass ? part_of(total, p) : k;
    const float bound = by_mass ? bound_of_mass(row, p, total) : bound_of_count<kThreads>(row, k);
    // Most nuclei end long before the bound.
    const float look = by_mass ? first_look(row, target, total, c) : bound;
    bool too_many = look == kNothing, guessed = !too_many && look < bound;
    float high = guessed ? look : bound;
    for (;;) {
      Collected found{};
      if (!too_many) {
        found = collect(row, low, high, c, cluster);
        listed = found.listed;
        too_many = listed > kListed;
      }
      if (too_many) {
        narrow(row, by_mass, target, total, low, high, c, cluster);
        if (ordinal(high) - ordinal(low) == 1) low = high;  // equal tokens, all kept
        too_many = false;
        continue;
      }
      const Below below = found.below;
      sort(c, listed, cluster);

      const unsigned last = first_entry(listed, c, [&](unsigned i) {
        return (by_mass ? below.mass + c.list.mass[i] : below.count + i + 1) >= target;
      });
      const bool is_below = (by_mass ? below.mass : below.count) >= target;
      limit = is_below ? low : last < listed ? z_of(c.list.sorted[last]) : high;
      if (guessed && !is_below && last == listed) {
        low = high;
        high = fminf(high + kNextLook, bound);
        guessed = high < bound;
        continue;
      }
      if (by_mass || !(p < 1.0f)) break;

      // Top-p among what top-k keeps, which the list and what lies below it hold.
      const unsigned after =
          first_entry(listed, c, [&](unsigned i) { return z_of(c.list.sorted[i]) > limit; });
      total = below.mass + (after > 0 ? c.list.mass[after - 1] : 0);
      target = part_of(total, p);
      if (target > below.mass) {
        const unsigned end = first_entry(
            after, c, [&](unsigned i) { return below.mass + c.list.mass[i] >= target; });
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
  if (cluster.rank == 0) {
    visit_list<kThreads>(listed, [&](unsigned i, unsigned) {
      const u64 entry = c.list.sorted[i];
      if (i >= listed || z_of(entry) > limit) return;
      atomicAdd(&row.blocks[token_of(entry) / kBlock].kept, fixed(weight(z_of(entry))));
    });
  }
  __syncthreads();
  return limit;
}

}  // namespace vllm
