// Which tokens of a row may be drawn, without sorting it.
//
// The maxima of its segments bound how unlikely a token may be; the few that lie within the bounds
// are listed. Where they are too many, a histogram of the row narrows the bounds first.
// Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/sampling/sampling_row.h"

namespace vllm::cpu {
namespace {

constexpr int kListed = 4096;
constexpr int kBins = 4096;
constexpr float kFirstLook = 7.0f;  // the z up to which to search for a nucleus' end first
constexpr int kBinBits = 15;        // a bin is at most 2^this wide: 256 bins per power of 2

struct Candidate {
  float z;
  float weight;
  i64 token;
};

inline u64 measure(const Candidate& candidate, bool by_mass) {
  return by_mass ? fixed(candidate.weight) : 1;
}

// Tokens whose z lies in a range, and what lies below it.
struct Candidates {
  Candidate list[kListed];
  int listed;
  u64 count, mass;  // of the tokens below
  u64 bins[kBins];
};

// Numbers the z of tokens in order, from 0 for kNothing.
inline unsigned ordinal(float z) {
  unsigned bits;
  __builtin_memcpy(&bits, &z, sizeof bits);
  return z < 0.0f ? 0 : bits + 1;
}
inline float z_at(unsigned n) {
  float z = kNothing;
  const unsigned bits = n - 1;
  if (n > 0) __builtin_memcpy(&z, &bits, sizeof z);
  return z;
}

// The largest z, up to the horizon, of at least this weight (at most 1).
inline float z_of_weight(float least) {
  unsigned found = ordinal(0.0f), end = ordinal(kHorizon) + 1;
  while (end - found > 1) {
    const unsigned middle = found + (end - found) / 2;
    (weight(broadcast(z_at(middle)))[0] >= least ? found : end) = middle;
  }
  return z_at(found);
}

// Lists the tokens with low < z <= high, and stores for each segment the mass of those with z <=
// low. False if the list overflows: then the masses are incomplete.
template <typename T>
inline bool collect(Row<T>& row, float low, float high, Candidates& c) {
  c.listed = 0;
  c.count = c.mass = 0;
  for (int s = 0; s < row.segments; ++s) {
    row.kept[s] = 0;
    if (!(row.z(row.most[s]) <= high)) continue;
    bool fits = true;
    Floats sums[kUnroll] = {};
    row.for_segment(s, [&](i64 first, Floats x, int slot) {
      const Floats z = row.z(x);
      unsigned lanes = bits_of(z <= high);
      if (lanes == 0 || !fits) return;
      const unsigned below = bits_of(z <= low);
      const Floats w = weight(z);
      if (below != 0) {
        sums[slot] += z <= low ? w : Floats{};
        for (unsigned rest = below; rest != 0; rest &= rest - 1) ++c.count;
        lanes &= ~below;
      }
      for (; lanes != 0; lanes &= lanes - 1) {
        if (c.listed == kListed) {
          fits = false;
          return;
        }
        const int lane = __builtin_ctz(lanes);
        c.list[c.listed++] = {z[lane], w[lane], first + lane};
      }
    });
    if (!fits) return false;
    row.kept[s] = fixed(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
    c.mass += row.kept[s];
  }
  return true;
}

// Narrows (low, high] to the part in which the measure of all tokens up to z reaches `target`. The
// measure is their number or, if by_mass, their mass.
template <typename T>
inline void narrow(const Row<T>& row, bool by_mass, u64 target, float& low, float& high,
                   Candidates& c) {
  const unsigned bottom = ordinal(low), top = ordinal(high);
  int shift = 0;
  while (shift < kBinBits && (top - bottom - 1) >> shift >= kBins) ++shift;
  __builtin_memset(c.bins, 0, sizeof c.bins);
  u64 reached = 0;
  for (int s = 0; s < row.segments; ++s) {
    if (!(row.z(row.most[s]) <= high)) continue;
    Floats sums[kUnroll] = {};
    row.for_segment(s, [&](i64, Floats x, int slot) {
      const Floats z = row.z(x);
      const unsigned below = bits_of(z <= low);
      unsigned lanes = bits_of(z <= high) & ~below;
      const Floats w = by_mass ? weight(z) : broadcast(0x1p-32f);  // a token counts as one unit
      sums[slot] += z <= low ? w : Floats{};
      for (; lanes != 0; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        const unsigned bin = (top - ordinal(z[lane])) >> shift;  // from the top; the rest: bin 0
        c.bins[kBins - 1 - (bin < kBins ? bin : kBins - 1)] += fixed(w[lane]);
      }
    });
    reached += fixed(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
  if (reached >= target) {  // sums were rounded differently: nothing is left to search
    high = low;
    return;
  }
  unsigned bin = 0;
  while (bin < kBins - 1 && reached + c.bins[bin] < target) reached += c.bins[bin++];
  const unsigned width = (kBins - bin) << shift;  // from its lower end to the top
  if (bin > 0 && top - bottom > width) low = z_at(top - width);
  high = z_at(top - ((kBins - 1 - bin) << shift));
}

// The least z in the list up to which the measure reaches `target`; `otherwise` if none does.
inline float select(Candidates& c, bool by_mass, u64 target, float otherwise) {
  Candidate *begin = c.list, *end = c.list + c.listed;
  while (begin < end) {
    const float a = begin->z, b = begin[(end - begin) / 2].z, d = end[-1].z;
    const float low = a < b ? a : b, high = a < b ? b : a;
    const float pivot = d < low ? low : d < high ? d : high;
    // In three: less than the pivot, equal to it, greater.
    Candidate *equal = begin, *greater = end;
    u64 less_measure = 0, equal_measure = 0;
    for (Candidate* each = begin; each < greater;) {
      const Candidate candidate = *each;
      if (candidate.z < pivot) {
        less_measure += measure(candidate, by_mass);
        *each++ = *equal;
        *equal++ = candidate;
      } else if (candidate.z > pivot) {
        *each = *--greater;
        *greater = candidate;
      } else {
        equal_measure += measure(candidate, by_mass);
        ++each;
      }
    }
    if (less_measure >= target) {
      end = equal;
    } else if (less_measure + equal_measure >= target) {
      return pivot;
    } else {
      target -= less_measure + equal_measure;
      begin = greater;
    }
  }
  return otherwise;
}

// An upper bound of the k-th least z: k segments each have a token with at most this z.
template <typename T>
inline float bound_of_count(const Row<T>& row, u64 k, Candidates& c) {
  if (k > static_cast<u64>(row.segments)) return kHorizon;
  for (int s = 0; s < row.segments; ++s) c.list[s] = {row.z(row.most[s]), 0.0f, 0};
  c.listed = row.segments;
  const float bound = select(c, false, k, kHorizon);
  return bound < kHorizon ? bound : kHorizon;
}

inline u64 part_of(u64 total, float p) {
  const double part = static_cast<double>(p) * static_cast<double>(static_cast<i64>(total));
  return part >= 1.0 ? static_cast<u64>(static_cast<i64>(part)) : 1;
}

// Stores the mass of all tokens of each segment, and returns that of the row.
template <typename T>
inline u64 weigh(Row<T>& row) {
  u64 total = 0;
  for (int s = 0; s < row.segments; ++s) {
    Floats sums[kUnroll] = {};
    row.for_segment(s, [&](i64, Floats x, int slot) { sums[slot] += weight(row.z(x)); });
    row.kept[s] = fixed(sum((sums[0] + sums[1]) + (sums[2] + sums[3])));
    total += row.kept[s];
  }
  return total;
}

// The largest z that may be drawn. Stores the kept mass of each segment.
// k: 0 for no top-k. p: 1 for no top-p.
template <typename T>
inline float truncate(Row<T>& row, u64 k, float p, float min_p, Candidates& c) {
  const bool by_list = k > 0 || p < 1.0f;
  bool by_mass = k == 0;
  float limit = kHorizon, low = kNothing, bound = kHorizon;
  u64 target = k;
  if (k > 0) {
    bound = bound_of_count(row, k, c);
  } else if (by_list) {
    const u64 total = weigh(row);
    target = part_of(total, p);
    // A bound of z beyond which less than 1 - p of the mass lies, even if all tokens were there.
    const float rest = (1.0f - p) * static_cast<float>(static_cast<i64>(total)) * 0x1p-32f;
    bound = z_of_weight(rest / static_cast<float>(row.vocab) * 0.99f);
  }
  // Most nuclei end long before the bound.
  bool first_look = by_mass && bound > kFirstLook;
  float high = first_look ? kFirstLook : bound;
  while (by_list) {
    while (!collect(row, low, high, c)) {
      narrow(row, by_mass, target, low, high, c);
      if (ordinal(high) - ordinal(low) == 1) low = high;  // equal tokens, all kept
    }
    const u64 below = by_mass ? c.mass : c.count;
    limit = below >= target ? low : select(c, by_mass, target - below, high);
    if (first_look && limit == high && high < bound) {  // perhaps none reaches it
      first_look = false;
      high = bound;
      continue;
    }
    if (by_mass || !(p < 1.0f)) break;

    // Top-p among what top-k keeps, which the list and what lies below it hold.
    u64 total = c.mass;
    int kept = 0;
    for (int i = 0; i < c.listed; ++i) {
      if (c.list[i].z <= limit) {
        total += fixed(c.list[i].weight);
        c.list[kept++] = c.list[i];
      }
    }
    c.listed = kept;
    target = part_of(total, p);
    if (target > c.mass) {
      limit = select(c, true, target - c.mass, limit);
      break;
    }
    by_mass = true;
    high = low;
    low = kNothing;
  }
  if (min_p > 0.0f) {
    const float least = z_of_weight(min_p);
    limit = least < limit ? least : limit;
  }
  if (!by_list || limit < low) {  // min-p alone, or below what was listed
    low = limit;
    collect(row, limit, limit, c);
  }
  for (int i = 0; i < c.listed; ++i) {
    const Candidate& candidate = c.list[i];
    if (candidate.z <= limit)
      row.kept[candidate.token / row.segment_size] += fixed(candidate.weight);
  }
  return limit;
}

}  // namespace
}  // namespace vllm::cpu
