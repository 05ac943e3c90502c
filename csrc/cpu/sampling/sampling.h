// From logits to tokens. Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/sampling/sampling_select.h"
#include "params/sampling.h"
#include "params/sampling_random.h"

namespace vllm::cpu {
namespace {

// The token at u / 2^24 of the row's kept mass: first its segment, then the token in it.
template <typename T>
inline i64 draw(const Row<T>& row, float limit, unsigned u) {
  u64 total = 0;
  for (int s = 0; s < row.segments; ++s) total += row.kept[s];
  u64 rest = static_cast<u64>(static_cast<unsigned __int128>(total) * u >> 24);
  int segment = 0;
  while (rest >= row.kept[segment]) rest -= row.kept[segment++];

  // Relative to the maximum of the segment, weights are whole numbers of enough bits.
  const auto for_weights = [&](auto body) {
    row.for_segment(segment, [&](i64 first, Floats x, int) {
      const Floats w = weight(row.below(row.most[segment], x)) * 0x1p23f;
      body(first, __builtin_convertvector(row.z(x) <= limit ? w : Floats{}, Ints));
    });
  };
  u64 weights = 0;
  for_weights([&](i64, Ints w) {
    for (int lane = 0; lane < kLanes; ++lane) weights += static_cast<u64>(w[lane]);
  });
  const double share = static_cast<double>(static_cast<i64>(rest)) /
                       static_cast<double>(static_cast<i64>(row.kept[segment]));
  u64 target =
      static_cast<u64>(static_cast<i64>(share * static_cast<double>(static_cast<i64>(weights))));
  if (target >= weights) target = weights - 1;
  i64 token = -1;
  u64 reached = 0;
  for_weights([&](i64 first, Ints w) {
    for (int lane = 0; token < 0 && lane < kLanes; ++lane) {
      reached += static_cast<u64>(w[lane]);
      if (reached > target) token = first + lane;
    }
  });
  return token;
}

template <typename T>
inline i64 sample_row(const SampleParams& p, i64 index) {
  Row<T> row;
  begin_row(row, p, index);
  const float temperature = p.temperatures ? p.temperatures[index] : 0.0f;
  if (!(temperature > 0.0f) || row.max == -kInfinity) return most_likely(row);
  const float inverse = 1.0f / temperature;
  row.inverse = inverse < kLargest ? inverse : kLargest;

  const i64 top_k = p.top_k ? p.top_k[index] : 0;
  const u64 k = top_k > 0 && top_k < p.vocab ? static_cast<u64>(top_k) : 0;
  const float top_p = p.top_p ? p.top_p[index] : 1.0f;
  const float min_p = p.min_p ? p.min_p[index] : 0.0f;
  float limit = kHorizon;
  if (k > 0 || top_p < 1.0f || min_p > 0.0f) {
    Candidates candidates;
    limit = truncate(row, k, top_p, min_p, candidates);
  } else {
    weigh(row);
  }
  return draw(row, limit, random_bits(p.seeds[index], p.draws[index]));
}

template <typename T>
inline void sample(const SampleParams& p, i64 begin, i64 end) {
  for (i64 row = begin; row < end; ++row) p.out[row] = sample_row<T>(p, row);
}

}  // namespace
}  // namespace vllm::cpu
