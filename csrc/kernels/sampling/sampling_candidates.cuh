// The candidate tokens of a row, those whose z is in a range: listed, sorted and summed by the CTA
// or the cluster of CTAs that processes the row.
#pragma once

#include "kernels/sampling/sampling_row.cuh"

namespace vllm {

constexpr unsigned kListed = 1024;  // tokens that are sorted; a power of 2
constexpr unsigned kBins = 4096;    // of a histogram
constexpr float kNothing = -1.0f;   // less than any z

// The tokens whose z is in a range that contains the wanted token. Every CTA of a cluster computes
// the same result, from its part of the row and from what the others publish about theirs.
template <unsigned kThreads>
struct Candidates {
  struct List {
    u64 sorted[kListed];  // z as its bits, then the token
    u64 mass[kListed];    // of the tokens up to each, in that order
  };
  union {
    List list;
    unsigned bins[kBins];  // of all CTAs of the cluster
  };
  struct Part {
    union {
      u64 listed[kListed];
      unsigned bins[kBins];
    };
    unsigned count;        // of tokens that were to be listed
    unsigned below_count;  // of the tokens with z <= low
    u64 below_mass;
  } part;  // that this CTA publishes
  Visited<kThreads> visited;
  unsigned low_bin, bin, high_bin;
  unsigned found;
};

__device__ inline float z_of(u64 entry) {
  return __uint_as_float(static_cast<unsigned>(entry >> 32));
}
__device__ inline unsigned token_of(u64 entry) { return static_cast<unsigned>(entry); }

// Numbers the z of tokens in order, from 0 for kNothing.
__device__ inline unsigned ordinal(float z) { return z < 0.0f ? 0 : __float_as_uint(z) + 1; }
__device__ inline float z_at(unsigned n) { return n == 0 ? kNothing : __uint_as_float(n - 1); }

// Tokens up to the lower end of a range.
struct Below {
  unsigned count;
  u64 mass;
};

// Publishes what the warps of a CTA have found below the range, and waits for the other CTAs.
// The mass of a warp is in its first lane.
template <unsigned kThreads>
__device__ void publish_below(unsigned count, u64 mass, Candidates<kThreads>& c,
                              const Cluster& cluster) {
  constexpr unsigned kWarps = kThreads / 32;
  __shared__ unsigned counts[kWarps];
  __shared__ u64 masses[kWarps];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  count = warp_scan(count);
  if (lane == 31) counts[warp] = count;
  if (lane == 0) masses[warp] = mass;
  __syncthreads();
  if (warp == 0) {
    count = warp_scan(lane < kWarps ? counts[lane] : 0);
    mass = warp_scan(lane < kWarps ? masses[lane] : 0);
    if (lane == 31) {
      c.part.below_count = count;
      c.part.below_mass = mass;
    }
  }
  cluster.sync();
}

// Collects what all CTAs of the cluster have published.
template <unsigned kThreads>
__device__ Below published(const Candidates<kThreads>& c, const Cluster& cluster) {
  if (cluster.size == 1) return {c.part.below_count, c.part.below_mass};
  const unsigned lane = threadIdx.x % 32;
  Below mine{0, 0};
  if (lane < cluster.size) {
    const auto& part = *cluster.of(&c.part, lane);
    mine = {part.below_count, part.below_mass};
  }
  return {warp_total(mine.count), warp_total(mine.mass)};
}

struct Collected {
  Below below;
  unsigned listed;
};

// Lists the tokens with low < z <= high, and stores for each token block the mass of its tokens
// with z <= low. The list overflows if there are more than kListed: then the masses are incomplete.
template <unsigned kThreads>
__device__ Collected collect(const Row& row, float low, float high, Candidates<kThreads>& c,
                             const Cluster& cluster) {
  const unsigned lane = threadIdx.x % 32;
  cluster.sync();  // all CTAs have read the old contents
  if (threadIdx.x == 0) c.part.count = 0;
  __syncthreads();
  unsigned count = 0;
  u64 mass = 0;  // in lane 0
  visit_blocks(row, high, c.visited, cluster, [&](unsigned block, const float (&x)[kHeld]) {
    float sum = 0.0f;
    unsigned listed = 0;  // a bit for each token
#pragma unroll
    for (unsigned i = 0; i < kHeld; ++i) {
      const float z = row.z(x[i]);
      if (z <= low) {
        sum += weight(z);
        ++count;
      } else if (z <= high) {
        listed |= 1u << i;
      }
    }
    const u64 kept = fixed(warp_sum(sum));
    if (lane == 0) {
      row.blocks[block].kept = kept;
      mass += kept;
    }
    if (!__any_sync(kFullWarp, listed != 0)) return true;
    const unsigned up_to = warp_scan(static_cast<unsigned>(__popc(listed)));
    unsigned first = 0;
    if (lane == 31) first = add_shared(&c.part.count, up_to);
    first = __shfl_sync(kFullWarp, first, 31);
    unsigned place = first + up_to - __popc(listed);
#pragma unroll
    for (unsigned i = 0; i < kHeld; ++i) {
      if ((listed >> i & 1) == 0) continue;
      if (place < kListed) {
        const u64 z = __float_as_uint(row.z(x[i]));
        c.part.listed[place] = z << 32 | Row::token(block, i);
      }
      ++place;
    }
    return first <= kListed;
  });
  publish_below(count, mass, c, cluster);
  const unsigned own = lane < cluster.size ? cluster.of(&c.part, lane)->count : 0;
  return {published(c, cluster), warp_total(own)};
}

// Entry i of the concatenated lists of all CTAs. All lanes of a warp call it.
template <unsigned kThreads>
__device__ u64 entry_at(unsigned i, const Candidates<kThreads>& c, const Cluster& cluster) {
  if (cluster.size == 1) return c.part.listed[i];
  const unsigned lane = threadIdx.x % 32;
  const unsigned own = lane < cluster.size ? cluster.of(&c.part, lane)->count : 0;
  unsigned rank = 0;
#pragma unroll
  for (unsigned r = 0; r + 1 < kSampleCluster; ++r) {
    const unsigned count = __shfl_sync(kFullWarp, own, r);
    if (rank != r || i < count) continue;
    i -= count;
    ++rank;
  }
  return rank < cluster.size ? cluster.of(&c.part, rank)->listed[i] : ~0ull;
}

// How many entries of a list each thread holds: every kThreads-th one.
template <unsigned kThreads>
constexpr unsigned kEntries = kListed / kThreads;

// Calls visit(i, e) for each entry i of a list that this thread holds, as its e-th, up to `count`
// rounded up to whole warps. So either all threads of a warp call it, for adjacent entries, or
// none.
template <unsigned kThreads, typename Visit>
__device__ void visit_list(unsigned count, Visit visit) {
#pragma unroll
  for (unsigned e = 0; e < kEntries<kThreads>; ++e) {
    const unsigned i = e * kThreads + threadIdx.x;
    if (i / 32 * 32 < count) visit(i, e);
  }
}

// Sorts the listed tokens by z, then by id, and computes the prefix sums of their masses.
template <unsigned kThreads>
__device__ void sort(Candidates<kThreads>& c, unsigned listed, const Cluster& cluster) {
  unsigned size = 32;
  while (size < listed) size *= 2;
  u64 mine[kEntries<kThreads>];
  visit_list<kThreads>(size, [&](unsigned i, unsigned e) {
    const u64 entry = entry_at(i, c, cluster);
    mine[e] = i < listed ? entry : ~0ull;
  });
  // Bitonic sort: runs of `run` entries in alternating directions are merged at halving distances;
  // within a warp by shuffles, else through two shared arrays alternately.
  u64* shared = c.list.mass;
  for (unsigned run = 2; run <= size; run *= 2) {
    for (unsigned distance = run / 2; distance > 0; distance /= 2) {
      if (distance >= 32) {
        visit_list<kThreads>(size, [&](unsigned i, unsigned e) { shared[i] = mine[e]; });
        __syncthreads();
      }
      visit_list<kThreads>(size, [&](unsigned i, unsigned e) {
        const u64 other =
            distance < 32 ? __shfl_xor_sync(kFullWarp, mine[e], distance) : shared[i ^ distance];
        const bool least = ((i & distance) == 0) == ((i & run) == 0);
        if ((other < mine[e]) == least) mine[e] = other;
      });
      if (distance >= 32) shared = shared == c.list.mass ? c.list.sorted : c.list.mass;
    }
  }
  __syncthreads();
  u64 before = 0;
#pragma unroll
  for (unsigned e = 0; e < kEntries<kThreads>; ++e) {
    const unsigned i = e * kThreads + threadIdx.x;
    if (e * kThreads >= listed) break;
    const u64 mass = i < listed ? fixed(weight(z_of(mine[e]))) : 0;
    const Scan scan = block_scan(mass);
    if (i < listed) {
      c.list.sorted[i] = mine[e];
      c.list.mass[i] = before + scan.before + mass;
    }
    before += scan.total;
  }
  __syncthreads();
}

// The first of `count` entries of the list for which is_found(i) holds; `count` if there is none.
template <unsigned kThreads, typename IsFound>
__device__ unsigned first_entry(unsigned count, Candidates<kThreads>& c, IsFound is_found) {
  __syncthreads();
  if (threadIdx.x == 0) c.found = count;
  __syncthreads();
  visit_list<kThreads>(count, [&](unsigned i, unsigned) {
    const unsigned lanes = __ballot_sync(kFullWarp, i < count && is_found(i));
    if (lanes != 0 && threadIdx.x % 32 == 0) {
      atomicMin(&c.found, i + __ffs(static_cast<int>(lanes)) - 1);
    }
  });
  __syncthreads();
  return c.found;
}

}  // namespace vllm
