// The tokens of a row whose z lies in a range: listed, sorted and summed by the blocks of threads
// that work on the row, one or a cluster.
#pragma once

#include "sampling_row.cuh"

namespace vllm {

constexpr unsigned kListed = 1024;  // tokens that are sorted; a power of 2
constexpr unsigned kBins = 4096;    // of a histogram
constexpr float kNothing = -1.0f;   // less than any z

// Tokens whose z lies in a range that holds the one that is looked for. All blocks of a cluster
// come to the same, each by its own part of the row and by what the others publish of theirs.
struct Candidates {
  struct List {
    u64 sorted[kListed];  // z as its bits, then the token
    u64 mass[kListed];    // of the tokens up to each, in that order
  };
  union {
    List list;
    unsigned bins[kBins];  // of all blocks together
  };
  struct Part {
    union {
      u64 listed[kListed];
      unsigned bins[kBins];
    };
    unsigned count;               // of tokens that were to be listed
    u64 below_count, below_mass;  // of the tokens with z <= low
  } part;                         // that this block publishes
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

// Tokens of lesser z than a range.
struct Below {
  u64 count, mass;
};

// Publishes what a block's threads have found of them, and waits for the other blocks.
__device__ inline void publish_below(u64 count, u64 mass, Candidates& c, const Cluster& cluster) {
  count = block_scan(count).total;
  mass = block_scan(mass).total;
  if (threadIdx.x == 0) {
    c.part.below_count = count;
    c.part.below_mass = mass;
  }
  cluster.sync();
}

// What all blocks of the cluster have published.
__device__ inline Below published(const Candidates& c, const Cluster& cluster) {
  const unsigned lane = threadIdx.x % 32;
  Below mine{0, 0};
  if (lane < cluster.size) {
    const Candidates::Part& part = *cluster.of(&c.part, lane);
    mine = {part.below_count, part.below_mass};
  }
  return {__shfl_sync(kFullWarp, warp_scan(mine.count), 31),
          __shfl_sync(kFullWarp, warp_scan(mine.mass), 31)};
}

struct Collected {
  u64 count, mass;  // of the tokens with z <= low
  unsigned listed;
};

// Lists the tokens with low < z <= high, and notes in each block the mass of those with z <= low.
// The list overflows where it would be longer than kListed: then the notes are not complete.
__device__ inline Collected collect(const Row& row, float low, float high, Candidates& c,
                                    const Cluster& cluster) {
  const unsigned lane = threadIdx.x % 32;
  cluster.sync();  // the readers of what was here are done
  if (threadIdx.x == 0) c.part.count = 0;
  __syncthreads();

  unsigned count = 0;
  u64 mass = 0;  // in lane 0
  visit_blocks(row, high, cluster, [&](unsigned block, const float (&x)[kHeld]) {
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
    if (lane == 31) first = atomicAdd(&c.part.count, up_to);
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
  // A lane has what one block of the cluster published; an equal share of the threads copies its
  // list behind those of the blocks before it.
  const Below all = published(c, cluster);
  const unsigned own = lane < cluster.size ? cluster.of(&c.part, lane)->count : 0;
  const unsigned up_to = warp_scan(own);
  const unsigned share = blockDim.x / cluster.size, rank = threadIdx.x / share;
  const unsigned begin = __shfl_sync(kFullWarp, up_to - own, rank);
  const unsigned end = min(__shfl_sync(kFullWarp, up_to, rank), kListed);
  const u64* from = cluster.of(&c.part, rank)->listed;
  for (unsigned i = begin + threadIdx.x % share; i < end; i += share) {
    c.list.sorted[i] = from[i - begin];
  }
  return {all.count, all.mass, __shfl_sync(kFullWarp, up_to, 31)};
}

// Sorts the list by z, then by token, and sums its masses.
__device__ inline void sort(Candidates& c, unsigned listed) {
  unsigned size = 32;
  while (size < listed) size *= 2;
  const unsigned i = threadIdx.x;
  __syncthreads();
  u64 mine = i < listed ? c.list.sorted[i] : ~0ull;
  // Bitonic: runs of `run` in alternating directions, merged at distances that halve; within a warp
  // by shuffles, else through two arrays in turn.
  u64* shared = c.list.mass;
  for (unsigned run = 2; run <= size; run *= 2) {
    for (unsigned distance = run / 2; distance > 0; distance /= 2) {
      u64 other;
      if (distance < 32) {
        other = __shfl_xor_sync(kFullWarp, mine, distance);
      } else {
        if (i < size) shared[i] = mine;
        __syncthreads();
        other = i < size ? shared[i ^ distance] : mine;
        shared = shared == c.list.mass ? c.list.sorted : c.list.mass;
      }
      const bool least = ((i & distance) == 0) == ((i & run) == 0);
      if ((other < mine) == least) mine = other;
    }
  }
  __syncthreads();
  if (i < listed) c.list.sorted[i] = mine;
  const u64 mass = i < listed ? fixed(weight(z_of(mine))) : 0;
  const u64 before = block_scan(mass).before;
  if (i < listed) c.list.mass[i] = before + mass;
  __syncthreads();
}

// The index of the first thread for which `is_found`; `otherwise` where there is none.
__device__ inline unsigned first_thread(bool is_found, unsigned otherwise, Candidates& c) {
  __syncthreads();
  if (threadIdx.x == 0) c.found = otherwise;
  __syncthreads();
  const unsigned lanes = __ballot_sync(kFullWarp, is_found);
  if (lanes != 0 && threadIdx.x % 32 == 0) {
    atomicMin(&c.found, threadIdx.x + __ffs(static_cast<int>(lanes)) - 1);
  }
  __syncthreads();
  return c.found;
}

}  // namespace vllm
