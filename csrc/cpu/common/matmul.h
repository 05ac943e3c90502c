// Small matrix products whose sums stay in registers. Internal to the isa_*.cpp files: see
// cpu/table.h.
#pragma once

#include "cpu/common/vec.h"

namespace vllm::cpu {
namespace {

// Vectors of sums that fit in the registers, besides the operands.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kSums = 16;  // of 32 registers
#else
constexpr int kSums = 8;  // of 16
#endif

// sums[r][v] += left(k, r) * right(k, v) for every k in [begin, end): `left` gives numbers and
// `right` vectors.
template <int R, int V, typename Left, typename Right>
__attribute__((always_inline)) inline void accumulate(Floats (&sums)[R][V], i64 begin, i64 end,
                                                      Left left, Right right) {
  for (i64 k = begin; k < end; ++k) {
    Floats columns[V];
    for (int v = 0; v < V; ++v) columns[v] = right(k, v);
    for (int r = 0; r < R; ++r) {
      const Floats row = broadcast(left(k, r));
      for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(row, columns[v], sums[r][v]);
    }
  }
}

// Covers [0, size) by pieces of N, then N / 2, … 1: body(i, Count<N>) handles [i, i + N).
template <int N>
struct Count {
  static constexpr int value = N;
};
template <int N, typename Body>
__attribute__((always_inline)) inline void for_pieces(i64 i, i64 size, Body body) {
  for (; i + N <= size; i += N) body(i, Count<N>{});
  if constexpr (N > 1) for_pieces<N / 2>(i, size, body);
}

}  // namespace
}  // namespace vllm::cpu
