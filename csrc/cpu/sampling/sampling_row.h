// A row of logits in segments of neighbouring tokens, and the weight of a token.
// Internal to the isa_*.cpp files: see cpu/table.h.
#pragma once

#include "cpu/common/exp.h"
#include "cpu/common/vec.h"
#include "params/sampling.h"

namespace vllm::cpu {
namespace {

using u64 = unsigned long long;

constexpr float kInfinity = __builtin_inff();
constexpr float kLargest = 0x1.fffffep127f;  // as a logit, +inf counts as this
constexpr float kNothing = -1.0f;            // less than any z
constexpr float kHorizon = 23.0f;            // where weights are below 2^-32
constexpr int kSegments = 1024;

// exp(-z) for z >= 0, within 2 units in the last place; less than 2^-100 for NaN and from 80 on.
// Results are neither subnormal nor infinite, so half of what exp does can be left out.
inline Floats weight(Floats z) {
  const Floats x = -(z < 80.0f ? z : broadcast(80.0f));
  const Floats shift = broadcast(0x1.8p23f);
  const Floats shifted = multiply_add(x, broadcast(0x1.715476p0f), shift);  // n, in its last bits
  const Floats fraction = exp_of_rest(x, shifted - shift);
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(fraction) +
                                  (reinterpret_cast<Words>(shifted) << 23));
}

// A sum of weights as a whole number of 2^-32: such sums do not depend on their order.
inline u64 fixed(float mass) { return static_cast<u64>(static_cast<i64>(mass * 0x1p32f)); }

inline float most_of(Floats x) {
#if defined(__aarch64__)
  return vmaxvq_f32(x);
#else
  __m128 parts[kLanes / 4];
  __builtin_memcpy(parts, &x, sizeof x);
  __m128 most = parts[0];
  for (int part = 1; part < kLanes / 4; ++part) most = _mm_max_ps(most, parts[part]);
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return most[0] > most[1] ? most[0] : most[1];
#endif
}

// A bit for each lane of a comparison that is true.
inline unsigned bits_of(Ints mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif defined(__aarch64__)
  const Words bits = {1, 2, 4, 8};
  return vaddvq_u32(reinterpret_cast<Words>(mask) & bits);
#else
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(mask)));
#endif
}

// A load that gives -inf past the end of a row.
template <typename T>
inline Floats load_logits(const T* from, All n) {
  return load(from, n);
}
template <typename T>
inline Floats load_logits(const T* from, Some n) {
  const Floats x = load(from, n);
  Ints lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int>(n.count) ? x : broadcast(-kInfinity);
}

template <typename T>
struct Row {
  const T* logits;
  i64 vocab;
  i64 segment_size;
  int segments;
  float max;              // the largest logit
  float inverse;          // of the temperature
  float most[kSegments];  // the largest logit of each segment
  u64 kept[kSegments];    // the mass of the tokens in it that may be drawn

  // 0 for +inf too; NaN stays NaN, for which every comparison is false.
  Floats below(float most, Floats x) const {
    const Floats z = (most - x) * inverse;
    return z < 0.0f ? Floats{} : z;
  }
  Floats z(Floats x) const { return below(max, x); }
  float z(float x) const { return (max - x) * inverse; }  // of a maximum

  // Calls body(first token, x, slot) for the vectors of a segment; slot as in for_lanes.
  template <typename Body>
  void for_segment(int segment, Body body) const {
    const i64 first = segment * segment_size;
    const i64 size = vocab - first < segment_size ? vocab - first : segment_size;
    for_lanes(size, [&](i64 i, auto n, int slot) {
      body(first + i, load_logits(logits + first + i, n), slot);
    });
  }
};

// Reads the row from memory, for its maxima; what comes after finds it in the cache.
template <typename T>
inline void begin_row(Row<T>& row, const SampleParams& p, i64 index) {
  row.logits = static_cast<const T*>(p.logits) + index * p.stride;
  row.vocab = p.vocab;
  // As large as a token block of the CUDA kernels, so that both round alike; larger if kSegments do
  // not suffice.
  const i64 blocks = (p.vocab + kSampleBlock - 1) / kSampleBlock;
  row.segment_size = (blocks + kSegments - 1) / kSegments * kSampleBlock;
  row.segments = static_cast<int>((p.vocab + row.segment_size - 1) / row.segment_size);
  row.max = -kInfinity;
  for (int s = 0; s < row.segments; ++s) {
    Floats most[kUnroll];
    for (Floats& each : most) each = broadcast(-kInfinity);
    row.for_segment(s, [&](i64, Floats x, int slot) {
      most[slot] = x > most[slot] ? x : most[slot];  // false for NaN
    });
    const Floats first = most[0] > most[1] ? most[0] : most[1];
    const Floats second = most[2] > most[3] ? most[2] : most[3];
    const float found = most_of(first > second ? first : second);
    row.most[s] = found < kLargest ? found : kLargest;
    if (row.most[s] > row.max) row.max = row.most[s];
  }
  row.max += 0.0f;  // not -0: (max - x) is then never -0, and z orders as its bits do
}

// The first token of the largest logit; 0 where there is none.
template <typename T>
inline i64 most_likely(const Row<T>& row) {
  if (row.max == -kInfinity) return 0;
  int segment = 0;
  while (row.most[segment] < row.max) ++segment;
  i64 token = -1;
  row.for_segment(segment, [&](i64 first, Floats x, int) {
    const unsigned lanes = bits_of(x >= row.max);
    if (token < 0 && lanes != 0) token = first + __builtin_ctz(lanes);
  });
  return token;
}

}  // namespace
}  // namespace vllm::cpu
